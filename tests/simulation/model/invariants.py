"""What must hold in every state, of each actor; and what must stay within reach.

The invariants of single steps (saves, epochs, snapshots) are where those steps are: server.py and
hosting.py. A decision module: pure.
"""

from __future__ import annotations

from tests.simulation.model.state import ACTIVE, Actor, Cluster, may_act, up_to_date

TWO_ACT = "two activations of one actor may act"
DISPLACED = "an activation under a lease of this generation has lost its location"
NOT_HIGHER = "an activation began at an epoch that is not higher than all before it"
WENT_BACK = "a location's epoch went back below one that has run"
NOT_NEWEST = "a save was accepted from an activation that is not the newest"
OLDER_SAVE = "a save was accepted that is older than the one stored"
OLD_SNAPSHOT = "an activation began from a snapshot older than an accepted save"
STUCK = "from here no recovery makes every actor active"

CHECKED = {
    TWO_ACT: "never two activations of one actor that may act",
    DISPLACED: "who holds a lease of this generation keeps the locations of what it runs",
    NOT_HIGHER: "epochs only grow, so an offered activation never resumes at its old one",
    WENT_BACK: "nor is a location written at an epoch below one that has run",
    NOT_NEWEST: "no save is accepted from an activation that is not the newest",
    OLDER_SAVE: "nor one older than what is stored",
    OLD_SNAPSHOT: "no activation begins from a snapshot older than an accepted save",
    STUCK: "every state can, without more faults, come to one where all actors are active",
}


def broken_in(cluster: Cluster, actor: Actor) -> str:
    """The first invariant of states that ``actor`` breaks; "" if none."""
    running = [
        host
        for host, local in enumerate(actor.locals)
        if local.mode == ACTIVE and may_act(cluster.hosts[host])
    ]
    if len(running) > 1:
        return TWO_ACT
    if any(is_displaced(cluster, actor, host) for host in running):
        return DISPLACED
    return ""


def is_displaced(cluster: Cluster, actor: Actor, host: int) -> bool:
    current = up_to_date(cluster, cluster.hosts[host])
    return current and actor.location != (host, actor.locals[host].epoch)


def is_well(cluster: Cluster, actor: Actor) -> bool:
    """Whether the actor serves: active, in its place, under a lease of this generation."""
    return any(
        local.mode == ACTIVE
        and up_to_date(cluster, cluster.hosts[host])
        and actor.location == (host, local.epoch)
        for host, local in enumerate(actor.locals)
    )
