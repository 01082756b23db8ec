"""The connections and the clockwork of a wire.links_memory.MemoryNetwork. An adapter (Trio)."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from wire.errors import NoCapacity, ProtocolError
from wire.link_end import LinkEnd

if TYPE_CHECKING:
    from wire.links_memory import MemoryLinks, MemoryNetwork

_IN_FLIGHT_MAX = 64  # batches that one direction takes before it is not writable


class Event:
    """Something to be called at ``time_s``, unless cancelled."""

    __slots__ = ("args", "callback", "number", "time_s")

    def __init__(
        self, time_s: float, number: int, callback: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.time_s = time_s
        self.number = number
        self.callback: Callable[..., Any] | None = callback
        self.args = args

    def __lt__(self, other: Event) -> bool:
        return (self.time_s, self.number) < (other.time_s, other.number)

    def cancel(self) -> None:
        self.callback = None


class Events:
    """Calls things in the order of their times (Trio's clock), as wire.link_end.Loop."""

    def __init__(self) -> None:
        self._heap: list[Event] = []
        self._numbers = itertools.count()
        self._more = trio.Event()

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Event:
        return self.call_later(0.0, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Event:
        event = Event(trio.current_time() + delay, next(self._numbers), callback, args)
        heapq.heappush(self._heap, event)
        self._more.set()
        return event

    async def run(self) -> None:
        while True:
            self._more = trio.Event()
            self._call_due()
            wait_s = self._heap[0].time_s - trio.current_time() if self._heap else float("inf")
            if wait_s > 0:
                with trio.move_on_after(wait_s):
                    await self._more.wait()
            else:
                await trio.lowlevel.checkpoint()

    def _call_due(self) -> None:
        """What is due by now; what that adds is for the next time, so that others get a turn."""
        last = Event(trio.current_time(), next(self._numbers), int, ())
        while self._heap and self._heap[0] < last:
            event = heapq.heappop(self._heap)
            if event.callback is not None:
                event.callback(*event.args)


class Wire:
    """One connection between two hosts: a pipe for each, and the two ways between these."""

    def __init__(
        self, network: MemoryNetwork, dialer: MemoryLinks, acceptor: MemoryLinks, end: LinkEnd
    ) -> None:
        self.network = network
        self.addresses = {dialer.me.address, acceptor.me.address}
        self.standing = True
        self._end = end
        self._dialer, self._acceptor = dialer, acceptor
        self._near, self._far = _MemoryPipe(self, dialer), _MemoryPipe(self, acceptor)
        self._near.out = _Way(self._near, self._far)
        self._far.out = _Way(self._far, self._near)

    def open(self) -> None:
        self.network.wires.append(self)
        self._far.on_first = self._admit
        self._near.on_first = self._welcome
        self._near.out.carry(self._dialer.hello(self._end))
        self.network.later(self._dialer.config.connect_timeout_s, self._give_up)

    def cut(self, reason: str) -> None:
        """Both sides learn of it, each in its own time; the tail of what they sent is lost."""
        if not self.standing:
            return
        self._fall()
        for pipe in (self._near, self._far):
            pipe.out.lose_tail()
            self.network.later(self.network.draw_delay_s(), pipe.break_, reason)
        if self._near.end is None:
            self._near.alive = False
            self._dialer.retry(self._end)

    def release(self) -> None:
        for pipe in (self._near, self._far):
            self.network.later(self.network.draw_delay_s(), pipe.out.deliver)

    def _fall(self) -> None:
        self.standing = False
        if self in self.network.wires:
            self.network.wires.remove(self)

    def _give_up(self) -> None:
        if self._near.end is None:
            self.cut("no Hello came")

    def _admit(self, batch: bytes) -> None:
        try:
            self._far.end = self._acceptor.admit(batch, self._far)
        except ProtocolError as exc:
            self._refuse(self._dialer.lose, self._end, str(exc))
        except NoCapacity:
            self._refuse(self._dialer.retry, self._end)

    def _refuse(self, then: Callable[..., None], *args: Any) -> None:
        self._fall()
        self.network.later(self.network.draw_delay_s(), then, *args)

    def _welcome(self, batch: bytes) -> None:
        near, end = self._near, self._end
        near.end = end
        try:
            self._dialer.welcome(end, batch, near)
        except ProtocolError as exc:
            self._dialer.lose(end, str(exc))
            near.close(str(exc))


class _MemoryPipe:
    """One side of a wire, as wire.link_end.Pipe."""

    out: _Way

    def __init__(self, wire: Wire, links: MemoryLinks) -> None:
        self.wire = wire
        self.links = links
        self.end: LinkEnd | None = None
        self.on_first: Callable[[bytes], None] | None = None
        self.alive = True

    @property
    def writable(self) -> bool:
        return self.out.writable

    def write(self, batch: bytes) -> None:
        network = self.wire.network
        if network.rng.random() < network.cut_chance:
            self.wire.cut("cut by chance")
            return
        copies = 2 if self.end is not None and network.rng.random() < network.duplicate else 1
        for _ in range(copies):  # a Hello, written before there is an end, is never repeated
            self.out.carry(batch)

    def close(self, reason: str) -> None:
        if self.alive:
            self.alive = False
            self.out.carry_end(reason)

    def abort(self) -> None:
        self.alive = False
        self.wire.cut("another connection took its place")

    def arrive(self, batch: bytes) -> None:
        first, self.on_first = self.on_first, None
        if not self.alive:
            return
        if first is not None:
            first(batch)
        elif self.end is not None:
            try:
                self.links.receive(self.end, self, batch)
            except ProtocolError as exc:
                self.links.lose(self.end, str(exc))

    def arrive_end(self, reason: str) -> None:
        if self.end is not None and self.end.pipe is self:
            self.links.lose(self.end, f"the peer ended the session: {reason}")

    def again_writable(self) -> None:
        if self.end is not None and self.end.pipe is self:
            self.links.flush(self.end)

    def break_(self, reason: str) -> None:
        self.alive = False
        if self.end is not None:
            self.links.broken(self.end, self, reason)


class _Way:
    """What is under way from one pipe to the other: always in order, each thing with its time."""

    def __init__(self, source: _MemoryPipe, target: _MemoryPipe) -> None:
        self._source, self._target = source, target
        self._things: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._ripe = 0  # how many of them have had their time
        self._last_s = 0.0

    @property
    def writable(self) -> bool:
        return len(self._things) < _IN_FLIGHT_MAX

    def carry(self, batch: bytes) -> None:
        self._put(self._target.arrive, batch)

    def carry_end(self, reason: str) -> None:
        self._put(self._target.arrive_end, reason)

    def lose_tail(self) -> None:
        keep = 0 if self._blocked() else self._network.rng.randint(0, len(self._things))
        while len(self._things) > keep:
            self._things.pop()

    def deliver(self) -> None:
        """Hand over what is ripe, unless the way is blocked."""
        while self._ripe and self._things and not self._blocked():
            full = not self.writable
            self._ripe -= 1
            step, thing = self._things.popleft()
            step(thing)
            if full:
                self._source.again_writable()

    @property
    def _network(self) -> MemoryNetwork:
        return self._source.wire.network

    def _blocked(self) -> bool:
        here, there = self._source.links.me.address, self._target.links.me.address
        return self._network.blocked(here, there)

    def _put(self, step: Callable[[Any], None], thing: Any) -> None:
        if not self._source.wire.standing:
            return
        now_s = trio.current_time()
        self._last_s = max(self._last_s, now_s + self._network.draw_delay_s())
        self._things.append((step, thing))
        self._network.later(self._last_s - now_s, self._ripen)

    def _ripen(self) -> None:
        self._ripe += 1
        self.deliver()
