"""How much may happen in one run: the bounds of the search, and the budget that is left.

Only the counts here are bounded. How often hosts renew, retry, claim and resume is not, nor how
long anything stays in flight. A decision module: pure data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

FREE_OF_CHARGE = -1
UNPLANNED = -2  # free of charge, but nothing that a recovery may count on
CRASH, FREEZE, FAILOVER, GIVE_UP, REPEAT, RESTORE, TRANSFER, SAVE, RELEASE = range(9)
FAULTS = (CRASH, FREEZE, FAILOVER, GIVE_UP, REPEAT, RESTORE)

Budget = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """At most that many of each, over all hosts and actors; ``faults``: of the first six in all."""

    crashes: int = 0
    freezes: int = 0
    failovers: int = 0
    give_ups: int = 0
    repeats: int = 0
    restores: int = 0
    transfers: int = 0
    saves: int = 0
    releases: int = 0
    faults: int = 9

    def budget(self) -> Budget:
        return tuple(getattr(self, field.name) for field in fields(self))

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


MEANINGS = {
    "crashes": "a host dies and its next incarnation starts",
    "freezes": "a host outlives its lease unawares (stopped, cut off, clock behind)",
    "failovers": "the server is emptied, or replaced by a lagging copy",
    "give_ups": "a reply is lost, or its client gives up while the script may yet run",
    "repeats": "a script runs twice",
    "restores": "restore() raises at the new owner",
    "transfers": "an actor is offered to another host",
    "saves": "an activation saves",
    "releases": "an activation passivates",
    "faults": "of the first six together",
}


def spend(budget: Budget, cost: int) -> Budget | None:
    """What is left after one of ``cost``; None if there was none left."""
    if cost < 0:
        return budget
    if budget[cost] == 0 or (cost in FAULTS and budget[-1] == 0):
        return None
    left = list(budget)
    left[cost] -= 1
    if cost in FAULTS:
        left[-1] -= 1
    return tuple(left)
