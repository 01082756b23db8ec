"""The records that hosts share: members, views, locations, and the answers of the registry.

Plain frozen data. An actor is an opaque string here (``Kind/key``): placement neither parses
nor interprets it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class MemberState(StrEnum):
    JOINING = "joining"
    UP = "up"
    DRAINING = "draining"
    DEAD = "dead"


class Member(msgspec.Struct, frozen=True):
    """A host's record in the view. ``weight`` scales its share of the ring.

    ``capacity``: most activations it takes (0: unbounded). ``kinds``: the kinds it can run.
    ``ready``: False keeps new actors away (a pod that is not Ready) and strips nothing.
    ``pod_uid`` and ``started_unix_s`` (seconds since 1970, 0: unknown) let a watch of Kubernetes
    tell this incarnation's death from an earlier one's (rule 16).
    """

    host_id: str
    incarnation: str
    address: str
    state: MemberState = MemberState.UP
    weight: float = 1.0
    capacity: int = 0
    kinds: tuple[str, ...] = ()
    ready: bool = True
    pod_uid: str = ""
    started_unix_s: float = 0.0


class View(msgspec.Struct, frozen=True):
    """The members under (generation, version), sorted by host id then incarnation.

    Two hosts that hold the same (generation, version) hold the same view. The dead are absent.
    """

    generation: int
    version: int
    members: tuple[Member, ...]


class Location(NamedTuple):
    """Where an actor lives: the incarnation that claimed it, and the claim's epoch."""

    incarnation: str
    epoch: int


class Stored(NamedTuple):
    """An actor's saved state: who saved it (epoch), the save's number, and the bytes."""

    epoch: int
    save_no: int
    data: bytes


class Claimed(NamedTuple):
    """The claim won: ``epoch`` is the activation's fencing token; ``stored`` its saved state."""

    epoch: int
    stored: Stored | None


class Held(NamedTuple):
    """The claim lost: another live incarnation has the actor."""

    location: Location


class Renewal(NamedTuple):
    """Reply to a renewal: the view's number now, and every member's renewal counter."""

    generation: int
    version: int
    counters: dict[str, int]


class Reminder(NamedTuple):
    """A durable timer that is due. ``due_ms`` identifies this firing (server's clock)."""

    actor: str
    name: str
    due_ms: int
    every_s: float


class Load(msgspec.Struct, frozen=True):
    """What a host tells of itself each HEARTBEAT_INTERVAL; not part of the view."""

    actors: int = 0
    activations_total: int = 0
    mailbox: int = 0
    view_version: int = 0
