"""What all links share: which session an item takes, handshakes, acknowledgements, loss.

:class:`LinkCore` is synchronous and knows neither sockets nor clocks: an adapter gives it
connections (:class:`Pipe`), timers (:class:`Loop`) and a way to dial. Between two hosts there
are at most two sessions: the one that we dialed carries our calls, the one that they dialed
theirs, and each carries the answers back. They are lost together.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from wire.errors import NoCapacity, ProtocolError
from wire.handshake import Mismatch, check_acceptor, check_dialer, read_hello, write_hello
from wire.items import PROTOCOL_VERSION, Cancel, Envelope, Grant, Hello, Item
from wire.ports import LinkHandler, Links, Peer
from wire.session import LinkSession, SessionLimits

log = logging.getLogger(__name__)

_CALLER_ITEMS = frozenset({Envelope, Cancel, Grant})
_BATCHES_PER_FLUSH = 8  # then the loop gets a turn


@dataclass(frozen=True)
class LinkConfig:
    """The settings of a host's links; times in seconds.

    ``orphan_ttl_s``: how long a session that a peer dialed waits for that peer to come back.
    ``ack_delay_s``: how long an acknowledgement waits for a batch to ride on.
    ``sessions_max``: sessions that peers may have open with this host.
    """

    limits: SessionLimits = field(default_factory=SessionLimits)
    ack_delay_s: float = 0.002
    orphan_ttl_s: float = 30.0
    connect_timeout_s: float = 5.0
    backoff_start_s: float = 0.05
    backoff_max_s: float = 1.0
    sessions_max: int = 10_000

    def __post_init__(self) -> None:
        for name in (
            "ack_delay_s", "orphan_ttl_s", "connect_timeout_s", "backoff_start_s",
            "backoff_max_s", "sessions_max",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")


class Timer(Protocol):
    def cancel(self) -> object: ...


class Loop(Protocol):
    """The part of an asyncio loop that links need."""

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> object: ...

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer: ...


class Pipe(Protocol):
    """One connection, as one of its sides sees it. None of its methods blocks or calls back."""

    @property
    def writable(self) -> bool:
        """Whether another batch may be written now; ``LinkCore.flush`` is called when it may."""

    def write(self, batch: bytes) -> None:
        """Send one batch; only while ``writable``. A broken connection is told later."""

    def close(self, reason: str) -> None:
        """End the stream so that the other side knows that the session is over."""

    def abort(self) -> None:
        """Let go of the connection: another one took its place."""


class LinkEnd:
    """Our end of one session and the connection under it, if one stands."""

    __slots__ = (
        "ack_timer", "batches_in", "batches_out", "bytes_in", "bytes_out", "connects", "dead",
        "dialed", "name", "orphan_timer", "peer", "pipe", "scheduled", "session", "starved",
    )  # fmt: skip

    def __init__(self, peer: Peer, name: str, dialed: bool, limits: SessionLimits) -> None:
        self.peer = peer
        self.name = name
        self.dialed = dialed
        self.session = LinkSession(limits)
        self.pipe: Pipe | None = None
        self.dead = False
        self.scheduled = False  # a flush is on its way
        self.starved = False  # send() said that there is no room
        self.ack_timer: Timer | None = None
        self.orphan_timer: Timer | None = None
        self.connects = 0
        self.bytes_in = self.bytes_out = self.batches_in = self.batches_out = 0

    def __repr__(self) -> str:
        way = "to" if self.dialed else "from"
        state = "dead" if self.dead else "connected" if self.pipe else "waiting"
        return f"<LinkEnd {self.name} {way} {self.peer.host_id} {state} {self.session!r}>"


class PeerStatistics(NamedTuple):
    """What went to and came from one peer in its present sessions, and what waits."""

    peer: Peer
    connected: bool
    connects: int
    bytes_in: int
    bytes_out: int
    batches_in: int
    batches_out: int
    items_in: int
    items_out: int
    backlog_items: int
    backlog_bytes: int


class _Ends:
    """The sessions with one peer."""

    __slots__ = ("accepted", "dialed", "peer")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.dialed: LinkEnd | None = None
        self.accepted: LinkEnd | None = None

    def both(self) -> list[LinkEnd]:
        return [end for end in (self.dialed, self.accepted) if end is not None]


class LinkCore(Links, ABC):
    """The sessions of one host. See the module, and wire.ports.Links for the promises."""

    def __init__(
        self, me: Peer, cluster: str, handler: LinkHandler, config: LinkConfig, loop: Loop
    ) -> None:
        self.me = me
        self.cluster = cluster
        self.config = config
        self._handler = handler
        self._loop = loop
        self._call_soon = loop.call_soon
        self._ends: dict[str, _Ends] = {}
        self._accepted = 0
        self._numbers = itertools.count(1)
        self._closed = False

    # -- the port ---------------------------------------------------------------------------

    def send(self, peer: Peer, item: Item) -> bool:
        """See wire.ports.Links. Raises InvalidArgument for an item over ``item_bytes_max``."""
        ends = self._ends.get(peer.incarnation)
        if ends is None:
            if self._closed:
                self._call_soon(self._handler.on_lost, peer, "this host has closed its links")
                return True
            ends = self._ends[peer.incarnation] = _Ends(peer)
        end = ends.dialed
        if ends.accepted is not None and type(item) not in _CALLER_ITEMS:
            end = ends.accepted
        elif end is None:
            end = self._open(ends)
        session = end.session
        session.push(item)
        if not end.scheduled:
            end.scheduled = True
            self._call_soon(self.flush, end)
        if session.has_room:
            return True
        end.starved = True
        return False

    def connected(self, incarnation: str) -> bool:
        ends = self._ends.get(incarnation)
        return ends is not None and any(end.pipe is not None for end in ends.both())

    def drop(self, incarnation: str, reason: str) -> None:
        ends = self._ends.get(incarnation)
        if ends is not None:
            self._lose(ends, reason)

    def statistics(self) -> tuple[PeerStatistics, ...]:
        """One row per peer with a session."""
        return tuple(_statistics(ends) for ends in self._ends.values())

    # -- for adapters -----------------------------------------------------------------------

    @abstractmethod
    def _dial(self, end: LinkEnd) -> None:
        """Start to connect ``end``, and again whenever its connection breaks, until it is dead.

        Each attempt sends ``hello(end)`` first, hands the answer to ``welcome``, then each
        frame to ``receive``, and tells the end of the connection by ``broken`` or ``lose``.
        """

    def _on_dead(self, end: LinkEnd) -> None:
        """``end`` is over; its pipe is closed already."""

    def hello(self, end: LinkEnd) -> bytes:
        """The first batch for a new connection of ``end``."""
        me = self.me
        return write_hello(
            Hello(
                PROTOCOL_VERSION, self.cluster, me.host_id, me.incarnation, me.address,
                end.peer.incarnation, end.name, end.session.received,
                resume=end.dialed and end.connects > 0,
            )  # fmt: skip
        )

    def welcome(self, end: LinkEnd, data: bytes, pipe: Pipe) -> None:
        """The acceptor's first frame came: resume over ``pipe``.

        Raises Mismatch or ProtocolError when it is not from whom we dialed.
        """
        hello = read_hello(data)
        check_acceptor(hello, end.peer, self.cluster, end.name)
        self._attach(end, pipe, hello.received)

    def admit(self, data: bytes, pipe: Pipe) -> LinkEnd:
        """A dialer's first frame came: answer it over ``pipe`` and open or resume its session.

        Raises Mismatch, ProtocolError or NoCapacity; nothing was written then.
        """
        hello = read_hello(data)
        check_dialer(hello, self.me, self.cluster)
        end = self._end_for(hello)
        if end.pipe is not None:
            end.pipe.abort()
            end.pipe = None
        pipe.write(self.hello(end))
        try:
            self._attach(end, pipe, hello.received)
        except ProtocolError as exc:
            self.lose(end, str(exc))
            raise
        return end

    def receive(self, end: LinkEnd, pipe: Pipe, data: bytes) -> None:
        """A batch came over ``pipe``. Raises ProtocolError when it breaks the protocol."""
        if end.pipe is not pipe:
            return
        session = end.session
        items = session.receive(data)
        end.batches_in += 1
        end.bytes_in += len(data)
        if items:
            try:
                self._handler.on_items(end.peer, items)
            except Exception:
                log.exception("the handler of items from %s failed", end.peer.host_id)
        if end.scheduled:
            return
        if session.ack_due or session.backlog_items:
            end.scheduled = True
            self._call_soon(self.flush, end)
        else:
            self._owe_ack(end)

    def flush(self, end: LinkEnd) -> None:
        """Write what waits and may go now."""
        end.scheduled = False
        session, pipe = end.session, end.pipe
        if session.overflowed:
            self.lose(end, f"backlog over {end.session.backlog_bytes} bytes (backlog_bytes_max)")
            return
        if pipe is None:
            return
        for _ in range(_BATCHES_PER_FLUSH):
            if not pipe.writable:
                break
            batch = session.take()
            if batch is None:
                if session.ack_due:
                    self._write(end, pipe, session.ack())
                else:
                    self._owe_ack(end)
                break
            self._write(end, pipe, batch)
        else:
            if not end.scheduled:
                end.scheduled = True
                self._call_soon(self.flush, end)
        if end.starved and session.has_ample_room:
            end.starved = False
            self._handler.on_room(end.peer)

    def broken(self, end: LinkEnd, pipe: Pipe, reason: str) -> None:
        """The connection is gone, the session is not: it waits to be resumed."""
        if end.pipe is not pipe or end.dead:
            return
        end.pipe = None
        log.info("link %s with %s broke: %s", end.name, end.peer.host_id, reason)
        if not end.dialed:
            ttl_s = self.config.orphan_ttl_s
            end.orphan_timer = self._loop.call_later(
                ttl_s, self.lose, end, f"not resumed within {ttl_s} s of: {reason}"
            )

    def lose(self, end: LinkEnd, reason: str) -> None:
        """The session of ``end`` is over, and with it the other one with that peer."""
        ends = self._ends.get(end.peer.incarnation)
        if not end.dead and ends is not None:
            self._lose(ends, reason)

    # -- inside -----------------------------------------------------------------------------

    def _open(self, ends: _Ends) -> LinkEnd:
        name = f"{self.me.incarnation}-{next(self._numbers)}"
        ends.dialed = end = LinkEnd(ends.peer, name, True, self.config.limits)
        self._dial(end)
        return end

    def _end_for(self, hello: Hello) -> LinkEnd:
        ends = self._ends.get(hello.incarnation)
        known = ends.accepted if ends is not None else None
        if known is not None and known.name == hello.session:
            return known
        if hello.resume:
            raise Mismatch(f"session {hello.session!r} is unknown to {self.me.incarnation!r}")
        if self._closed or self._accepted >= self.config.sessions_max:
            raise NoCapacity(f"no session beyond {self._accepted} (sessions_max, or closing)")
        if known is not None and ends is not None:
            self._lose(ends, f"session {known.name!r} was replaced by {hello.session!r}")
            ends = None
        peer = Peer(hello.host_id, hello.incarnation, hello.address)
        if ends is None:
            ends = self._ends[hello.incarnation] = _Ends(peer)
        ends.accepted = LinkEnd(peer, hello.session, False, self.config.limits)
        self._accepted += 1
        return ends.accepted

    def _attach(self, end: LinkEnd, pipe: Pipe, received: int) -> None:
        end.session.resume(received)
        end.pipe = pipe
        end.connects += 1
        if end.orphan_timer is not None:
            end.orphan_timer.cancel()
            end.orphan_timer = None
        self.flush(end)

    def _write(self, end: LinkEnd, pipe: Pipe, batch: bytes) -> None:
        end.batches_out += 1
        end.bytes_out += len(batch)
        pipe.write(batch)

    def _owe_ack(self, end: LinkEnd) -> None:
        if end.ack_timer is None and end.session.ack_owed:
            end.ack_timer = self._loop.call_later(self.config.ack_delay_s, self._ack_late, end)

    def _ack_late(self, end: LinkEnd) -> None:
        end.ack_timer = None
        pipe = end.pipe
        if pipe is not None and pipe.writable and end.session.ack_owed:
            self._write(end, pipe, end.session.ack())

    def _lose(self, ends: _Ends, reason: str) -> None:
        del self._ends[ends.peer.incarnation]
        for end in ends.both():
            end.dead = True
            self._accepted -= not end.dialed
            for timer in (end.ack_timer, end.orphan_timer):
                if timer is not None:
                    timer.cancel()
            pipe, end.pipe = end.pipe, None
            if pipe is not None:
                pipe.close(reason)
            self._on_dead(end)
        self._handler.on_lost(ends.peer, reason)


def _statistics(ends: _Ends) -> PeerStatistics:
    both = ends.both()
    return PeerStatistics(
        peer=ends.peer,
        connected=any(end.pipe is not None for end in both),
        connects=sum(end.connects for end in both),
        bytes_in=sum(end.bytes_in for end in both),
        bytes_out=sum(end.bytes_out for end in both),
        batches_in=sum(end.batches_in for end in both),
        batches_out=sum(end.batches_out for end in both),
        items_in=sum(end.session.items_in for end in both),
        items_out=sum(end.session.items_out for end in both),
        backlog_items=sum(end.session.backlog_items for end in both),
        backlog_bytes=sum(end.session.backlog_bytes for end in both),
    )
