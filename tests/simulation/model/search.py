"""Breadth-first search of all states within the bounds, shortest counter-example first.

Then, from every state that was found, a search for a way back to health without further faults.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.simulation.model.bounds import FREE_OF_CHARGE, Bounds
from tests.simulation.model.invariants import STUCK
from tests.simulation.model.rules import PROTOCOL, Rules
from tests.simulation.model.space import BITS, NOWHERE, Space


@dataclass
class Found:
    """What a search found. ``broken``: the promise that was broken, "" if none; ``path``: the
    states that lead there; ``by_step``: it is a step from the last of them that breaks it."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    exhausted: bool = False
    broken: str = ""
    by_step: bool = False
    path: list[int] = field(default_factory=list)
    search_s: float = 0.0
    liveness_s: float = 0.0
    cpu_s: float = 0.0


Parents = dict[int, int]


def successors(space: Space, state: int) -> list[tuple[int, str]]:
    """Every state that may come next, and the promise that the step to it broke."""
    budget, cluster, actors = space.unpack(state)
    left, pack, found = space.left[budget], space.pack, []
    for index, actor in enumerate(actors):
        others = [*actors[:index], *actors[index + 1 :]]
        for cost, then, after, broken in space.moves[cluster << BITS | actor]:
            if left[cost] != NOWHERE:
                found.append((pack(left[cost], then, [after, *others]), broken))
    for cost, then, effect in space.turns[cluster]:
        if left[cost] != NOWHERE:
            ids = actors if effect is None else [effect[actor] for actor in actors]
            if NOWHERE not in ids:
                found.append((pack(left[cost], then, ids), ""))
    return found


def recoveries(space: Space, state: int) -> list[int]:
    """The states that may come next without a fault and without anything that is counted."""
    budget, cluster, actors = space.unpack(state)
    found = []
    for index, actor in enumerate(actors):
        others = [*actors[:index], *actors[index + 1 :]]
        for cost, then, after, _ in space.moves[cluster << BITS | actor]:
            if cost == FREE_OF_CHARGE:
                found.append(space.pack(budget, then, [after, *others]))
    for cost, then, effect in space.turns[cluster]:
        if cost == FREE_OF_CHARGE:
            ids = actors if effect is None else [effect[actor] for actor in actors]
            if NOWHERE not in ids:
                found.append(space.pack(budget, then, ids))
    return found


def explore(space: Space, deadline_s: float, overlook: str = "") -> tuple[Found, Parents]:
    """All states within the bounds, or up to the first broken promise or ``deadline_s``.

    ``overlook``: a promise that steps may break, to see what else comes of it.
    """
    began = time.monotonic()
    found, parents = Found(), {space.start: 0}
    level = [space.start]
    while level and not found.broken and time.monotonic() - began < deadline_s:
        level = expand(space, level, parents, found, overlook)
        found.depth += 1
    found.exhausted = not level and not found.broken
    found.states, found.search_s = len(parents), time.monotonic() - began
    return found, parents


def expand(
    space: Space, level: list[int], parents: Parents, found: Found, overlook: str
) -> list[int]:
    """The new states next to ``level``; stops early at a broken promise."""
    fresh: list[int] = []
    for state in level:
        ahead = successors(space, state)
        found.transitions += len(ahead)
        for after, broken in ahead:
            if broken and broken != overlook:
                found.broken, found.by_step = broken, True
                found.path = path_to(parents, state)
                return fresh
            if after not in parents:
                parents[after] = state
                fresh.append(after)
                if verdict := judge(space, after):
                    found.broken, found.path = verdict, path_to(parents, after)
                    return fresh
    return fresh


def judge(space: Space, state: int) -> str:
    """The invariant that the state breaks, "" if none."""
    _, cluster, actors = space.unpack(state)
    verdicts, pair = space.verdicts, cluster << BITS
    return next((verdicts[pair | actor] for actor in actors if verdicts[pair | actor]), "")


def path_to(parents: Parents, state: int) -> list[int]:
    path = []
    while state:
        path.append(state)
        state = parents[state]
    return path[::-1]


def find_stuck(space: Space, parents: Parents) -> int:
    """A state from which no recovery leads to all actors served, or 0.

    Recovering spends nothing, so what is left of the budgets makes no difference.
    """
    well: set[int] = set()
    place = (1 << BITS * (space.actor_count + 1)) - 1
    for state in parents:
        start = 1 << BITS * (space.actor_count + 1) | (state & place)
        if start not in well and not recovers(space, start, well):
            return state
    return 0


def recovers(space: Space, start: int, well: set[int]) -> bool:
    """Depth first from ``start`` to what is known to be well; the way there is well too."""
    tried, trail = {start}, [(start, iter(recoveries(space, start)))]
    while trail:
        state, ahead = trail[-1]
        if state in well or space.is_well(state):
            well.update(passed for passed, _ in trail)
            return True
        after = next((after for after in ahead if after not in tried), 0)
        if after:
            tried.add(after)
            trail.append((after, iter(() if after in well else recoveries(space, after))))
        else:
            trail.pop()
    return False


def check(
    hosts: int,
    actors: int,
    bounds: Bounds,
    rules: Rules = PROTOCOL,
    *,
    fine: bool = False,
    overlook: str = "",
    deadline_s: float = 900.0,
) -> tuple[Found, Space]:
    """Search one configuration. The result is a proof within the bounds only if ``exhausted``."""
    space = Space(hosts, actors, bounds, rules, fine)
    cpu_began = time.process_time()
    with collector_paused():
        found, parents = explore(space, deadline_s, overlook)
        if found.exhausted:
            began = time.monotonic()
            stuck = find_stuck(space, parents)
            if stuck:
                found.broken, found.path = STUCK, path_to(parents, stuck)
            found.liveness_s = time.monotonic() - began
    found.cpu_s = time.process_time() - cpu_began
    return found, space


@contextmanager
def collector_paused() -> Iterator[None]:
    """Millions of tuples and no cycle among them: looking for one takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
