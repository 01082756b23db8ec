"""The steps that one host takes for one actor, the server's for it, and what is lost between them.

``STEPS`` is the table. Each step is a generator of what may happen next. A check and the send that
it guards are one step: what was sent may stay in flight for ever, which is all that a host frozen
between the two could add. A decision module: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.simulation.model.bounds import (
    FREE_OF_CHARGE,
    GIVE_UP,
    REPEAT,
    RESTORE,
    TRANSFER,
)
from tests.simulation.model.bounds import (
    RELEASE as RELEASING,
)
from tests.simulation.model.bounds import (
    SAVE as SAVING,
)
from tests.simulation.model.invariants import NOT_HIGHER, OLD_SNAPSHOT
from tests.simulation.model.rules import Rules
from tests.simulation.model.server import denied, is_takeable, run
from tests.simulation.model.state import (
    ACTIVE,
    AGAIN,
    ASSERT,
    BURIED,
    BY_OFFER,
    CLAIM,
    CLAIMING,
    GONE,
    GRANTED,
    IDLE,
    KINDS,
    NONE,
    NOT_HERE,
    OFFER,
    OFFERED,
    PLAIN,
    RELEASE,
    RESUMING,
    SAVE,
    TO_RESUME,
    TO_RESUME_LATE,
    Actor,
    Cluster,
    Item,
    Local,
    arrived,
    fly,
    may_act,
    put,
    sent,
    sent_numbered,
    up_to_date,
)

SAVES_MAX = 2  # by one activation
ASSERTIONS_MAX = 2  # of one activation in flight


class Step(NamedTuple):
    """One thing that may happen: its arguments (for the trace), its cost, what comes of it."""

    what: tuple[object, ...]
    cost: int
    cluster: Cluster
    actor: Actor
    broken: str = ""


Steps = Iterator[Step]


def held_back(rules: Rules, cluster: Cluster) -> bool:
    """Rule 9: in a new generation nobody claims until a lease has passed since it was seen, so
    until every lease granted before it has run out."""
    if not rules.hold_after_generation:
        return False
    return any(0 <= host.lease < cluster.gen for host in cluster.hosts)


def may_claim(rules: Rules, cluster: Cluster, host: int) -> bool:
    return up_to_date(cluster, cluster.hosts[host]) and not held_back(rules, cluster)


def claim(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 5: a host that does not run the actor asks for a free, its own or a dead's location."""
    for host, local in enumerate(actor.locals):
        if not may_claim(rules, cluster, host):
            continue
        if local.mode == IDLE and is_takeable(rules, cluster, actor, host):
            snapshot = local.snapshot if actor.location.owner == host else NONE
            yield claimed(cluster, actor, host, PLAIN, Local(CLAIMING, snapshot=snapshot))
        elif local.mode == ACTIVE and not rules.own_claim_after_exit:
            item = Item(CLAIM, host, NONE, PLAIN, cluster.gen)
            yield Step((host,), FREE_OF_CHARGE, cluster, sent_numbered(actor, item))


def claimed(cluster: Cluster, actor: Actor, host: int, reason: int, wait: Local) -> Step:
    """A claim is sent, naming the location if it is by an offer or to resume."""
    named = NONE if reason == PLAIN else actor.location.epoch
    item = Item(CLAIM, host, named, reason, cluster.gen, True)
    after = put(sent_numbered(actor, item), host, wait)
    return Step((host, named), FREE_OF_CHARGE, cluster, after)


