"""Reads what the activations of moves_app.Watched wrote, and finds two owners at once."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Tenure:
    """One activation: from its begin to the last sign of life it gave."""

    epoch: int
    host: str
    begin: float
    last: float


def tenures(path: Path) -> dict[str, list[Tenure]]:
    """Each actor's activations, by epoch."""
    found: dict[str, dict[int, Tenure]] = defaultdict(dict)
    for line in path.read_text("utf-8").splitlines():
        entry: dict[str, Any] = json.loads(line)
        of_actor = found[entry["actor"]]
        tenure = of_actor.get(entry["epoch"])
        if tenure is None:
            of_actor[entry["epoch"]] = Tenure(
                entry["epoch"], entry["host"], entry["at"], entry["at"]
            )
        else:
            tenure.last = max(tenure.last, entry["at"])
    return {actor: sorted(of.values(), key=lambda t: t.epoch) for actor, of in found.items()}


def double_owners(path: Path) -> list[str]:
    """Every pair of activations of one actor that overlap in time; none is how it must be."""
    found: list[str] = []
    for actor, all_of_it in tenures(path).items():
        for earlier, later in itertools.pairwise(all_of_it):
            if later.begin < earlier.last:
                found.append(f"{actor}: {earlier} still acted when {later} had begun")
    return found
