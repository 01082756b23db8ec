"""The processes of the demo: real ``roost host`` processes around one Redis. An adapter."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from deploy import children, settings, up
from deploy.host_process import HostProcess
from wire.errors import Unavailable

APP = "bench.demo.app"
START_TIMEOUT_S = 60.0


class Cluster:
    """The hosts by name: ``host-1`` and so on. Made by :func:`open_cluster`.

    ``show`` gets (host, line) for each line that a host logs.
    """

    def __init__(
        self, redis_url: str, nursery: trio.Nursery, show: Callable[[str, str], None]
    ) -> None:
        self.hosts: dict[str, HostProcess] = {}
        self._environ = _host_environ(redis_url)
        self._nursery = nursery
        self._show = show
        self._killed: set[str] = set()

    async def start(self, count: int) -> None:
        """Start ``count`` more hosts and wait until they serve; raises Unavailable."""
        first = len(self.hosts) + 1
        fresh = [HostProcess(f"host-{n}") for n in range(first, first + count)]
        for host in fresh:
            host.start(self._environ)
            self.hosts[host.name] = host
            self._nursery.start_soon(self._watch, host)
        with trio.move_on_after(START_TIMEOUT_S):
            for host in fresh:
                await host.ready.wait()
            return
        raise Unavailable(f"the hosts did not serve within {START_TIMEOUT_S:g} s")

    async def _watch(self, host: HostProcess) -> None:
        await host.run(partial(self._show, host.name))
        if host.name not in self._killed:
            why = host.complaint or f"it {children.describe_exit(host.status or 0)}"
            raise Unavailable(f"{host.name} has ended: {why}")

    def kill(self, name: str) -> None:
        """SIGKILL: no farewell, no last save."""
        self._killed.add(name)
        self.hosts[name].kill()

    async def drain(self, name: str) -> None:
        """Tell a host to leave, and wait until it has handed over what it had."""
        self._killed.add(name)
        self.hosts[name].terminate()
        await self.hosts[name].ended.wait()

    def living(self) -> list[str]:
        """The names of the hosts that have neither been killed nor left, in the order started."""
        return [name for name in self.hosts if name not in self._killed]

    def addresses(self, first: str = "") -> list[str]:
        """ip:port of each host that lives, that of ``first`` in front."""
        living = [self.hosts[name] for name in self.living()]
        return [host.address for host in sorted(living, key=lambda host: host.name != first)]


@asynccontextmanager
async def open_cluster(
    redis_url: str, hosts: int, show: Callable[[str, str], None]
) -> AsyncIterator[Cluster]:
    """So many hosts, for the length of the block; at its end they are killed, whatever happens.

    Raises Unavailable, in a group, when one cannot start or ends unbidden.
    """
    async with trio.open_nursery() as nursery:
        cluster = Cluster(redis_url, nursery, show)
        try:
            await cluster.start(hosts)
            yield cluster
        finally:
            for name in cluster.hosts:
                cluster.kill(name)


def _host_environ(redis_url: str) -> dict[str, str]:
    """Our own environment, without settings that were meant for other hosts."""
    foreign = {row.name for _, row in settings.rows()}
    own = {name: value for name, value in os.environ.items() if name not in foreign}
    return own | up.DEFAULTS | {"REDIS_URL": redis_url, "ROOST_APP": APP, "GRPC_PORT": "0"}
