"""Linearizability of a counter, from what its callers saw. A decision module: pure.

A counter that adds 1 and answers its new total is linearizable exactly when its answers can be put
in one order that respects real time (Herlihy and Wing, 1990). Its totals give that order away, so
no search is needed (as for the general case: Wing and Gong, 1993, also here, for small histories):
the answers are all different, no call that ended before another began has a higher total, and each
total that nobody was told went to a call whose outcome is unknown and that had begun in time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Add(NamedTuple):
    """One call. ``total`` is None, and ``end`` infinity, when its outcome is unknown."""

    start: float
    end: float
    total: int | None


def objection(history: Sequence[Add]) -> str:
    """Why the history is not linearizable; "" when it is."""
    told = sorted((a for a in history if a.total is not None), key=lambda a: a.total or 0)
    totals = [a.total or 0 for a in told]
    if len(set(totals)) != len(totals):
        twice = next(t for t, u in pairwise(totals) if t == u)
        return f"two calls were told the total {twice}"
    if totals and totals[0] < 1:
        return f"a call was told the total {totals[0]}"
    latest_start = -math.inf
    for add in told:
        if add.end < latest_start:
            return f"the call told {add.total} had ended before one with a lower total began"
        latest_start = max(latest_start, add.start)
    return _gaps(told, sorted(a.start for a in history if a.total is None))


def _gaps(told: Sequence[Add], unknown: Sequence[float]) -> str:
    """Whether each missing total can belong to an unknown call; ``unknown`` holds their starts."""
    free = 0  # unknown calls that are taken, the earliest first: they fit wherever later ones fit
    ends = [math.inf] * (len(told) + 1)
    for index in range(len(told) - 1, -1, -1):
        ends[index] = min(ends[index + 1], told[index].end)
    expected = 1
    for index, add in enumerate(told):
        while expected < (add.total or 0):
            if free == len(unknown) or unknown[free] > ends[index]:
                return f"no call can have got the total {expected}"
            free += 1
            expected += 1
        expected += 1
    return ""


def wing_gong(history: Sequence[Add]) -> bool:
    """Whether some order of the calls explains the history: by search, for small ones."""

    def explain(rest: tuple[Add, ...], total: int) -> bool:
        if all(a.total is None for a in rest):
            return True
        first_end = min(a.end for a in rest)
        for index, add in enumerate(rest):
            fits = add.start <= first_end and add.total in (None, total + 1)
            if fits and explain((*rest[:index], *rest[index + 1 :]), total + 1):
                return True
        return False

    return explain(tuple(history), 0)
