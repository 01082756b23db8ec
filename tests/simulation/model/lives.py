"""The steps of hosts and server as wholes: leases, generations, crashes, failovers.

``STEPS`` is the table. What such a step does to every actor is given as a key into ``EFFECTS``, so
that the search may remember it per actor. A decision module: pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.simulation.model.bounds import CRASH, FAILOVER, FREE_OF_CHARGE, FREEZE, UNPLANNED
from tests.simulation.model.hosting import forsaken
from tests.simulation.model.rules import Rules
from tests.simulation.model.state import (
    ABSENT,
    ACTIVE,
    BURIED,
    CLAIMING,
    FREE,
    FRESH,
    GONE,
    GRANTED,
    LAPSED,
    LIVE,
    NOT_HERE,
    OFFER,
    RESUMING,
    UNSAVED,
    Actor,
    Cluster,
    Host,
    Location,
    may_act,
    put,
    put_host,
)

Effect = tuple[object, ...]  # a name in EFFECTS and its arguments
UNTOUCHED: Effect = ("untouched",)


class Turn(NamedTuple):
    """One thing that may happen to the cluster: ``effect`` is what it does to each actor."""

    what: tuple[object, ...]
    cost: int
    cluster: Cluster
    effect: Effect = UNTOUCHED


Turns = Iterator[Turn]


def see_generation(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 9: a host learns that the server is in a new generation; older replies are void."""
    for index, host in enumerate(cluster.hosts):
        if host.gen < cluster.gen and host.lease != LAPSED:
            after = put_host(cluster, index, host._replace(gen=cluster.gen, reply=-1))
            yield Turn(
                (index,),
                FREE_OF_CHARGE,
                after,
                ("seen", index, cluster.gen, rules.old_replies_void),
            )


