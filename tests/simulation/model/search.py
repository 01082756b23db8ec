"""Breadth-first search of all states within the bounds, shortest counter-example first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.model.bounds import FREE_OF_CHARGE, Bounds
from tests.simulation.model.rules import PROTOCOL, Rules
from tests.simulation.model.space import NOWHERE, Space


@dataclass
class Found:
    """What a search found. ``broken``: the promise that was broken, "" if none; ``path``: the
    states that lead there, the last of them before the step that breaks it if ``by_step``."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    exhausted: bool = False
    broken: str = ""
    by_step: bool = False
    path: list[int] = field(default_factory=list)
    wells: int = 0
    search_s: float = 0.0
    liveness_s: float = 0.0


def successors(space: Space, state: int) -> Iterator[tuple[int, str]]:
    """Every state that may come next, and the promise that the step to it broke."""
    budget, cluster, actors = space.unpack(state)
    for index, actor in enumerate(actors):
        for cost, then, after, broken in space.moves(cluster, actor):
            left = space.spent(budget, cost)
            if left != NOWHERE:
                ids = (*actors[:index], after, *actors[index + 1 :])
                yield space.pack(left, then, ids), broken
    for cost, then, effect in space.turns(cluster):
        left = space.spent(budget, cost)
        if left != NOWHERE:
            ids = tuple([space.effect(effect, actor) for actor in actors])
            if NOWHERE not in ids:
                yield space.pack(left, then, ids), ""


def explore(space: Space, deadline_s: float) -> tuple[Found, dict[int, int]]:
    """All states within the bounds, or up to the first broken promise or ``deadline_s``."""
    began = time.monotonic()
    found, parents = Found(), {space.start: 0}
    level = [space.start]
    while level and not found.broken and time.monotonic() - began < deadline_s:
        level = expand(space, level, parents, found)
        found.depth += 1
    found.exhausted = not level
    found.states, found.search_s = len(parents), time.monotonic() - began
    return found, parents


def expand(space: Space, level: list[int], parents: dict[int, int], found: Found) -> list[int]:
    """The new states next to ``level``; stops early at a broken promise."""
    fresh: list[int] = []
    for state in level:
        for after, broken in successors(space, state):
            found.transitions += 1
            if broken:
                found.broken, found.by_step = broken, True
                found.path = path_to(parents, state)
                return fresh
            if after in parents:
                continue
            parents[after] = state
            fresh.append(after)
            _, cluster, actors = space.unpack(after)
            for actor in actors:
                if verdict := space.verdict(cluster, actor):
                    found.broken, found.path = verdict, path_to(parents, after)
                    return fresh
    return fresh


def path_to(parents: dict[int, int], state: int) -> list[int]:
    path = []
    while state:
        path.append(state)
        state = parents[state]
    return path[::-1]


def recoveries(space: Space, state: int) -> Iterator[int]:
    """The states that may come next without a fault and without anything that is counted."""
    _, cluster, actors = space.unpack(state)
    for index, actor in enumerate(actors):
        for cost, then, after, _ in space.moves(cluster, actor):
            if cost == FREE_OF_CHARGE:
                yield space.pack(0, then, (*actors[:index], after, *actors[index + 1 :]))
    for cost, then, effect in space.turns(cluster):
        if cost == FREE_OF_CHARGE:
            ids = tuple([space.effect(effect, actor) for actor in actors])
            if NOWHERE not in ids:
                yield space.pack(0, then, ids)


def find_stuck(space: Space, parents: dict[int, int]) -> tuple[int, int]:
    """(a state from which no recovery leads to all actors served, or 0; states looked at)."""
    well: set[int] = set()
    for state in parents:
        parts = space.unpack(state)
        if not recovers(space, space.pack(0, parts.cluster, parts.actors), well):
            return state, len(well)
    return 0, len(well)


def recovers(space: Space, start: int, well: set[int]) -> bool:
    """Depth first from ``start`` to what is known to be well; the way there is well too."""
    if start in well:
        return True
    tried, trail = {start}, [(start, recoveries(space, start))]
    while trail:
        state, ahead = trail[-1]
        if space.is_well(space.unpack(state)):
            well.update(passed for passed, _ in trail)
            return True
        after = next((a for a in ahead if a in well or a not in tried), 0)
        if after in well:
            well.update(passed for passed, _ in trail)
            return True
        if after == 0:
            trail.pop()
        else:
            tried.add(after)
            trail.append((after, recoveries(space, after)))
    return False


def check(
    hosts: int,
    actors: int,
    bounds: Bounds,
    rules: Rules = PROTOCOL,
    *,
    fine: bool = False,
    liveness: bool = True,
    deadline_s: float = 900.0,
) -> tuple[Found, Space]:
    """Search one configuration. The result is a proof within the bounds only if ``exhausted``."""
    space = Space(hosts, actors, bounds, rules, fine)
    found, parents = explore(space, deadline_s)
    if liveness and found.exhausted and not found.broken:
        began = time.monotonic()
        stuck, found.wells = find_stuck(space, parents)
        if stuck:
            found.broken = "a state from which no recovery makes every actor active"
            found.path = path_to(parents, stuck)
        found.liveness_s = time.monotonic() - began
    return found, space
