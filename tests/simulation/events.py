"""What happened in a simulated run, in order: the only thing that the checks look at.

``at`` is true time in seconds, which no host knows. Plain data, and the hash that two runs of one
seed must share.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

Ops = tuple[int, ...]


#: How long a host that leaves waits for what is under way (seconds on its own clock).
DRAIN_TIMEOUT_S = 10.0


class Began(NamedTuple):
    """An activation may act from now on. ``ops``: the operations that its state has seen."""

    at: float
    actor: str
    epoch: int
    host: str
    how: str  # "claimed", "adopted", "resumed" or "restarted"
    ops: Ops


class Ended(NamedTuple):
    """An activation acts no more: "offered", "left" (saved, about to be released), "taken" (it
    was offered, and lives elsewhere now) or "killed"."""

    at: float
    actor: str
    epoch: int
    host: str
    how: str
    ops: Ops


class Ran(NamedTuple):
    """A handler or hook of an activation: "in", "did" (the state has changed) or "out"."""

    at: float
    actor: str
    epoch: int
    host: str
    op: int
    stage: str


class Leased(NamedTuple):
    """A renewal counted: ``host`` (an incarnation) may act until ``until``, in true time."""

    at: float
    host: str
    until: float


class LeaseOver(NamedTuple):
    """``host`` knows that it may not act any more, or is dead."""

    at: float
    host: str
    why: str


class SentLate(NamedTuple):
    """A host sent, or asked of the registry, what only a lease permits, without holding it."""

    at: float
    host: str
    what: str


class Granted(NamedTuple):
    """The registry gave ``actor`` to ``host`` (a claim ran)."""

    at: float
    actor: str
    epoch: int
    host: str


class Saved(NamedTuple):
    """The registry accepted a save."""

    at: float
    actor: str
    epoch: int
    host: str
    number: int
    ops: Ops


class Freed(NamedTuple):
    """The registry released ``actor``, which was located at exactly (host, epoch)."""

    at: float
    actor: str
    epoch: int
    host: str


class Buried(NamedTuple):
    """The registry took ``host`` for dead, and out of the view."""

    at: float
    host: str


class Kept(NamedTuple):
    """A durable actor was spawned, or stopped for good, and its caller knows: ``has_spec`` says
    whether its spec is in the registry at this moment."""

    at: float
    actor: str
    is_wanted: bool
    has_spec: bool


class LostData(NamedTuple):
    """The server came back with other data: what each actor's stored state is from now on.

    ``is_back``: its clock has stepped back meanwhile, so neither tells which epochs there were.
    """

    at: float
    stored: dict[str, Ops]
    is_back: bool


class Called(NamedTuple):
    """A caller sent operation ``op``. Order is kept per (sender, actor)."""

    at: float
    op: int
    sender: str
    actor: str
    method: str
    mode: str


class Answered(NamedTuple):
    """The caller has its result (an ask), or hears that the message was taken (a tell)."""

    at: float
    op: int
    value: int


class Failed(NamedTuple):
    """The call ended in an error."""

    at: float
    op: int
    code: str
    may_have_run: bool
    message: str


class Streamed(NamedTuple):
    """The consumer of stream ``op`` got ``item``."""

    at: float
    op: int
    item: int


class Read(NamedTuple):
    """After all faults: what an actor's state has seen."""

    at: float
    actor: str
    ops: Ops


class Left(NamedTuple):
    """Something stayed behind at the end, or did not come in time."""

    at: float
    what: str


class Misled(NamedTuple):
    """A link took what was meant for another, or held back what must not wait."""

    at: float
    what: str


class Noted(NamedTuple):
    """What the world did to the cluster, for readers."""

    at: float
    what: str


Event = (
    Began | Ended | Ran | Leased | LeaseOver | SentLate | Granted | Saved | Freed | Buried
    | Kept | LostData
    | Called | Answered | Failed | Streamed | Read | Left | Misled | Noted
)  # fmt: skip


def trace_hash(events: Iterable[Event]) -> str:
    """The same for two runs exactly when the same things happened at the same times."""
    digest = blake2b(digest_size=16)
    for event in events:
        digest.update(repr(event).encode())
    return digest.hexdigest()
