"""Where a message goes, decided from what this host knows. A decision module: pure.

Design rules 2 and 10: the cached location first, else the ring's owner, else the next member of
the ring that has not refused for lack of room; after that Redis must be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum, auto

from placement.records import Member
from placement.ring import Ring
from wire.ids import ActorId


class Unroutable(Enum):
    """Why the ring names no member."""

    NO_HOST = auto()  # no member may take new actors
    UNKNOWN_KIND = auto()  # none of them knows the kind
    ALL_FULL = auto()  # each of them has refused for lack of room


def choose(ring: Ring, target: ActorId, refused: Collection[str] = ()) -> Member | Unroutable:
    """The first member of the ring, in order, that knows the kind and has not refused."""
    met = Unroutable.NO_HOST
    for member in ring.candidates(str(target)):
        if member.kinds and target.kind not in member.kinds:
            if met is Unroutable.NO_HOST:
                met = Unroutable.UNKNOWN_KIND
        elif member.incarnation in refused:
            met = Unroutable.ALL_FULL
        else:
            return member
    return met


def may_claim(ring: Ring, me: str, target: ActorId, refused: Collection[str]) -> bool:
    """Whether this host's ring lets it claim ``target``, given who has refused before it."""
    chosen = choose(ring, target, refused)
    return isinstance(chosen, Member) and chosen.incarnation == me


class Ways:
    """Known locations of actors on other hosts: a bounded cache, oldest out first."""

    def __init__(self, most: int, is_live: Callable[[str], bool]) -> None:
        self._most = most
        self._is_live = is_live
        self._known: dict[ActorId, str] = {}

    def get(self, target: ActorId) -> str:
        """The incarnation that ran ``target`` when last heard of, if it lives; else ""."""
        incarnation = self._known.get(target, "")
        if incarnation and not self._is_live(incarnation):
            del self._known[target]
            return ""
        return incarnation

    def learn(self, target: ActorId, incarnation: str) -> None:
        """``target`` was heard of at ``incarnation``."""
        if self._known.get(target) == incarnation:
            return
        if len(self._known) >= self._most and target not in self._known:
            del self._known[next(iter(self._known))]
        self._known[target] = incarnation

    def forget(self, target: ActorId) -> None:
        self._known.pop(target, None)
