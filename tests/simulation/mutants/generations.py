"""Mutants of what happens when the registry has forgotten (rule 9)."""

from __future__ import annotations

from tests.simulation.mutants.edit import Edit
from tests.simulation.mutants.mutant import Mutant

_CLAIMS = "placement.claims:"
_MEMORY = "placement.memory:MemoryRegistry."
_GENERATIONS = "actors.generation:Generations."

GENERATIONS: dict[str, Mutant] = {
    "renewal-without-assertion": Mutant(
        "9",
        "a host renews in a new generation without having asserted what it runs",
        (
            Edit(_GENERATIONS + "renewing", "if not self.is_current():", "if False:"),
            Edit(
                _GENERATIONS + "_take_up",
                "await self._assert_all()\n    await self._save_all()",
                "pass",
            ),
        ),
        ("two_owners",),
        ("failover", "storm"),
    ),
    "claims-at-once": Mutant(
        "9",
        "claims do not wait for a lease to pass in a new generation",
        (
            Edit(
                _GENERATIONS + "_hold_claims",
                "self._clock() + self._terms.proof_s",
                "self._clock()",
            ),
        ),
        ("two_owners",),
        ("failover", "storm"),
    ),
}
