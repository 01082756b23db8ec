"""The rules of the protocol that can be switched off, one by one, to see what each is good for.

Every field is a clause of rules 3 to 9 (docs/protocol.md); False leaves it out. A decision
module: pure data.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """True: as the protocol has it."""

    lease_counts_from_send: bool = True  # 3: not from the renewal's reply
    burial_compares_counter: bool = True  # 3: a renewal since the sighting voids the proof
    rejoin_after_none_runs: bool = True  # 4: a fenced host comes back without its activations
    takeover_needs_proof: bool = True  # 5: only a dead holder's location is taken
    claim_raises_epoch: bool = True  # 5: also when the recorded incarnation claims again
    own_claim_after_exit: bool = True  # 5: not while its earlier activation runs
    claims_numbered: bool = True  # 5: one that arrives behind a later one of its sender is void
    own_claim_allowed: bool = True  # 5: by the recorded incarnation, or a lost reply orphans
    epochs_outlive_server: bool = True  # 6: raised at each generation
    quiesce_before_offer: bool = True  # 7
    transfer_names_offer: bool = True  # 7: only the very location that was offered is taken
    resume_raises_epoch: bool = True  # 7: by a script
    resume_names_offer: bool = True  # 7: else it moved, and maybe back
    adoption_names_offer: bool = True  # 7: when the new owner tries again, too
    snapshot_void_once_moved: bool = True  # 7: the retained one, unless handed back
    save_checks_owner: bool = True  # 8
    save_numbered: bool = True  # 8
    release_names_epoch: bool = True  # 8: as a save
    repeats_only_answer: bool = True  # 8: a claim or assertion that arrives twice writes once
    old_scripts_void: bool = True  # 9: those of an older generation
    old_replies_void: bool = True  # 9
    old_offers_void: bool = True  # 9
    renewal_needs_assertion: bool = True  # 9
    assertion_compares_epoch: bool = True  # 9: the higher epoch stays
    assertion_of_running_only: bool = True  # 9: never of what is quiesced
    assertion_ends_at_claim: bool = True  # 9: none at all after anybody's first one
    saves_wait_for_assertion: bool = True  # 9
    hold_after_generation: bool = True  # 9: nobody claims until a lease has passed


PROTOCOL = Rules()
