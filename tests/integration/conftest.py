"""What tests on real processes share: a cluster whose hosts nobody harms, and foreign stubs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import Cluster, open_cluster
from wire.proto import generate


@pytest.fixture(scope="package")
def two_hosts() -> Iterator[Cluster]:
    """``host-1`` and ``host-2``; tests on them leave them serving, and use keys of their own."""
    with open_cluster(hosts=2) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Google's own stubs, compiled from our .proto files as a foreign user would."""
    out = tmp_path_factory.mktemp("stubs")
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{generate.PROTO}",
            f"--python_out={out}", f"--grpc_python_out={out}", *map(str, generate.sources()),
        ],
        check=True, timeout=60,
    )  # fmt: skip
    return out
