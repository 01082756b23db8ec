"""The end of a simulated run: all faults stop, and everything must come right within a bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

import actors
from actors.durables import SCAN_EVERY_S
from placement.view import live_incarnations
from tests.simulation.events import Called, Read
from tests.simulation.kinds import KINDS
from tests.simulation.world import Life, World
from wire.errors import RoostError

HOSTS_MIN = 2
POLL_S = 0.05
#: A question from host to host has 5 s, and what it was about may have to be asked once more.
LEFTOVERS_S = 15.0


def settle_bound_s(world: World) -> float:
    """Within so many seconds after the last fault all views agree, and all calls are answered.

    A lease until a lost host notices, a proof (lease + margin) until it is buried, another for
    claims to wait in a new generation; then the longest call, and a drain.
    """
    ttl_s = world.sizes.lease_ttl_s
    return 2 * ttl_s + 2 * 1.2 * ttl_s + 10.0 + 10.0


async def finish(world: World) -> None:
    """Stop all faults, let everything settle, read every actor, and drain all hosts."""
    world.calm_down()
    world.is_closing = True
    for _ in range(HOSTS_MIN - len(world.up())):
        world.start()
    bound_s = settle_bound_s(world)
    await world.all_ready()
    if not await _within(bound_s, lambda: is_settled(world)):
        world.broken(f"not settled within {bound_s:.1f} s: {why_unsettled(world)}")
    await _revived(world, bound_s + SCAN_EVERY_S)
    await _read_all(world)
    if not await _within(LEFTOVERS_S, lambda: not leftovers(world)):
        world.broken(f"left behind: {leftovers(world)}")
    for life in world.up():
        world.drain(life)
    if not await _within(30.0, lambda: not world.lives):
        world.broken(f"hosts that do not end: {sorted(world.lives)}")
    for life in list(world.lives.values()):
        world.crash(life)


async def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = trio.current_time() + seconds
    while not holds():
        if trio.current_time() > until:
            return False
        await trio.sleep(POLL_S)
    return True


def is_settled(world: World) -> bool:
    return not why_unsettled(world)


def why_unsettled(world: World) -> str:
    """What has not come right yet; "" when all has."""
    lives = world.up()
    if len(lives) < min(HOSTS_MIN, len(world.lives)) or len(lives) != len(world.lives):
        return "hosts that have neither started nor ended: " + str(
            sorted(world.lives.keys() - {life.name for life in lives})
        )
    view = world.server.store.view()
    live = {life.incarnation for life in lives}
    if live_incarnations(view) != live:
        return f"the registry knows {sorted(live_incarnations(view))}, alive are {sorted(live)}"
    for life in lives:
        assert life.host is not None
        system = life.host.system
        if life.programs or world.clients:
            return f"{life.name} has programs that do not end"
        if not system.is_serving():
            return f"{life.name} does not serve"
        if system.view != view:
            return f"{life.name} has an old view"
        if system.router.outgoing.calls or system.router.receiver._calls:
            return f"{life.name} has calls without an answer"
    return ""


async def _revived(world: World, bound_s: float) -> None:
    """Durable actors run again by themselves."""

    def missing() -> list[str]:
        running = {
            str(id)
            for life in world.up()
            if life.host is not None
            for id in life.host.system.activations
        }
        return sorted(world.durables.keys() - running)

    if world.durables and not await _within(bound_s, lambda: not missing()):
        world.broken(f"durable actors that do not come back: {missing()}")


async def _read_all(world: World) -> None:
    """Ask every actor that was called what it has seen, each from another host."""
    lives = world.up()
    targets = sorted({e.actor for e in world.events if isinstance(e, Called)})
    for number, target in enumerate(targets):
        kind, _, key = target.partition("/")
        if kind == "Relay":
            continue
        life = lives[number % len(lives)]
        assert life.host is not None
        ref = actors.with_timeout(life.host.system.ref(KINDS[kind], key), 10.0)
        try:
            ops = await ref.read()
        except RoostError as exc:
            world.broken(f"{target} does not answer at the end: {type(exc).__name__}: {exc}")
        else:
            world.log(Read(trio.current_time(), target, tuple(ops)))


def leftovers(world: World) -> list[str]:
    """What is under way on any host: nothing, once all calls are answered."""
    return [left for life in world.up() for left in _left_on(life)]


def _left_on(life: Life) -> list[str]:
    assert life.host is not None
    system = life.host.system
    router = system.router
    left: dict[str, list[Any]] = {
        "outgoing calls": [f"{c.target}.{c.method}" for c in router.outgoing.calls.values()],
        "incoming calls": [str(c.activation.id) for c in router.receiver._calls.values()],
        "questions": [w.incarnation for w in router.requests._waiting.values()],
        "waits for quiet": list(system.lifecycle._quiet),
        "outboxes": [b for b in router.outgoing._outboxes.values() if not b.is_idle],
        "mailboxes": [a for a in system.activations.values() if a.depth],
    }
    return [f"{life.name}: {what}: {found}" for what, found in left.items() if found]
