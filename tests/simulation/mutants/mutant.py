"""What a mutant is."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.mutants.edit import Edit


class Mutant(NamedTuple):
    """``breaks``: the invariants, by the names of their checks, any of which shows that it is
    found. ``profiles``: whose seeds it is hunted with, from ``first`` on: rare ones take long
    from the beginning, so they begin at a seed that has found them."""

    rule: str
    says: str
    edits: tuple[Edit, ...]
    breaks: tuple[str, ...]
    profiles: tuple[str, ...]
    first: int = 0
