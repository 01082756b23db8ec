"""What the tests of the engine share. They run where Rustic AI is: ``make test-rustic``."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import wire
from deploy import embedded
from tests.integration.shell import Running, environment, started

if find_spec("rustic_ai") is None:  # the other environments' tests know nothing of it
    collect_ignore_glob = ["test_*.py"]

#: Reduced counts, unless the whole is asked for.
FULL = bool(os.environ.get("ROOST_FULL") or os.environ.get("ROOST_TEST_FULL"))
ROOT = Path(__file__).parents[2]


def messaging_over(url: str):
    """rusticai-redis on the Redis at ``url``, as a messaging config."""
    from rustic_ai.core.messaging import MessagingConfig

    return MessagingConfig(
        backend_module="rustic_ai.redis.messaging.backend",
        backend_class="RedisMessagingBackend",
        backend_config={"redis_client": {"host": "127.0.0.1", "port": urlsplit(url).port}},
    )


class RusticCluster:
    """Host processes over one Redis, another Redis for messages, and this process's view of it."""

    def __init__(self, redis_url: str, messages_url: str, hosts: list[Running]) -> None:
        self.redis_url = redis_url
        self.messages_url = messages_url
        self.hosts = hosts
        self.addresses = [host.wait_for("ready at", 90).split()[-1] for host in hosts]
        until = time.monotonic() + 30
        while not asyncio.run(self._know_each_other()):  # else one of them would get all agents
            assert time.monotonic() < until, "the hosts do not get to know each other"
            time.sleep(0.05)

    async def _know_each_other(self) -> bool:
        """Whether all are up, and have said that their views are one."""
        async with wire.connect(self.addresses[0]) as client:
            hosts = await client.hosts()
        versions = {host.view_version for host in hosts}
        up = [host for host in hosts if host.state == "up"]
        return len(up) == len(self.hosts) and len(versions) == 1 and 0 not in versions

    def messaging(self):
        """The messaging config of rusticai-redis."""
        return messaging_over(self.messages_url)

    def guild(self, name: str = ""):
        from rustic_ai.core.guild.guild import Guild

        return Guild(
            id=name or f"guild-{uuid.uuid4().hex[:8]}", name="g", description="g",
            organization_id="org", execution_engine_clz="deploy.rustic.RoostExecutionEngine",
            messaging_config=self.messaging(),
        )  # fmt: skip

    def host_pids(self) -> dict[int, Running]:
        return {host.process.pid: host for host in self.hosts}


@contextmanager
def rustic_cluster(count: int, **settings: str) -> Iterator[RusticCluster]:
    """``count`` hosts; this process finds them through REDIS_URL for the length of the block."""
    with ExitStack() as stack:
        redis, messages = (stack.enter_context(embedded.serve()) for _ in range(2))
        hosts = [
            stack.enter_context(
                started("host", env=environment(
                    REDIS_URL=redis.url, GRPC_PORT="0", GRPC_BIND="127.0.0.1", LEASE_TTL="3",
                    HOSTNAME=f"host-{n}", LOG_LEVEL="error", LOG_FORMAT="text",
                    HEARTBEAT_INTERVAL="0.5",
                    PRELOAD="rustic_ai.redis.messaging.backend,tests.rustic.agents",
                ) | settings)
            )
            for n in range(count)
        ]  # fmt: skip
        before = os.environ.get("REDIS_URL")
        os.environ["REDIS_URL"] = redis.url
        try:
            yield RusticCluster(redis.url, messages.url, hosts)
        finally:
            del os.environ["REDIS_URL"]
            if before is not None:
                os.environ["REDIS_URL"] = before


@pytest.fixture(scope="session")
def three_hosts() -> Iterator[RusticCluster]:
    """Three hosts whose agents run in processes; tests leave them serving."""
    with rustic_cluster(3) as cluster:
        yield cluster


def children_of(pid: int) -> set[int]:
    """All processes below ``pid``, at any depth."""
    import psutil

    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def registry_entries(url: str) -> list[str]:
    """The keys of the registry at ``url``, and the names inside those that are hashes."""
    from redis import Redis

    with Redis.from_url(url, decode_responses=True) as redis:
        keys = list(redis.scan_iter("*"))
        inside = [name for key in keys if redis.type(key) == "hash" for name in redis.hkeys(key)]
    return keys + inside


def wait_for(condition, patience_s: float = 30.0):
    """The first true value of ``condition()``, or AssertionError."""
    end_s = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not within {patience_s} s"
        time.sleep(0.05)
    return found