def renew(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: a renewal runs at the server; rule 9: not before all that runs was asserted.

    At the coarse grain its reply comes at once: a later one would only give the same lease.
    """
    for index, host in enumerate(cluster.hosts):
        if host.gen != cluster.gen or host.lease in (LAPSED, cluster.gen) or host.member == BURIED:
            continue
        effect = ("asserted", index, cluster.gen) if rules.renewal_needs_assertion else UNTOUCHED
        after = put_host(cluster, index, host._replace(lease=cluster.gen, member=LIVE))
        yield Turn((index,), FREE_OF_CHARGE, after, effect)


def renew_fine(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: a renewal runs at the server and raises the counter, voiding any sighting of it."""
    for index, host in enumerate(cluster.hosts):
        if host.gen != cluster.gen or host.lease == LAPSED or host.member == BURIED:
            continue
        if host.lease == cluster.gen and not host.watched and rules.lease_counts_from_send:
            continue  # it would change nothing
        if host.reply == cluster.gen and not host.watched:
            continue
        still = host.watched and not rules.burial_compares_counter
        after = host._replace(member=LIVE, reply=cluster.gen, watched=still, reply_young=still)
        after = after if still else after._replace(young=False)
        effect = ("asserted", index, cluster.gen) if rules.renewal_needs_assertion else UNTOUCHED
        yield Turn((index,), FREE_OF_CHARGE, put_host(cluster, index, after), effect)


def hear(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: the reply to a renewal arrives, and the lease counts from when that was sent."""
    for index, host in enumerate(cluster.hosts):
        if host.reply == -1 or host.lease == LAPSED or host.gen != host.reply:
            continue
        young = host.reply_young if rules.lease_counts_from_send else host.watched
        after = host._replace(lease=host.reply, reply=-1, young=young, reply_young=False)
        yield Turn((index,), FREE_OF_CHARGE, put_host(cluster, index, after))


def sight(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: somebody sees a host's counter, and counts a lease and a margin from then."""
    for index, host in enumerate(cluster.hosts):
        if host.member == LIVE and not host.watched:
            after = host._replace(watched=True, young=False, reply_young=False)
            yield Turn((index,), FREE_OF_CHARGE, put_host(cluster, index, after))


def bury_sighted(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: the counter stood still for that long: leases that began before have run out."""
    for index, host in enumerate(cluster.hosts):
        if not host.watched or host.member != LIVE:
            continue
        lapses = may_act(host) and not host.young
        reply = host.reply if host.reply_young or not rules.lease_counts_from_send else -1
        after = host._replace(member=BURIED, watched=False, reply=reply, reply_young=False)
        after = after._replace(lease=LAPSED, young=False) if lapses else after
        cost = FREEZE if lapses else FREE_OF_CHARGE
        yield Turn((index,), cost, put_host(cluster, index, after))


def lapse(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: a host's lease runs out unawares; sooner would only take from what it may do."""
    for index, host in enumerate(cluster.hosts):
        if may_act(host):
            after = put_host(cluster, index, host._replace(lease=LAPSED, reply=-1))
            yield Turn((index,), FREEZE, after)


def lapse_fine(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 9: a lease that an older generation granted runs out unawares."""
    for turn in lapse(rules, cluster):
        if cluster.hosts[int(str(turn.what[0]))].lease < cluster.gen:
            yield turn


def bury(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 3: a host whose lease has run out is proven dead. (The coarse grain of sighting and
    burying: no renewal can have run between the two, so nothing else is lost by one step.)"""
    for index, host in enumerate(cluster.hosts):
        if host.lease == LAPSED and host.member == LIVE:
            yield Turn(
                (index,), FREE_OF_CHARGE, put_host(cluster, index, host._replace(member=BURIED))
            )


def fence(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 4: past its deadline, or told that it was buried, a host ends its activations and
    rejoins as a new incarnation."""
    for index, host in enumerate(cluster.hosts):
        if host.lease == LAPSED or (host.member == BURIED and not may_act(host)):
            effect = ("vanished", index, host.member, rules.rejoin_after_none_runs)
            yield Turn((index,), FREE_OF_CHARGE, reborn(cluster, index), effect)


def crash(rules: Rules, cluster: Cluster) -> Turns:
    """A host dies; its next incarnation starts (that it was down meanwhile adds nothing)."""
    for index, host in enumerate(cluster.hosts):
        if host.lease not in (FRESH, LAPSED):
            effect = ("vanished", index, host.member, True)
            yield Turn((index,), CRASH, reborn(cluster, index), effect)


def reborn(cluster: Cluster, index: int) -> Cluster:
    return put_host(cluster, index, Host(cluster.gen, FRESH, ABSENT))


def lag_begins(rules: Rules, cluster: Cluster) -> Turns:
    """A replica stops following: what is written from now on, it does not have."""
    if not cluster.copied:
        yield Turn((), FAILOVER, cluster._replace(copied=True), ("copied",))


def roll_back(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 9: that replica takes the server's place, and a generation begins."""
    if cluster.copied:
        yield Turn((), UNPLANNED, new_generation(cluster), ("rolled_back", keeps(rules)))


def lose_data(rules: Rules, cluster: Cluster) -> Turns:
    """Rule 9: the server comes back empty, and a generation begins."""
    yield Turn((), FAILOVER, new_generation(cluster), ("emptied", keeps(rules)))


def new_generation(cluster: Cluster) -> Cluster:
    hosts = tuple(
        host._replace(member=ABSENT, watched=False, young=False, reply_young=False)
        for host in cluster.hosts
    )
    return Cluster(cluster.gen + 1, False, False, hosts)


def keeps(rules: Rules) -> tuple[bool, bool]:
    """Whether scripts and offers of an older generation still count (by the rules: neither)."""
    return not rules.old_scripts_void, not rules.old_offers_void


COMMON = (see_generation, fence, crash, lag_begins, roll_back, lose_data)
COARSE: dict[str, Callable[[Rules, Cluster], Turns]] = {
    step.__name__: step for step in (*COMMON, renew, lapse, bury)
}
FINE: dict[str, Callable[[Rules, Cluster], Turns]] = {
    step.__name__: step for step in (*COMMON, renew_fine, hear, sight, lapse_fine, bury_sighted)
}


def untouched(actor: Actor) -> Actor:
    return actor


def seen(actor: Actor, host: int, gen: int, void: bool) -> Actor:
    """Rule 9: ``host`` waits no more for what an older generation would have answered."""
    local = actor.locals[host]
    waits = local.mode in (CLAIMING, RESUMING)
    late = local.mode == GRANTED and local.gen < gen and void
    return forsaken(actor, host) if waits or late else actor


def asserted(actor: Actor, host: int, gen: int) -> Actor | None:
    """``actor``; None if ``host`` runs it and has not asserted it in generation ``gen``."""
    local = actor.locals[host]
    return actor if local.mode != ACTIVE or local.gen == gen else None


def vanished(actor: Actor, host: int, member: int, stops: bool) -> Actor:
    """The incarnation at ``host`` is no more: its records and scripts remain, under a new name."""
    gone = GONE + len(actor.members)

    def renamed(location: Location) -> Location:
        return location._replace(owner=gone) if location.owner == host else location

    flight = tuple(
        item._replace(inc=gone, awaited=False) if item.inc == host else item
        for item in actor.flight
        if not (item.kind == OFFER and item.inc == host)
    )
    copy = None if actor.copy is None else (renamed(actor.copy[0]), actor.copy[1])
    actor = actor._replace(
        location=renamed(actor.location), copy=copy, flight=flight, members=(*actor.members, member)
    )
    return put(actor, host, NOT_HERE) if stops else actor


def copied(actor: Actor) -> Actor:
    return actor._replace(copy=(actor.location, actor.saved))


def rolled_back(actor: Actor, keep: tuple[bool, bool]) -> Actor:
    assert actor.copy is not None
    location, saved = actor.copy
    return emptied(actor, keep)._replace(location=location, saved=saved)


def emptied(actor: Actor, keep: tuple[bool, bool]) -> Actor:
    scripts, offers = keep
    flight = tuple(i for i in actor.flight if (offers if i.kind == OFFER else scripts))
    members = (ABSENT,) * len(actor.members)
    return actor._replace(location=FREE, saved=UNSAVED, copy=None, flight=flight, members=members)


EFFECTS: dict[str, Callable[..., Actor | None]] = {
    effect.__name__: effect
    for effect in (untouched, seen, asserted, vanished, copied, rolled_back, emptied)
}
