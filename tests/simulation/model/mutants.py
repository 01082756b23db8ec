"""The protocol with a rule off, and the bounds within which the search shows what that breaks.

A mutant that survives would be a hole in the model, or a rule that is not needed. Two rules stand
behind another one: they are only missed when that is off, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tests.simulation.model.bounds import Bounds
from tests.simulation.model.invariants import (
    DISPLACED,
    NOT_HIGHER,
    NOT_NEWEST,
    OLD_SNAPSHOT,
    OLDER_SAVE,
    STUCK,
    TWO_ACT,
    WENT_BACK,
)
from tests.simulation.model.rules import PROTOCOL, Rules
from tests.simulation.model.search import Found, check
from tests.simulation.model.space import Space


class Mutant(NamedTuple):
    """``breaks``: the promise that the shortest counter-example breaks, or the shortest that
    breaks more than ``overlook``. ``off``: which rules are off besides."""

    breaks: str
    bounds: Bounds = Bounds()
    fine: bool = False
    off: tuple[str, ...] = ()
    overlook: str = ""


FAILOVER = Bounds(failovers=1)
TRANSFER = Bounds(transfers=1)
BOTH = Bounds(failovers=1, transfers=1)

MUTANTS: dict[str, Mutant] = {
    "lease_counts_from_send": Mutant(DISPLACED, fine=True),
    "burial_compares_counter": Mutant(DISPLACED, fine=True),
    "rejoin_after_none_runs": Mutant(DISPLACED, Bounds(freezes=1)),
    "takeover_needs_proof": Mutant(DISPLACED),
    "claim_raises_epoch": Mutant(NOT_HIGHER, TRANSFER),
    "own_claim_after_exit": Mutant(DISPLACED),
    "claims_numbered": Mutant(DISPLACED, Bounds(give_ups=1)),
    "own_claim_allowed": Mutant(STUCK, Bounds(give_ups=1)),
    "epochs_outlive_server": Mutant(NOT_HIGHER, Bounds(failovers=1, releases=1)),
    "quiesce_before_offer": Mutant(DISPLACED, TRANSFER),
    "transfer_names_offer": Mutant(DISPLACED, TRANSFER),
    "resume_raises_epoch": Mutant(DISPLACED, TRANSFER),
    "resume_names_offer": Mutant(OLD_SNAPSHOT, Bounds(transfers=1, saves=1, releases=1)),
    "adoption_names_offer": Mutant(
        OLD_SNAPSHOT, Bounds(give_ups=2, transfers=1, saves=1, releases=1)
    ),
    "snapshot_void_once_moved": Mutant(OLD_SNAPSHOT, Bounds(transfers=1, saves=1, releases=1)),
    "save_checks_owner": Mutant(NOT_NEWEST, Bounds(transfers=1, saves=1)),
    "save_numbered": Mutant(OLDER_SAVE, Bounds(saves=2)),
    "release_names_epoch": Mutant(DISPLACED, Bounds(releases=1)),
    "repeats_only_answer": Mutant(
        NOT_NEWEST, Bounds(repeats=1, saves=1, releases=2), overlook=WENT_BACK
    ),
    "old_scripts_void": Mutant(NOT_NEWEST, Bounds(failovers=1, saves=1, releases=1)),
    "old_replies_void": Mutant(DISPLACED, FAILOVER),
    "old_offers_void": Mutant(TWO_ACT, BOTH),
    "renewal_needs_assertion": Mutant(DISPLACED, FAILOVER),
    "assertion_compares_epoch": Mutant(
        DISPLACED, Bounds(crashes=1, failovers=1), off=("assertion_ends_at_claim",)
    ),
    "assertion_of_running_only": Mutant(
        TWO_ACT, Bounds(failovers=1, transfers=1, saves=1), overlook=WENT_BACK
    ),
    "assertion_ends_at_claim": Mutant(WENT_BACK, Bounds(crashes=1, failovers=1, releases=1)),
    "saves_wait_for_assertion": Mutant(
        NOT_NEWEST,
        Bounds(freezes=1, failovers=1, saves=1, releases=1),
        off=("assertion_ends_at_claim",),
        overlook=WENT_BACK,
    ),
    "hold_after_generation": Mutant(TWO_ACT, FAILOVER),
}


def without(*rules: str) -> Rules:
    """The protocol without ``rules``."""
    return replace(PROTOCOL, **dict.fromkeys(rules, False))


def hunt(name: str, deadline_s: float = 60.0) -> tuple[Found, Space]:
    """Search mutant ``name`` within its bounds, with two hosts and one actor."""
    mutant = MUTANTS[name]
    rules = without(name, *mutant.off)
    return check(
        2, 1, mutant.bounds, rules,
        fine=mutant.fine, overlook=mutant.overlook, deadline_s=deadline_s,
    )  # fmt: skip
