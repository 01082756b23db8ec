"""A counter-example told step by step, hosts and actors keeping their names throughout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.simulation.model import hosting, lives
from tests.simulation.model.search import Found
from tests.simulation.model.shape import shaped
from tests.simulation.model.space import NOWHERE, Space
from tests.simulation.model.state import (
    FRESH,
    GONE,
    KINDS,
    LAPSED,
    MEMBERSHIPS,
    MODES,
    NOBODY,
    NONE,
    Actor,
    Cluster,
    Host,
    Item,
    Local,
)


class Scene(NamedTuple):
    """A state as it is told: nothing renamed."""

    budget: int
    cluster: Cluster
    actors: tuple[Actor, ...]


class Event(NamedTuple):
    title: str
    rule: str
    scene: Scene
    broken: str


def tell(space: Space, found: Found) -> Iterator[str]:
    """The lines of the counter-example in ``found``."""
    scene = opening(space)
    yield from ("0. at first", *describe(scene))
    for index, state in enumerate(found.path[1:], 1):
        event = next(e for e in events(space, scene) if packed(space, e.scene) == state)
        scene = event.scene
        yield from (f"{index}. {event.title}   ({event.rule})", *describe(scene))
    if found.by_step:
        event = next(e for e in events(space, scene) if e.broken == found.broken)
        yield f"{len(found.path)}. {event.title}   ({event.rule})"
        yield from describe(event.scene)
    yield f"BROKEN: {found.broken}"


def opening(space: Space) -> Scene:
    budget, cluster, numbers = space.unpack(space.start)
    actors = tuple(space.actors[number] for number in numbers)
    return Scene(budget, space.clusters[cluster], actors)


def packed(space: Space, scene: Scene) -> int:
    ids = [space.actors.number(actor) for actor in scene.actors]
    return space.pack(scene.budget, space.clusters.number(scene.cluster), ids)


def events(space: Space, scene: Scene) -> Iterator[Event]:
    """All that may happen next, told with names."""
    for index in range(len(scene.actors)):
        yield from actor_events(space, scene, index)
    yield from cluster_events(space, scene)


def actor_events(space: Space, scene: Scene, index: int) -> Iterator[Event]:
    budget, cluster, actors = scene
    for name, table in hosting.STEPS.items():
        for step in table(space.rules, cluster, actors[index]):
            left = space.left[budget][step.cost]
            if left != NOWHERE:
                after = shaped(step.actor, space.prune)
                then = Scene(left, step.cluster, (*actors[:index], after, *actors[index + 1 :]))
                title = f"{name} {words(step.what)}, actor {index + 1}"
                yield Event(title, headline(table), then, step.broken)


def cluster_events(space: Space, scene: Scene) -> Iterator[Event]:
    budget, cluster, actors = scene
    for name, table in space.turn_table.items():
        for turn in table(space.rules, cluster):
            left = space.left[budget][turn.cost]
            effect, *arguments = turn.effect
            after = [lives.EFFECTS[str(effect)](actor, *arguments) for actor in actors]
            if left != NOWHERE and None not in after:
                parts = tuple(shaped(actor, space.prune) for actor in after if actor)
                then = Scene(left, turn.cluster, parts)
                yield Event(f"{name} {words(turn.what)}", headline(table), then, "")


def headline(step: object) -> str:
    return (step.__doc__ or "").strip().split("\n")[0]


def words(what: tuple[object, ...]) -> str:
    return " ".join(str(word) for word in what)


def name_of(inc: int) -> str:
    if inc == NOBODY:
        return "nobody"
    return f"gone{inc - GONE}" if inc >= GONE else f"host{inc}"


def describe(scene: Scene) -> Iterator[str]:
    """What there is to see, a line for the cluster and some for each actor."""
    cluster = scene.cluster
    hosts = ", ".join(describe_host(index, host) for index, host in enumerate(cluster.hosts))
    yield f"      server: generation {cluster.gen}; {hosts}"
    for index, actor in enumerate(scene.actors):
        yield f"      actor {index + 1}: {describe_actor(actor)}"


def describe_host(index: int, host: Host) -> str:
    text = f"host{index} {MEMBERSHIPS[host.member]}, knows {host.gen}, lease {lease_of(host.lease)}"
    text += f", reply of {host.reply} under way" if host.reply >= 0 else ""
    return text + (", watched" if host.watched else "")


def lease_of(lease: int) -> str:
    return {FRESH: "none", LAPSED: "lapsed"}.get(lease, f"of {lease}")


def describe_actor(actor: Actor) -> str:
    owner, epoch = actor.location
    text = f"at {name_of(owner)} epoch {epoch}, saved {tuple(actor.saved)}"
    if actor.copy is not None:
        text += f", copy has {name_of(actor.copy[0].owner)} {actor.copy[0].epoch}"
    here = [
        f"host{host} {describe_local(local)}"
        for host, local in enumerate(actor.locals)
        if local.mode
    ]
    flight = [describe_item(item) for item in actor.flight]
    return "; ".join([text, *here, *(["in flight " + ", ".join(flight)] if flight else [])])


def describe_local(local: Local) -> str:
    text = f"{MODES[local.mode]} {local.epoch or local.offered}"
    return text + (f" (snapshot of {local.snapshot})" if local.snapshot != NONE else "")


def describe_item(item: Item) -> str:
    waits = "" if item.awaited else " (nobody waits)" if item.kind == 0 else ""
    return (
        f"{KINDS[item.kind]} {name_of(item.inc)} {item.epoch}/{item.number} gen {item.gen}{waits}"
    )
