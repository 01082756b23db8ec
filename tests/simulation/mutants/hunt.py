"""Hunting one mutant: seeds of its profiles until an invariant that it should break is broken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.edit import Stale, edited
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.run import profile_of, run_seed


@dataclass(frozen=True, slots=True)
class Hunt:
    """What came of it. ``seed``: the one that found it; -1 if it survived all ``seeds`` tried."""

    name: str
    seed: int
    seeds: int
    seconds: float
    breach: str
    others: tuple[str, ...] = ()  # checks that complained without being asked to

    @property
    def is_found(self) -> bool:
        return self.seed >= 0

    @property
    def broken(self) -> str:
        """The name of the invariant."""
        return self.breach.partition(":")[0] if self.is_found else ""

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "found": self.is_found, "broken": self.broken}


def hunt(name: str, seconds: float, first: int | None = None) -> Hunt:
    """Run seeds on the mutant until it is found, for about so many seconds.

    From ``first`` on; None: from the one on that is known to find it.
    """
    mutant, start, tried = MUTANTS[name], time.monotonic(), 0
    others: set[str] = set()
    try:
        with edited(mutant.edits):
            for seed in seeds_for(mutant, mutant.first if first is None else first):
                tried += 1
                found = run_seed(seed).violations
                others |= {breach.partition(":")[0] for breach in found}
                for breach in found:
                    if breach.partition(":")[0] in mutant.breaks:
                        took_s = time.monotonic() - start
                        return Hunt(name, seed, tried, took_s, breach, tuple(sorted(others)))
                if time.monotonic() - start > seconds:
                    break
    except Stale as exc:
        return Hunt(name, -1, tried, time.monotonic() - start, f"stale: {exc}")
    return Hunt(name, -1, tried, time.monotonic() - start, "survived", tuple(sorted(others)))


def seeds_for(mutant: Mutant, first: int) -> Iterator[int]:
    return (seed for seed in count(first) if profile_of(seed).name in mutant.profiles)


def violations_of(seed: int) -> list[str]:
    """What the unbroken code breaks with that seed: nothing."""
    return run_seed(seed).violations
