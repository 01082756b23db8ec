"""Servers for the contract tests: one of each kind for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.servers import DEBIAN, Server, binaries
from tests.contract.worlds import MemoryWorld, RedisWorld, World

KINDS = [
    "embedded",
    pytest.param(
        "debian", marks=pytest.mark.skipif(not DEBIAN.exists(), reason=f"no {DEBIAN} here")
    ),
]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    started = {
        kind: Server(binary, tmp_path_factory.mktemp(kind)) for kind, binary in binaries().items()
    }
    yield started
    for server in started.values():
        server.kill()


@pytest.fixture(params=["memory", *KINDS])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    servers: dict[str, Server] = request.getfixturevalue("servers")
    return RedisWorld(servers[request.param])


@pytest.fixture(params=KINDS)
def redis_world(request: pytest.FixtureRequest, servers: dict[str, Server]) -> RedisWorld:
    return RedisWorld(servers[request.param])


@pytest.fixture(params=KINDS)
def binary(request: pytest.FixtureRequest) -> Path:
    """The program of a server that a test starts for itself."""
    return binaries()[request.param]
