"""What must hold in every state, of each actor; and what must stay within reach.

The invariants of single steps (saves, epochs, snapshots) are where those steps are: server.py and
hosting.py. A decision module: pure.
"""

from __future__ import annotations

from tests.simulation.model.state import ACTIVE, Actor, Cluster, may_act, up_to_date

CHECKED = (
    "never two activations of one actor that may act",
    "no save accepted from an activation that is not the newest, nor one older than the stored",
    "an actor's epochs only grow, so an offered activation never resumes at its old one",
    "no activation from a snapshot older than an accepted save",
    "an activation whose host holds a lease of this generation has its location",
    "from every state, without further faults, a state is reached where every actor is active",
)


def broken_in(cluster: Cluster, actor: Actor) -> str:
    """The first invariant of states that ``actor`` breaks; "" if none."""
    running = [
        host
        for host, local in enumerate(actor.locals)
        if local.mode == ACTIVE and may_act(cluster.hosts[host])
    ]
    if len(running) > 1:
        return "two activations of one actor may act"
    if any(is_displaced(cluster, actor, host) for host in running):
        return "an activation under a lease of this generation has lost its location"
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
