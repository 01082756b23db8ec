"""``roost host`` with fields of HostConfig that no setting names: JSON in TEST_HOST_CONFIG."""

from __future__ import annotations

import json
import os
from dataclasses import replace

from actors.config import HostConfig
from deploy import cli, host
from deploy.settings import Settings


def main() -> None:
    changes = json.loads(os.environ["TEST_HOST_CONFIG"])
    system_changes = changes.pop("system", {})
    usual = host.host_config

    def configured(settings: Settings) -> HostConfig:
        config = usual(settings)
        return replace(config, **changes, system=replace(config.system, **system_changes))

    host.host_config = configured
    cli.main()


if __name__ == "__main__":
    main()
