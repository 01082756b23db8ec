"""Lives: which process was which agent from when to when, by what the agents publish."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Life:
    """One process as one agent. Times are seconds of CLOCK_MONOTONIC."""

    by: str
    pid: int
    made_s: float
    last_s: float = 0.0  # its last sign of life
    answered: list[int] = field(default_factory=list)  # in the order of its deliveries


def lives_of(answers: list[dict]) -> dict[str, list[Life]]:
    """{agent: its lives, the earliest first}; none has answered one delivery twice."""
    lives: dict[tuple, Life] = {}
    deliveries = defaultdict(dict)
    for a in answers:
        key = (a["by"], a["pid"], a["made_s"])
        life = lives.setdefault(key, Life(*key))
        life.last_s = max(life.last_s, a["at_s"])
        assert a["delivery"] not in deliveries[key], f"{key} answered one delivery twice"
        deliveries[key][a["delivery"]] = a["counted"]
    found: dict[str, list[Life]] = defaultdict(list)
    for key, life in sorted(lives.items(), key=lambda item: item[1].made_s):
        life.answered = [number for _, number in sorted(deliveries[key].items())]
        found[life.by].append(life)
    return found


def assert_one_at_a_time(lives: list[Life], dead_s: dict[int, float]) -> None:
    """No life of an agent began before the one before it was over, its process seen dead
    (``dead_s``: when)."""
    for earlier, later in pairwise(lives):
        assert earlier.last_s <= dead_s[earlier.pid] < later.made_s, (earlier, later)
