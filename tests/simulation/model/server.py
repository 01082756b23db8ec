"""What each script does when the server runs it: one atomic step, maybe late, maybe twice.

A decision module: pure. ``Outcome.broken`` names the promise that the step broke, "" if none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.model.invariants import NOT_NEWEST, OLDER_SAVE, WENT_BACK
from tests.simulation.model.rules import Rules
from tests.simulation.model.shape import epochs_of
from tests.simulation.model.state import (
    ACTIVE,
    AGAIN,
    ASSERT,
    BURIED,
    BY_OFFER,
    CLAIM,
    FREE,
    GONE,
    GRANTED,
    LIVE,
    NOBODY,
    NONE,
    NOT_HERE,
    OFFERED,
    PLAIN,
    RELEASE,
    SAVE,
    TO_RESUME_LATE,
    Actor,
    Cluster,
    Item,
    Local,
    Location,
    Saved,
    fly,
    membership,
    put,
)

RUNS = (ACTIVE, OFFERED)  # the latter is only ever asserted when a rule is off


class Outcome(NamedTuple):
    cluster: Cluster
    actor: Actor
    broken: str = ""


Script = Callable[[Rules, Cluster, Actor, Item], Outcome]


def next_epoch(rules: Rules, cluster: Cluster, actor: Actor, inc: int) -> int:
    """Rule 6: higher than any before it, whatever became of the server since."""
    location = actor.location
    if not rules.claim_raises_epoch and location.owner == inc:
        return location.epoch
    if not rules.epochs_outlive_server and cluster.gen > 0:
        return max(location.epoch, actor.saved.epoch) + 1
    return max(epochs_of(actor)) + 1


def is_granted(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> bool:
    """Rules 5 and 7: a free location, mine, a dead holder's, or the one that was offered."""
    if membership(cluster, actor, item.inc) != LIVE:
        return False
    if item.number in (PLAIN, AGAIN):
        return is_takeable(rules, cluster, actor, item.inc)
    if item.number == BY_OFFER and not rules.transfer_names_offer:
        return True
    return actor.location.epoch == item.epoch


def is_takeable(rules: Rules, cluster: Cluster, actor: Actor, inc: int) -> bool:
    """Rule 5: the location is free, recorded as the claimant's own, or its holder is dead."""
    owner = actor.location.owner
    if owner in (NOBODY, inc):
        return owner == NOBODY or rules.own_claim_allowed
    return membership(cluster, actor, owner) != LIVE or not rules.takeover_needs_proof


def denied(local: Local) -> Local:
    """What becomes of a host's wait for a claim that came to nothing."""
    if local.offered != NONE:
        return Local(OFFERED, local.offered, local.snapshot, local.offered_gen)
    return NOT_HERE


def run_claim(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> Outcome:
    """Rule 5: the location becomes (incarnation, higher epoch), or stays and the claim fails."""
    granted, broken = is_granted(rules, cluster, actor, item), ""
    if granted:
        again = item.number == AGAIN
        epoch = item.epoch if again else next_epoch(rules, cluster, actor, item.inc)
        broken = WENT_BACK if epoch < actor.top else ""
        actor = actor._replace(location=Location(item.inc, epoch))
        if item.number in (PLAIN, TO_RESUME_LATE) and cluster.gen > 0:
            cluster = cluster._replace(closed=True)
    if item.awaited:
        local = actor.locals[item.inc]
        after = (
            local._replace(mode=GRANTED, epoch=actor.location.epoch, gen=cluster.gen)
            if granted
            else denied(local)
        )
        actor = put(actor, item.inc, after)
    return Outcome(cluster, actor, broken)


def run_save(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> Outcome:
    """Rule 8: stored only for the location's exact owner, and only if newer than what is stored."""
    save, stored = Saved(item.epoch, item.number), actor.saved
    if rules.save_checks_owner and actor.location != (item.inc, item.epoch):
        return Outcome(cluster, actor)
    if save == stored or (rules.save_numbered and save < stored):
        return Outcome(cluster, actor)
    broken = ""
    if item.epoch < actor.top:
        broken = NOT_NEWEST
    elif save < stored:
        broken = OLDER_SAVE
    return Outcome(cluster, actor._replace(saved=save), broken)


def run_release(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> Outcome:
    """Rule 8's condition again: only the exact owner frees the location."""
    owner, epoch = actor.location
    if owner == item.inc and (epoch == item.epoch or not rules.release_names_epoch):
        actor = actor._replace(location=FREE)
    return Outcome(cluster, actor)


def run_assert(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> Outcome:
    """Rule 9: what runs is written into the new generation, unless a higher epoch is there."""
    inc, epoch = item.inc, item.epoch
    here = inc < GONE and is_awaited(actor, item, cluster.gen)
    if not takes_assertion(rules, cluster, actor, item):
        return Outcome(cluster, put(actor, inc, NOT_HERE) if here else actor)
    if here:
        actor = put(actor, inc, actor.locals[inc]._replace(gen=cluster.gen))
    broken = WENT_BACK if epoch < actor.top else ""
    saved = max(actor.saved, Saved(epoch, item.number))
    return Outcome(cluster, actor._replace(location=Location(inc, epoch), saved=saved), broken)


def is_awaited(actor: Actor, item: Item, gen: int) -> bool:
    """Whether the host waits for this assertion's answer, not for a later one's."""
    local = actor.locals[item.inc]
    later = any(other.kind == ASSERT and other.inc == item.inc for other in actor.flight)
    return local.mode in RUNS and local.epoch == item.epoch and local.gen < gen and not later


def takes_assertion(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> bool:
    """Not of the dead, and not once anybody has claimed: a free location forgets its epoch, so a
    late assertion could not be told from a timely one."""
    if membership(cluster, actor, item.inc) == BURIED:
        return False
    if cluster.closed and rules.assertion_ends_at_claim:
        return False
    return item.epoch >= actor.location.epoch or not rules.assertion_compares_epoch


def run(rules: Rules, cluster: Cluster, actor: Actor, item: Item) -> Outcome:
    """Run ``item``, which is no longer in flight. Claims and assertions void those before them."""
    if item.kind in (CLAIM, ASSERT) and rules.claims_numbered:
        actor = without_overtaken(actor, item)
    return SCRIPTS[item.kind](rules, cluster, actor, item)


def without_overtaken(actor: Actor, item: Item) -> Actor:
    flight = tuple(
        other
        for other in actor.flight
        if other.inc != item.inc or other.kind not in (CLAIM, ASSERT) or other.order >= item.order
    )
    return actor if flight == actor.flight else fly(actor, flight)


SCRIPTS: dict[int, Script] = {
    CLAIM: run_claim,
    SAVE: run_save,
    RELEASE: run_release,
    ASSERT: run_assert,
}
