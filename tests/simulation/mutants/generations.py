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
    "offers-are-asserted": Mutant(
        "9",
        "a host asserts what it has quiesced or offered as if it ran",
        (Edit(_GENERATIONS + "_running", "a.phase in _RUNS", "True"),),
        ("two_owners", "epochs", "saves"),
        ("failover", "storm"),
    ),
    "offer-of-any-generation": Mutant(
        "9",
        "an offer of an earlier generation is accepted, and its claim does not wait",
        (
            Edit(
                "actors.adopter:Adopter._objection",
                "offer.generation != system.view.generation",
                "False",
            ),
            Edit(
                "actors.generation:GuardedRegistry.claim",
                "self._generations.check_claims()",
                "all(c.offered for c in claims) or self._generations.check_claims()",
            ),
        ),
        ("two_owners", "displaced"),
        ("failover", "storm"),
    ),
    "old-scripts-count": Mutant(
        "9",
        "scripts of an earlier generation are carried out",
        (Edit(_MEMORY + "_enter", "if known not in (0, store.generation):", "if False:"),),
        ("two_owners", "epochs", "saves"),
        ("failover", "storm"),
    ),
}
