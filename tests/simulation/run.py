"""One seed, one run: a storm over a cluster, its end, and what the checks say of it."""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import trio
import trio.testing

from tests.simulation import checks, kinds
from tests.simulation.coverage import counts
from tests.simulation.events import Event, Left, trace_hash
from tests.simulation.finish import finish
from tests.simulation.freezer import NeverEnds
from tests.simulation.hosts import Sizes
from tests.simulation.kinds import SimulatedFault
from tests.simulation.load import client, program, steward
from tests.simulation.observer import stop_observing
from tests.simulation.storm import PROFILES, Profile, Script, Storm, draw_sizes
from tests.simulation.world import World, open_world

Scenario = Callable[[World], Awaitable[None]]

STEPS = 40
HOSTS = 3
CLIENTS = 3


@dataclass(slots=True)
class Result:
    """What became of one seed."""

    seed: int
    profile: str
    steps: int
    violations: list[str]
    trace: str
    virtual_s: float
    real_s: float
    counts: dict[str, int]
    events: list[Event] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        names = ("seed", "profile", "steps", "violations", "trace", "virtual_s", "real_s", "counts")
        return {name: getattr(self, name) for name in names}


def profile_of(seed: int) -> Profile:
    return PROFILES[seed % len(PROFILES)]


def run_seed(seed: int, steps: int = STEPS, script: Script | None = None) -> Result:
    """Simulate one seed. The same seed gives the same events, whatever the hash seed.

    ``script``: the storm does these steps instead of ``steps`` that chance chooses.
    """
    profile = profile_of(seed)
    sizes = draw_sizes(Random(f"sizes {seed}"))

    happened: Counter[str] = Counter()

    async def scenario(world: World) -> None:
        world.program = program
        world.programs_per_host = 3
        for _ in range(HOSTS):
            world.start()
        while len(world.up()) < HOSTS:  # a new registry's claims wait for a lease
            await trio.sleep(0.1)
        for number in range(CLIENTS):
            world.nursery.start_soon(client, world, number)
        world.nursery.start_soon(steward, world)
        await trio.sleep(1.0)
        storm = Storm(world, profile)
        await (storm.blow(steps) if script is None else storm.play(script))
        await finish(world)
        happened.update(world.happened)

    start = time.perf_counter()
    events, internal = run_world(seed, sizes, scenario)
    found = checks.violations(events, is_planned=profile.is_planned)
    return Result(
        seed, profile.name, steps if script is None else len(script), internal + found,
        trace_hash(events),
        round(events[-1].at, 3) if events else 0.0, round(time.perf_counter() - start, 3),
        counts(events, happened), events,
    )  # fmt: skip


def run_world(seed: int, sizes: Sizes, scenario: Scenario) -> tuple[list[Event], list[str]]:
    """Run ``scenario`` in a world of its own: what happened, and what went wrong inside Roost."""
    events: list[Event] = []

    async def main() -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        async with open_world(seed, sizes, events) as world:
            await scenario(world)
        left = trio.lowlevel.current_statistics().tasks_living - before
        if left:
            events.append(Left(trio.current_time(), f"{left} tasks are left"))

    make_deterministic(seed)
    with internal_errors() as errors, _tasks_that_vanish():
        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))
        except trio.TrioInternalError as exc:
            if not isinstance(exc.__cause__, NeverEnds):
                raise
            errors.append(f"broken off: {exc.__cause__}")
        except Exception as exc:
            errors.append("raised: " + "; ".join(sorted(set(_said(exc)))))
    return events, errors


def _said(exc: BaseException) -> Iterator[str]:
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _said(each)
    else:
        yield f"{type(exc).__name__}: {exc}"


@contextmanager
def _tasks_that_vanish() -> Iterator[None]:
    """Let the tasks of a run that is broken off go without complaints (Freezer silences them)."""
    before = sys.unraisablehook
    try:
        yield
        if sys.unraisablehook is not before:
            stop_observing()
            kinds.install(None)
            gc.collect()
    finally:
        sys.unraisablehook = before


def make_deterministic(seed: int) -> None:
    """Let Trio's scheduler draw from the seed. (Its own tests, and Hypothesis, do the same.)"""
    run: Any = trio._core._run
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)


@contextmanager
def internal_errors() -> Iterator[list[str]]:
    """Roost's log, kept off the terminal; errors in it that no fault explains are returned."""
    errors: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            exc = record.exc_info[1] if record.exc_info else None
            if exc is not None and not isinstance(exc, SimulatedFault):
                errors.append(f"logged: {record.getMessage()}: {type(exc).__name__}: {exc}")

    loggers = [logging.getLogger(name) for name in ("roost", "wire", "placement", "actors")]
    handler = Handler()
    before = [(logger, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.ERROR)
    try:
        yield errors
    finally:
        for logger, propagate, level in before:
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)
