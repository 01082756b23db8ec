"""Hosts and the network between them, in memory (Trio, virtual time) and over real gRPC
(uvloop, loopback), behind one face: what tests/contract/test_links.py plays in."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import trio
import trio.testing
import uvloop

from tests.contract.tcp_proxy import TcpProxy
from wire.items import Envelope, Item, Reply
from wire.limits import BoundedServer
from wire.link_config import LinkConfig
from wire.link_core import LinkCore
from wire.links_grpc import GrpcLinks
from wire.links_memory import MemoryLinks, MemoryNetwork
from wire.ports import Peer

CLUSTER = "test"
DEADLINE_S = 30.0

#: Quick to come back, so that no test waits for what production takes its time for.
QUICK = LinkConfig(backoff_start_s=0.005, backoff_max_s=0.05, connect_timeout_s=2.0)


class Recorder:
    """A LinkHandler that keeps what it hears, and answers envelopes if it is told to."""

    def __init__(self, answers: bool = False) -> None:
        self.answers = answers
        self.links: LinkCore
        self.got: list[Item] = []
        self.peers: list[Peer] = []
        self.lost: list[tuple[Peer, str]] = []
        self.unsent: frozenset[tuple[int, int]] = frozenset()  # of the last loss
        self.rooms = 0

    def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
        for item in items:
            self.got.append(item)
            self.peers.append(peer)
            if self.answers and isinstance(item, Envelope):
                self.links.send(peer, Reply(item.call, 0, 0, 0, item.payload))

    def on_lost(self, peer: Peer, reason: str) -> None:
        self.lost.append((peer, reason))
        self.unsent = self.links.unsent(peer.incarnation)

    def on_room(self, peer: Peer) -> None:
        self.rooms += 1

    @property
    def calls(self) -> list[int]:
        """The call numbers of the envelopes that came."""
        return [item.call for item in self.got if isinstance(item, Envelope)]

    @property
    def replies(self) -> list[int]:
        return [item.call for item in self.got if isinstance(item, Reply)]


class Host:
    """One started host: its identity, links and handler."""

    def __init__(self, me: Peer, links: LinkCore, handler: Recorder) -> None:
        self.me, self.links, self.handler = me, links, handler
        handler.links = links

    def call(self, to: Host | Peer, number: int, payload: bytes = b"") -> bool:
        """Send one envelope; its call number is what Recorder.calls shows."""
        peer = to.me if isinstance(to, Host) else to
        return self.links.send(
            peer, Envelope(0, number, 0, number, "Kind", "key", "m", 1, 0, payload)
        )


class World(ABC):
    """A network and its hosts."""

    async def host(
        self,
        name: str,
        *,
        answers: bool = False,
        config: LinkConfig = QUICK,
        cluster: str = CLUSTER,
        address: str | None = None,
        handler: Recorder | None = None,
    ) -> Host:
        """Start a host of a new incarnation, at a new address or in place of another."""
        self._started += 1
        handler = handler or Recorder(answers)
        address = address or await self.reserve()
        me = Peer(name, f"{name}-i{self._started}", address)
        return await self._start(me, handler, config, cluster)

    def __init__(self) -> None:
        self._started = 0

    @abstractmethod
    async def reserve(self) -> str:
        """An address where nobody lives yet."""

    @abstractmethod
    async def _start(
        self, me: Peer, handler: Recorder, config: LinkConfig, cluster: str
    ) -> Host: ...

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    @abstractmethod
    def cut(self) -> None:
        """Break every connection."""

    @abstractmethod
    def stall(self, source: Host, target: Host) -> None:
        """Hold what ``source``, the dialer, sends to ``target``, until :meth:`heal`."""

    @abstractmethod
    def heal(self) -> None: ...

    @abstractmethod
    def vanish(self, host: Host) -> None:
        """The process of ``host`` dies without a word."""

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition`` holds; fails after DEADLINE_S, saying ``what``."""
        for _ in range(int(DEADLINE_S / 0.002)):
            if condition():
                return
            await self.sleep(0.002)
        raise AssertionError(f"not within {DEADLINE_S} s: {what}")


class MemoryWorld(World):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = MemoryNetwork(Random(seed), delay_s=(0.0, 0.002), duplicate=0.05)
        self._addresses = 0

    async def reserve(self) -> str:
        self._addresses += 1
        return f"10.0.0.{self._addresses}:50051"

    async def _start(self, me: Peer, handler: Recorder, config: LinkConfig, cluster: str) -> Host:
        return Host(me, self.network.links(me, handler, config, cluster), handler)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def cut(self) -> None:
        self.network.cut_all()

    def stall(self, source: Host, target: Host) -> None:
        self.network.partition(source.me.address, target.me.address)

    def heal(self) -> None:
        self.network.heal()

    def vanish(self, host: Host) -> None:
        assert isinstance(host.links, MemoryLinks)
        self.network.remove(host.me.address)


class GrpcWorld(World):
    def __init__(self) -> None:
        super().__init__()
        self.proxies: dict[str, TcpProxy] = {}
        self._servers: dict[str, BoundedServer] = {}
        self._links: dict[str, GrpcLinks] = {}

    async def reserve(self) -> str:
        proxy = TcpProxy()
        await proxy.start()
        self.proxies[proxy.address] = proxy
        return proxy.address

    async def _start(self, me: Peer, handler: Recorder, config: LinkConfig, cluster: str) -> Host:
        links = self._links[me.incarnation] = GrpcLinks(me, cluster, handler, config)
        listener = socket.create_server(("127.0.0.1", 0))
        server = self._servers[me.incarnation] = BoundedServer(
            [links.service()], bytes_max=config.frame_bytes_max
        )
        await server.start(sock=listener)
        self.proxies[me.address].target = listener.getsockname()[1]
        return Host(me, links, handler)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def cut(self) -> None:
        for proxy in self.proxies.values():
            proxy.cut()

    def stall(self, source: Host, target: Host) -> None:
        self.proxies[target.me.address].stall("in")

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()

    def vanish(self, host: Host) -> None:
        proxy = self.proxies[host.me.address]
        proxy.target = None
        proxy.cut()
        self._servers.pop(host.me.incarnation).close()

    async def aclose(self) -> None:
        for links in self._links.values():
            await links.aclose()
        for server in self._servers.values():
            server.close()
            await server.wait_closed()
        for proxy in self.proxies.values():
            await proxy.close()


Scenario = Callable[[World], Awaitable[None]]


def play_in_memory(scenario: Scenario, seed: int = 0) -> None:
    """Play ``scenario`` in virtual time."""

    async def main() -> None:
        world = MemoryWorld(seed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.network.run)
            await scenario(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def play_over_grpc(scenario: Scenario, run: Callable[..., None] = uvloop.run) -> None:
    """Play ``scenario`` on real sockets, in the loop that ``run`` makes."""

    async def main() -> None:
        world = GrpcWorld()
        try:
            async with asyncio.timeout(2 * DEADLINE_S):
                await scenario(world)
        finally:
            await world.aclose()

    run(main())


def play_over_grpc_in_plain_asyncio(scenario: Scenario) -> None:
    """As play_over_grpc, in the loop that programs have which do not know uvloop."""
    play_over_grpc(scenario, asyncio.run)
