"""One configuration searched, and what to print of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.simulation.model.bounds import MEANINGS, Bounds
from tests.simulation.model.invariants import CHECKED
from tests.simulation.model.mutants import MUTANTS, hunt
from tests.simulation.model.search import Found, check
from tests.simulation.model.trace import tell


@dataclass(frozen=True, slots=True)
class Configuration:
    """``fine``: sighting, renewing and hearing of it are steps of their own (rule 3)."""

    hosts: int
    actors: int
    bounds: Bounds
    fine: bool = False

    def __str__(self) -> str:
        grain = ", leases step by step" if self.fine else ""
        return f"{self.hosts} hosts x {self.actors} actor{'s' * (self.actors > 1)}{grain}"


ANY_TWO_FAULTS = Bounds(
    crashes=2, freezes=2, failovers=2, give_ups=2, repeats=2, restores=1, faults=2
)

STANDARD = (
    Configuration(2, 2, replace(ANY_TWO_FAULTS, transfers=1, saves=1)),
    Configuration(3, 1, replace(ANY_TWO_FAULTS, transfers=1, saves=1, releases=1)),
    Configuration(2, 1, replace(ANY_TWO_FAULTS, transfers=2, saves=1, releases=1)),
    Configuration(2, 1, replace(ANY_TWO_FAULTS, transfers=1, saves=1), fine=True),
)


@dataclass(frozen=True, slots=True)
class Report:
    """``name``: of the configuration or mutant; ``trace``: the counter-example, if any."""

    name: str
    bounds: dict[str, int]
    found: Found
    trace: list[str]
    as_wanted: bool

    def as_dict(self) -> dict[str, object]:
        found = self.found
        return {
            "name": self.name,
            "states": found.states,
            "transitions": found.transitions,
            "depth": found.depth,
            "exhausted": found.exhausted,
            "broken": found.broken,
            "search_s": round(found.search_s, 2),
            "liveness_s": round(found.liveness_s, 2),
            "cpu_s": round(found.cpu_s, 2),
            "bounds": self.bounds,
            "trace": self.trace,
        }


def search(configuration: Configuration, deadline_s: float) -> Report:
    """The protocol in one configuration: nothing broken is what is wanted."""
    found, space = check(
        configuration.hosts,
        configuration.actors,
        configuration.bounds,
        fine=configuration.fine,
        deadline_s=deadline_s,
    )
    trace = list(tell(space, found)) if found.broken else []
    clean = found.exhausted and not found.broken
    return Report(str(configuration), configuration.bounds.as_dict(), found, trace, clean)


def search_mutant(name: str, deadline_s: float) -> Report:
    """The protocol without one rule: the counter-example is what is wanted."""
    found, space = hunt(name, deadline_s)
    trace = list(tell(space, found)) if found.broken else []
    mutant = MUTANTS[name]
    expected = found.broken == mutant.breaks
    without = " and ".join((name, *mutant.off))
    return Report(f"without {without}", mutant.bounds.as_dict(), found, trace, expected)


def lines(report: Report, with_trace: bool) -> Iterator[str]:
    found = report.found
    yield report.name
    yield (
        f"  {found.states:,} states, {found.transitions:,} transitions, depth {found.depth}; "
        f"search {found.search_s:.1f} s, liveness {found.liveness_s:.1f} s, "
        f"{found.cpu_s:.1f} s of processor"
    )
    bounds = ", ".join(f"{name} {count}" for name, count in report.bounds.items())
    yield f"  at most: {bounds}"
    yield f"  {verdict(found)}"
    if with_trace:
        yield from (f"  {line}" for line in report.trace)


def verdict(found: Found) -> str:
    if found.broken:
        return f"BROKEN: {found.broken}"
    return "exhausted, nothing broken" if found.exhausted else "NOT EXHAUSTED within the deadline"


def legend() -> Iterator[str]:
    """What the words of the bounds mean, and what was checked."""
    yield "bounds (renewals, retries, claims, resumptions and delays are not bounded):"
    yield from (f"  {name}: {meaning}" for name, meaning in MEANINGS.items())
    yield "checked:"
    yield from (f"  {promise}" for promise in CHECKED.values())
