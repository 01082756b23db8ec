"""The canonical shape of an actor part: states that differ only in names become one.

Epochs are only compared, so their ranks do; so do the numbers of incarnations that are gone.
Messages that can never again have an effect are dropped. A decision module: pure.
"""

from __future__ import annotations

from tests.simulation.model.state import (
    ACTIVE,
    ASSERT,
    BURIED,
    CLAIM,
    GONE,
    NONE,
    NOT_HERE,
    OFFER,
    SAVE,
    Actor,
    Cluster,
    Item,
    Local,
    Location,
    Saved,
    fly,
)


def epochs_of(actor: Actor) -> set[int]:
    """Every epoch that anybody remembers."""
    (_, location), (saved, _), copy, top, locals_, flight, _ = actor
    epochs = {top, location, saved}
    if copy is not None:
        epochs.add(copy[0].epoch)
        epochs.add(copy[1].epoch)
    for local in locals_:
        if local is not NOT_HERE:
            _, epoch, snapshot, _, _, offered, _ = local
            epochs.update((epoch, snapshot, offered))
    for kind, _, epoch, number, _, _, _ in flight:
        epochs.add(epoch)
        if kind == OFFER:
            epochs.add(number)
    return epochs


def shaped(actor: Actor, prune: bool) -> Actor:
    """The canonical form. ``prune``: drop dead letters, which is only right under all rules."""
    if prune and actor.flight:
        flight = tuple(item for item in actor.flight if not is_dead_letter(actor, item))
        actor = actor if flight == actor.flight else fly(actor, flight)
    actor = with_orders_ranked(with_epochs_ranked(actor))
    return with_flight_sorted(with_gone_renumbered(actor))


def with_orders_ranked(actor: Actor) -> Actor:
    """Number each sender's claims and assertions in flight from 0."""
    if not any(item.order for item in actor.flight):
        return actor
    ordered = {(item.inc, item.order) for item in actor.flight if item.kind in (CLAIM, ASSERT)}
    rank = {
        (inc, order): sum(1 for other in ordered if other[0] == inc and other[1] < order)
        for inc, order in ordered
    }
    flight = tuple(
        item._replace(order=rank.get((item.inc, item.order), 0)) for item in actor.flight
    )
    return fly(actor, flight)


def is_dead_letter(actor: Actor, item: Item) -> bool:
    """Whether a script or offer can never again have an effect.

    The location that it names is gone for good once a higher epoch is there, unless something
    still runs at the old one, or was, and may be asserted (rule 9).
    """
    kind, inc, epoch, number, _, awaited, _ = item
    if awaited:
        return False
    if inc >= GONE and actor.members[inc - GONE] == BURIED and kind in (CLAIM, ASSERT):
        return True
    if kind == ASSERT or epoch == NONE:
        return False
    if kind == SAVE and Saved(epoch, number) <= actor.saved:
        return True
    return epoch < actor.location.epoch and not may_return(actor, epoch)


def may_return(actor: Actor, epoch: int) -> bool:
    """Whether the location may be asserted at ``epoch``."""
    running = any(local.mode == ACTIVE and local.epoch == epoch for local in actor.locals)
    return running or any(item.kind == ASSERT and item.epoch == epoch for item in actor.flight)


def with_epochs_ranked(actor: Actor) -> Actor:
    epochs = epochs_of(actor)
    if max(epochs) == len(epochs) - (NONE in epochs):
        return actor
    rank = {epoch: index for index, epoch in enumerate(sorted(epochs | {NONE}))}
    location, saved, copy, top, locals_, flight, members = actor
    return Actor(
        located(location, rank),
        Saved(rank[saved.epoch], saved.number),
        copy and (located(copy[0], rank), Saved(rank[copy[1].epoch], copy[1].number)),
        rank[top],
        tuple([ranked_local(local, rank) for local in locals_]),
        tuple([ranked_item(item, rank) for item in flight]),
        members,
    )


def ranked_local(local: Local, rank: dict[int, int]) -> Local:
    mode, epoch, snapshot, gen, number, offered, offered_gen = local
    return Local(mode, rank[epoch], rank[snapshot], gen, number, rank[offered], offered_gen)


def ranked_item(item: Item, rank: dict[int, int]) -> Item:
    kind, inc, epoch, number, gen, awaited, order = item
    number = rank[number] if kind == OFFER else number
    return Item(kind, inc, rank[epoch], number, gen, awaited, order)


def located(location: Location, rank: dict[int, int]) -> Location:
    return Location(location.owner, rank[location.epoch])


def with_gone_renumbered(actor: Actor) -> Actor:
    """Forget the gone that nothing names any more, and number the others by first mention."""
    if not actor.members:
        return actor
    owners = [actor.location.owner]
    owners += [actor.copy[0].owner] if actor.copy is not None else []
    owners += [item.inc for item in sorted(actor.flight)]
    named = [inc for inc in dict.fromkeys(owners) if inc >= GONE]
    if named == [GONE + index for index in range(len(actor.members))]:
        return actor
    members = tuple(actor.members[inc - GONE] for inc in named)
    renamed = {inc: GONE + index for index, inc in enumerate(named)}
    return renumbered(actor, renamed)._replace(members=members)


def renumbered(actor: Actor, names: dict[int, int]) -> Actor:
    """``actor`` with incarnations renamed; those not in ``names`` keep theirs."""

    def of(location: Location) -> Location:
        return Location(names.get(location.owner, location.owner), location.epoch)

    def sent_by(item: Item) -> Item:
        kind, inc, epoch, number, gen, awaited, order = item
        return Item(kind, names.get(inc, inc), epoch, number, gen, awaited, order)

    location, saved, copy, top, locals_, flight, members = actor
    copy = copy and (of(copy[0]), copy[1])
    flight = tuple([sent_by(item) for item in flight])
    return Actor(of(location), saved, copy, top, locals_, flight, members)


def with_flight_sorted(actor: Actor) -> Actor:
    flight = tuple(sorted(actor.flight))
    return actor if flight == actor.flight else fly(actor, flight)


def permuted(actor: Actor, order: tuple[int, ...]) -> Actor:
    """``actor`` with host ``order[i]`` now called ``i``."""
    names = {old: new for new, old in enumerate(order)}
    actor = renumbered(actor, names)._replace(locals=tuple(actor.locals[old] for old in order))
    return with_flight_sorted(with_gone_renumbered(actor))


def permuted_cluster(cluster: Cluster, order: tuple[int, ...]) -> Cluster:
    return cluster._replace(hosts=tuple(cluster.hosts[old] for old in order))
