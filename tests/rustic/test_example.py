"""The example guild, run as its page says."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.rustic.conftest import ROOT


def test_the_example_guild_answers_from_all_its_agents(three_hosts):
    env = os.environ | {"REDIS_URL": three_hosts.redis_url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.rustic.example"], env=env, cwd=ROOT, timeout=120,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers from echo-0, echo-1, echo-2" in done.stdout
