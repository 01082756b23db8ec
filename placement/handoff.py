"""Which actors should move, and where: from where they are now. A decision module: pure.

Design rule 13. Every view change plans anew from the present, so a move that a cap put off is
not forgotten, and a plan never depends on an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

#: A move as it is sorted: (-idle_s, actor, to).
_Ranked = tuple[float, str, str]


class Owned(NamedTuple):
    """An actor that runs here. ``idle_s``: how long it has been idle; 0: it is busy."""

    actor: str
    idle_s: float
    is_spilled: bool  # it came here because another host was full: the ring did not place it


class Move(NamedTuple):
    """Hand ``actor`` to the host with that incarnation."""

    actor: str
    to: str


@dataclass(frozen=True, slots=True)
class Caps:
    """How much one round of a rebalance may move.

    ``at_once``: most actors. More: balanced sooner; fewer: less work at a time for both hosts.
    ``share``: most of what runs here, 0 to 1, so that a wrong view cannot empty a host at a blow.
    """

    at_once: int = 1_000
    share: float = 0.25

    def allowed(self, owned: int) -> int:
        """How many of ``owned`` actors may move in one round; at least one."""
        return max(1, min(self.at_once, int(owned * self.share)))


def misplaced(
    owned: Iterable[Owned], owner: Callable[[str], str], me: str, *, spilled_too: bool = False
) -> list[tuple[Owned, str]]:
    """Every actor that the ring (``owner``: actor -> incarnation, "" for none) gives to another."""
    found: list[tuple[Owned, str]] = []
    for one in owned:
        if one.is_spilled and not spilled_too:
            continue
        to = owner(one.actor)
        if to not in ("", me):
            found.append((one, to))
    return found


class Plan:
    """The moves of what is misplaced: the longest idle first; names break ties, so the same state
    gives the same plan.

    What is added together is sorted together, and the parts are merged as moves are taken, since
    sorting 10,000 at once would take 10 ms.
    """

    def __init__(self) -> None:
        self._parts: list[list[_Ranked]] = []
        self._first: list[tuple[_Ranked, int]] = []  # a heap of each part's first, and which

    def add(self, wrong: Iterable[tuple[Owned, str]]) -> None:
        part = sorted(((-one.idle_s, one.actor, to) for one, to in wrong), reverse=True)
        self._parts.append(part)
        self._push_first(len(self._parts) - 1)

    def _push_first(self, number: int) -> None:
        if part := self._parts[number]:
            heappush(self._first, (part.pop(), number))

    def take(self) -> Move | None:
        """The next move; None when there are no more."""
        if not self._first:
            return None
        (_, actor, to), number = heappop(self._first)
        self._push_first(number)
        return Move(actor, to)

    @property
    def is_empty(self) -> bool:
        return not self._first
