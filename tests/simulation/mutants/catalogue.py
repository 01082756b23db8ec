"""All mutants, by name; the modules beside this one have them by the rules of docs/protocol.md."""

from __future__ import annotations

from tests.simulation.mutants.generations import GENERATIONS
from tests.simulation.mutants.leases import LEASES
from tests.simulation.mutants.messages import MESSAGES
from tests.simulation.mutants.moves import MOVES
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.ownership import OWNERSHIP

MUTANTS: dict[str, Mutant] = {
    **LEASES,
    **OWNERSHIP,
    **GENERATIONS,
    **MOVES,
    **MESSAGES,
}