def execute(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """A script reaches the server, however late; it may be resent, and so run again (rule 8)."""
    for item in dict.fromkeys(actor.flight):
        if item.kind == OFFER or (item.gen != cluster.gen and rules.old_scripts_void):
            continue
        outcome = run(rules, cluster, arrived(actor, item), item)
        what = (KINDS[item.kind], item.inc, item.epoch, item.number)
        yield Step(what, FREE_OF_CHARGE, *outcome)
        if item.kind in (SAVE, RELEASE) or not rules.repeats_only_answer:
            again = sent(outcome.actor, repeated(item, outcome.actor))
            yield Step(
                (*what, "and once more later"), REPEAT, outcome.cluster, again, outcome.broken
            )


def repeated(item: Item, actor: Actor) -> Item:
    """What is resent of a script that has just run: a claim has the epoch of the first time."""
    if item.kind == CLAIM and actor.location.owner == item.inc:
        return item._replace(epoch=actor.location.epoch, number=AGAIN, awaited=False)
    return item._replace(awaited=False)


def give_up(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """A client stops waiting for a script that may yet run, or for a reply that is lost."""
    for host, local in enumerate(actor.locals):
        if local.mode not in (CLAIMING, RESUMING, GRANTED):
            continue
        if local.snapshot == NONE or local.offered != NONE or rules.adoption_names_offer:
            yield Step((host,), GIVE_UP, cluster, forsaken(actor, host))
        else:
            kept = Local(IDLE, snapshot=local.snapshot)
            yield Step((host,), GIVE_UP, cluster, forsaken(actor, host, kept))


def forsaken(actor: Actor, host: int, after: Local | None = None) -> Actor:
    """``actor`` when ``host`` no longer waits for its claim, and goes back to where it was."""
    flight = tuple(
        item._replace(awaited=False) if item.awaited and item.inc == host else item
        for item in actor.flight
    )
    return put(fly(actor, flight), host, after or denied(actor.locals[host]))


def activate(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 5: the reply to a claim arrives, under a lease and in its generation; user code runs."""
    for host, local in enumerate(actor.locals):
        if local.mode != GRANTED or not may_act(cluster.hosts[host]):
            continue
        if local.gen != cluster.hosts[host].gen and rules.old_replies_void:
            continue
        after = put(actor, host, Local(ACTIVE, local.epoch, gen=local.gen))
        broken = activation_breaks(actor, local)
        after = after._replace(top=max(actor.top, local.epoch))
        yield Step((host, local.epoch), FREE_OF_CHARGE, cluster, after, broken)


def activation_breaks(actor: Actor, local: Local) -> str:
    if local.epoch <= actor.top:
        return NOT_HIGHER
    if local.snapshot != NONE and local.snapshot < actor.saved.epoch:
        return OLD_SNAPSHOT
    return ""


def fail_to_restore(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 7: restore() raises, and the new owner hands back at its higher epoch, unactivated."""
    for host, local in enumerate(actor.locals):
        if local.mode != GRANTED or local.snapshot == NONE or local.offered != NONE:
            continue
        if not may_act(cluster.hosts[host]) or local.gen != cluster.hosts[host].gen:
            continue
        for to in others(actor, host):
            yield Step((host, to), RESTORE, cluster, offered(actor, host, to, local.snapshot))


def others(actor: Actor, host: int) -> list[int]:
    return [other for other in range(len(actor.locals)) if other != host]


def offered(actor: Actor, host: int, to: int, snapshot: int) -> Actor:
    """``actor`` quiesced at ``host``, and its offer on the way to ``to``."""
    local = actor.locals[host]
    item = Item(OFFER, to, local.epoch, snapshot, local.gen)
    return put(sent(actor, item), host, Local(OFFERED, local.epoch, snapshot, local.gen))


def offer(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 7: the owner quiesces, then offers (incarnation, epoch, generation, snapshot)."""
    for host, local in enumerate(actor.locals):
        if local.mode != ACTIVE or local.gen != cluster.hosts[host].gen:
            continue
        if not may_act(cluster.hosts[host]):
            continue
        for to in others(actor, host):
            after = offered(actor, host, to, local.epoch)
            if not rules.quiesce_before_offer:
                after = put(after, host, local)
            yield Step((host, to, local.epoch), TRANSFER, cluster, after)


def take_offer(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 7: the new owner runs the claim that names the offer, if it is of its generation."""
    for item in dict.fromkeys(actor.flight):
        if item.kind != OFFER or actor.locals[item.inc].mode not in (IDLE, OFFERED):
            continue
        host = cluster.hosts[item.inc]
        current = item.gen == cluster.gen or not rules.old_offers_void
        if host.gen != cluster.gen or not may_act(host) or not current:
            continue
        script = Item(CLAIM, item.inc, item.epoch, BY_OFFER, cluster.gen, True)
        local = Local(CLAIMING, snapshot=item.number)
        after = put(sent_numbered(arrived(actor, item), script), item.inc, local)
        yield Step((item.inc, item.epoch), FREE_OF_CHARGE, cluster, after)


def resume(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 7: an offered activation resumes only by a script that raises its epoch.

    An offer of an older generation counts for nothing: its owner is held back as any claimant.
    """
    for host, local in enumerate(actor.locals):
        if local.mode != OFFERED or not may_resume(rules, cluster, host, local):
            continue
        if not rules.resume_raises_epoch:
            after = put(actor, host, Local(ACTIVE, local.epoch, gen=local.gen))
            yield Step((host, local.epoch), FREE_OF_CHARGE, cluster, after)
            continue
        wait = Local(RESUMING, NONE, local.snapshot, 0, 0, local.epoch, local.gen)
        if actor.location == (host, local.epoch):
            reason = TO_RESUME if local.gen == cluster.gen else TO_RESUME_LATE
            yield claimed(cluster, actor, host, reason, wait)
        elif not rules.resume_names_offer and is_takeable(rules, cluster, actor, host):
            yield claimed(cluster, actor, host, PLAIN, wait)


def may_resume(rules: Rules, cluster: Cluster, host: int, local: Local) -> bool:
    if local.gen != cluster.gen:
        return may_claim(rules, cluster, host)
    return speaks(cluster, host)


def learn_moved(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 7: an offered activation learns from Redis that it moved, and its snapshot is void.

    Also if the location is this host's by another claim: it may have moved there and back.
    """
    for host, local in enumerate(actor.locals):
        known = cluster.hosts[host]
        if local.mode != OFFERED or actor.location == (host, local.epoch):
            continue
        if known.gen == cluster.gen and may_act(known):
            yield Step((host,), FREE_OF_CHARGE, cluster, put(actor, host, NOT_HERE))
            if not rules.snapshot_void_once_moved and is_takeable(rules, cluster, actor, host):
                wait = Local(CLAIMING, snapshot=local.snapshot)
                yield claimed(cluster, actor, host, PLAIN, wait)


def save(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 8: an activation saves; each of its saves has the next number."""
    for host, local in enumerate(actor.locals):
        if local.mode != ACTIVE or local.number == SAVES_MAX or not speaks(cluster, host):
            continue
        if local.gen != cluster.gen and rules.saves_wait_for_assertion:
            continue
        number = local.number + 1
        item = Item(SAVE, host, local.epoch, number, cluster.gen)
        after = put(sent(actor, item), host, local._replace(number=number))
        yield Step((host, local.epoch, number), SAVING, cluster, after)


def speaks(cluster: Cluster, host: int) -> bool:
    """Whether the host holds its lease and its scripts are not void from the start."""
    return may_act(cluster.hosts[host]) and cluster.hosts[host].gen == cluster.gen


def release(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """An activation passivates: it exits, then frees its location."""
    for host, local in enumerate(actor.locals):
        if local.mode == ACTIVE and speaks(cluster, host):
            item = Item(RELEASE, host, local.epoch, NONE, cluster.gen)
            after = put(sent(actor, item), host, NOT_HERE)
            yield Step((host, local.epoch), RELEASING, cluster, after)


def assert_running(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 9: in a new generation a host asserts what it runs, never what it has quiesced; again
    if it gives up on the first."""
    for host, local in enumerate(actor.locals):
        stated = local.mode == ACTIVE or (
            local.mode == OFFERED and not rules.assertion_of_running_only
        )
        if not stated or local.gen >= cluster.gen or not speaks(cluster, host):
            continue
        before = sum(1 for item in actor.flight if item.kind == ASSERT and item.inc == host)
        if before < ASSERTIONS_MAX:
            item = Item(ASSERT, host, local.epoch, local.number, cluster.gen)
            cost = GIVE_UP if before else FREE_OF_CHARGE
            yield Step((host, local.epoch), cost, cluster, sent_numbered(actor, item))


def bury_gone(rules: Rules, cluster: Cluster, actor: Actor) -> Steps:
    """Rule 3: an incarnation that is gone renews no more, and is proven dead in the end."""
    for index, known in enumerate(actor.members):
        if known != BURIED:
            members = (*actor.members[:index], BURIED, *actor.members[index + 1 :])
            yield Step((GONE + index,), FREE_OF_CHARGE, cluster, actor._replace(members=members))


STEPS: dict[str, Callable[[Rules, Cluster, Actor], Steps]] = {
    step.__name__: step
    for step in (
        claim,
        execute,
        give_up,
        activate,
        fail_to_restore,
        offer,
        take_offer,
        resume,
        learn_moved,
        save,
        release,
        assert_running,
        bury_gone,
    )
}
