"""The parts of a link that wire.link_core puts together: what it needs of an adapter, our end
of a session, the pair of sessions with one peer. Pure state; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from wire.link_config import LinkConfig
from wire.ports import Peer, Traffic
from wire.session import LinkSession


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
        """Whether another batch may be written now. After a no, ``LinkCore.flush`` is called
        when it may."""

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

    def __init__(self, peer: Peer, name: str, dialed: bool, config: LinkConfig) -> None:
        self.peer = peer
        self.name = name
        self.dialed = dialed
        self.session = LinkSession(config)
        self.pipe: Pipe | None = None
        self.dead = False
        self.scheduled = False  # a flush is on its way
        self.starved = False  # send() said that there is no room
        self.ack_timer: Timer | None = None
        self.orphan_timer: Timer | None = None
        self.connects = 0
        self.bytes_in = self.bytes_out = self.batches_in = self.batches_out = 0

    def bury(self) -> Pipe | None:
        """The session is over. Returns the pipe that stood, which is now the caller's."""
        self.dead = True
        for timer in (self.ack_timer, self.orphan_timer):
            if timer is not None:
                timer.cancel()
        pipe, self.pipe = self.pipe, None
        return pipe

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


class Ends:
    """The sessions with one peer."""

    __slots__ = ("accepted", "answering", "dialed", "peer")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.dialed: LinkEnd | None = None
        self.accepted: LinkEnd | None = None
        self.answering: LinkEnd | None = None  # which of the two carries our answers

    def both(self) -> list[LinkEnd]:
        return [end for end in (self.dialed, self.accepted) if end is not None]

    def statistics(self) -> PeerStatistics:
        both = self.both()
        return PeerStatistics(
            peer=self.peer,
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

    def traffic(self) -> Traffic:
        """The same, as what goes into the host's totals."""
        row = self.statistics()
        return Traffic(row.connected, row.bytes_in, row.bytes_out, row.items_in, row.items_out)


def sum_traffic(parts: Iterable[Traffic]) -> Traffic:
    return Traffic(*map(sum, zip(*parts, strict=True)))
