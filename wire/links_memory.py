"""Links inside one Trio run, in virtual time: for users' tests and the simulator. An adapter.

The sessions are those of the real links (wire.link_core); only sockets are replaced, by the
connections of wire.memory_wire, which a :class:`MemoryNetwork` can delay, cut, stall and make
repeat themselves. All chance comes from the generator that it is given, so a seed replays a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from wire.link_config import LinkConfig
from wire.link_core import LinkCore
from wire.link_end import LinkEnd, Pipe
from wire.memory_wire import Event, Events, Wire
from wire.ports import LinkHandler, Peer


class MemoryNetwork:
    """Hosts, the connections between them, and what goes wrong with these.

    Start :meth:`run` in a nursery. Each batch takes a time drawn from ``delay_s`` (least, most;
    seconds) and stays in order within its connection. With the chance ``duplicate`` (0 to 1) a
    batch arrives twice, with ``cut_chance`` the connection breaks instead of carrying it.
    """

    def __init__(
        self,
        rng: Random,
        *,
        delay_s: tuple[float, float] = (0.0, 0.0),
        duplicate: float = 0.0,
        cut_chance: float = 0.0,
    ) -> None:
        self.rng = rng
        self.delay_s = delay_s
        self.duplicate = duplicate
        self.cut_chance = cut_chance
        self.wires: list[Wire] = []
        self._events = Events()
        self._hosts: dict[str, MemoryLinks] = {}  # by address
        self._blocked: set[tuple[str, str]] = set()  # addresses (from, to)

    async def run(self) -> None:
        """Carry everything, for ever; cancel it to stop."""
        await self._events.run()

    def links(
        self, me: Peer, handler: LinkHandler, config: LinkConfig | None = None, cluster: str = ""
    ) -> MemoryLinks:
        """The links of host ``me``, which now lives at its address, whoever did before."""
        links = MemoryLinks(self, me, cluster, handler, config or LinkConfig(), self._events)
        self._hosts[me.address] = links
        return links

    def remove(self, address: str) -> None:
        """The host at ``address`` is gone without a word: its connections break, and its handler
        hears nothing any more."""
        gone = self._hosts.pop(address)
        gone.crash()
        self._cut(wire for wire in self.wires if address in wire.addresses)

    def cut(self, one: str, other: str) -> None:
        """Break the connections between two addresses. Of what is under way, any part may still
        arrive."""
        self._cut(wire for wire in self.wires if wire.addresses == {one, other})

    def cut_all(self) -> None:
        """Break every connection."""
        self._cut(self.wires)

    def partition(self, source: str, target: str) -> None:
        """Nothing from address ``source`` reaches ``target`` until :meth:`heal`; connections
        stand and hold what they carry. Call it twice for both ways."""
        self._blocked.add((source, target))

    def heal(self) -> None:
        """End all partitions: what was held is on its way again."""
        self._blocked.clear()
        for wire in list(self.wires):
            wire.release()

    def blocked(self, source: str, target: str) -> bool:
        return (source, target) in self._blocked

    def host_at(self, address: str) -> MemoryLinks | None:
        return self._hosts.get(address)

    def later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Event:
        return self._events.call_later(delay_s, callback, *args)

    def draw_delay_s(self) -> float:
        return self.rng.uniform(*self.delay_s)

    def _cut(self, wires: Iterable[Wire]) -> None:
        for wire in list(wires):
            wire.cut("cut")


class MemoryLinks(LinkCore):
    """See wire.ports.Links; made by :meth:`MemoryNetwork.links`."""

    def __init__(
        self,
        network: MemoryNetwork,
        me: Peer,
        cluster: str,
        handler: LinkHandler,
        config: LinkConfig,
        events: Events,
    ) -> None:
        super().__init__(me, cluster, handler, config, events)
        self._network = network
        self._backoffs_s: dict[LinkEnd, float] = {}

    def close(self, reason: str = "the host closes its links") -> None:
        """End every session (``on_lost`` for each). Later sends are lost without a word."""
        self._closed = True
        for ends in list(self._ends.values()):
            self._lose(ends, reason)

    def crash(self) -> None:
        """As if the process had died: nobody is told, nothing is sent or delivered any more."""
        self._closed = True
        for ends in self._ends.values():
            for end in ends.both():
                end.bury()
        self._ends.clear()

    def broken(self, end: LinkEnd, pipe: Pipe, reason: str) -> None:
        stood = end.pipe is pipe and not end.dead
        super().broken(end, pipe, reason)
        if stood and end.dialed:
            self.retry(end)

    def welcome(self, end: LinkEnd, data: bytes, pipe: Pipe) -> None:
        super().welcome(end, data, pipe)
        self._backoffs_s.pop(end, None)

    def retry(self, end: LinkEnd) -> None:
        """An attempt to connect failed: try again after a while that doubles, with jitter."""
        config, network = self.config, self._network
        backoff_s = self._backoffs_s.get(end, config.backoff_start_s)
        self._backoffs_s[end] = min(2 * backoff_s, config.backoff_max_s)
        network.later(backoff_s * network.rng.uniform(0.5, 1.0), self._attempt, end)

    def _dial(self, end: LinkEnd) -> None:
        self._network.later(0.0, self._attempt, end)

    def _on_dead(self, end: LinkEnd, connected: bool) -> None:
        self._backoffs_s.pop(end, None)

    def _attempt(self, end: LinkEnd) -> None:
        network, here, there = self._network, self.me.address, end.peer.address
        host = network.host_at(there)
        if end.dead:
            return
        if host is None or network.blocked(here, there) or network.blocked(there, here):
            self.retry(end)
            return
        Wire(network, self, host, end).open()
