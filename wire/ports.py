"""Ports of the wire: what a host needs of its links, and what links and servers need of a host.

Everything here is called on the one thread that runs both loops, and none of the synchronous
calls blocks: they queue, or call back. Ports only: no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from wire.errors import RoostError
from wire.ids import ActorId
from wire.items import Item, Mode


class Peer(NamedTuple):
    """One start of one host. ``incarnation`` alone identifies it; the rest is how to reach it."""

    host_id: str
    incarnation: str
    address: str


class Traffic(NamedTuple):
    """All that has gone over a host's links since its start. ``links``: those connected now.

    Tells in a row that travel together are one item.
    """

    links: int
    bytes_in: int
    bytes_out: int
    items_in: int
    items_out: int


NO_TRAFFIC = Traffic(0, 0, 0, 0, 0)


class LinkHandler(Protocol):
    """What a host does with what arrives. Called synchronously; must not block or raise."""

    def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
        """Items from ``peer``, each exactly once and in the order sent, per session."""

    def on_lost(self, peer: Peer, reason: str) -> None:
        """The session with ``peer`` is over: what it had not acknowledged may or may not have
        arrived, and nothing more will come. A later send opens a new session."""

    def on_room(self, peer: Peer) -> None:
        """The link to ``peer``, for which ``send`` returned False, has room again."""


class Links(Protocol):
    """Reliable, ordered message passing to other incarnations: the only road between hosts.

    A broken connection is not a lost session: the link reconnects and resumes until ``drop``.
    """

    def send(self, peer: Peer, item: Item) -> bool:
        """Queue ``item``; dial if there is no session. Never blocks and never refuses.

        Returns False when the queue to ``peer`` is over its high-water mark: the caller must
        stop sending envelopes there until ``on_room``. Other items need no room.
        """

    def soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` before the loop waits again: time to send what has gathered."""

    def connected(self, incarnation: str) -> bool:
        """Whether a connection to that incarnation stands at this moment."""

    def drop(self, incarnation: str, reason: str) -> None:
        """That incarnation is dead (the view says so): end its sessions; calls ``on_lost``."""

    def unsent(self, incarnation: str) -> frozenset[tuple[int, int]]:
        """During ``on_lost`` of that incarnation: the (stream, seq) of the envelopes that
        certainly never left this host, so that they did not run. Empty at any other time."""

    def traffic(self) -> Traffic:
        """What all links have carried, those included that are gone."""


class ClientCall(Protocol):
    """A call from outside (the gateway service), as the host sees it.

    The three callbacks are called at most once each way: ``chunk`` any number of times (stream
    calls only, never more than granted), then exactly one of ``finished`` or ``failed``.
    """

    session: str  # one per client connection: numbering and order are per session
    target: ActorId
    method: str
    mode: Mode
    content: int
    payload: bytes
    timeout_s: float | None  # None: the host's ASK_TIMEOUT
    headers: dict[str, str] | None

    def chunk(self, content: int, payload: bytes) -> None: ...

    def finished(self, content: int, payload: bytes) -> None: ...

    def failed(self, error: RoostError) -> None: ...


class Described(NamedTuple):
    """Where an actor is and how it does, for operators; times in seconds."""

    actor: ActorId
    status: str  # "active" | "idle" | "activating" | "failed" | "absent"
    host_id: str
    address: str
    incarnation: str
    epoch: int
    mailbox: int
    running: int
    idle_s: float
    reason: str  # why it failed, else ""


class HostInfo(NamedTuple):
    """One host as the view and its heartbeat tell."""

    host_id: str
    incarnation: str
    address: str
    state: str
    weight: float
    capacity: int
    actors: int
    view_version: int


class Gateway(Protocol):
    """What the gRPC services call: any host takes any call and routes it.

    ``submit``, ``cancel`` and ``grant`` are synchronous and callable from either loop. The rest
    are Trio coroutines: an asyncio caller crosses over first.
    """

    def submit(self, call: ClientCall) -> None: ...

    def cancel(self, call: ClientCall) -> None: ...

    def grant(self, call: ClientCall, items: int) -> None:
        """A stream client can take ``items`` more; it starts with none granted."""

    async def locate(self, target: ActorId) -> Described: ...

    async def spawn(
        self, target: ActorId, content: int, payload: bytes, durable: bool
    ) -> Described:
        """Activate now; ``payload`` holds the arguments for ``on_spawn``-like state, may be b""."""

    async def stop(self, target: ActorId) -> bool: ...

    async def list_actors(self, kind: str, limit: int, cursor: str) -> tuple[list[Described], str]:
        """Up to ``limit`` actors of the whole cluster and the next cursor ("" at the end)."""

    async def list_hosts(self) -> list[HostInfo]: ...

    async def drain(self, host_id: str) -> bool: ...

    def health(self) -> tuple[bool, bool]:
        """(alive, ready): alive is false when the lease is lost; ready also when draining."""
