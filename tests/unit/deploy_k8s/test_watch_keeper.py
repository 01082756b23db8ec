"""Evidence reaches the registry: once, again when the registry was away, and never wrongly."""

from __future__ import annotations

import trio
import trio.testing

from deploy.watch.evidence import Evidence, Standing
from deploy.watch.keeper import Keeper, buried_by_counter
from deploy.watch.objects import Death
from deploy.watch.verdicts import Birth
from placement.memory import MemoryRegistry, MemoryStore
from placement.ports import RegistryUnavailable
from placement.records import Member, MemberState, View

BIRTH = Birth("uid-a", 1000.5)
DEATH = Death(1000.0, 1060.0, "Error")


class Flaky(MemoryRegistry):
    """A registry that can be out of reach, and counts the changes asked of it."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.is_away = False
        self.changes = 0

    async def set_member(self, incarnation: str, **change: object) -> View:  # type: ignore[override]
        self.changes += 1
        if self.is_away:
            raise RegistryUnavailable("away")
        return await super().set_member(incarnation, **change)  # type: ignore[arg-type]


class World:
    def __init__(self) -> None:
        self.registry = Flaky(MemoryStore())
        self.counters: dict[str, int] = {}
        self.keeper = Keeper(
            self.registry,
            births=lambda view: {"inc-a": BIRTH},
            bury=buried_by_counter(self.registry, lambda: self.counters),
            clock=trio.current_time,
        )

    async def start(self, nursery: trio.Nursery) -> None:
        await self.registry.join(Member("a", "inc-a", "10.0.0.1:50051"))
        nursery.start_soon(self.keeper.run)
        await trio.testing.wait_all_tasks_blocked()

    async def put(self, standing: Standing, *deaths: Death) -> None:
        self.keeper.put((Evidence("a", "uid-a", standing, deaths),))
        self.keeper.set_live(True)
        await trio.testing.wait_all_tasks_blocked()

    async def member(self) -> Member | None:
        return next(iter((await self.registry.view()).members), None)


async def test_not_ready_terminating_and_death_are_written_one_after_the_other(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    await world.start(nursery)
    await world.put(Standing.NOT_READY)
    member = await world.member()
    assert member is not None
    assert not member.ready
    assert member.state is MemberState.UP
    await world.put(Standing.READY)
    member = await world.member()
    assert member is not None
    assert member.ready
    await world.put(Standing.TERMINATING)
    member = await world.member()
    assert member is not None
    assert member.state is MemberState.DRAINING
    world.counters = (await world.registry.renew("inc-a", 7)).counters
    await world.put(Standing.GONE, DEATH)
    assert await world.member() is None


async def test_evidence_waits_for_a_registry_that_is_away(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    await world.start(nursery)
    world.registry.is_away = True
    await world.put(Standing.NOT_READY)
    await trio.sleep(5)
    assert world.registry.changes >= 5
    world.registry.is_away = False
    await trio.sleep(2)
    member = await world.member()
    assert member is not None
    assert not member.ready


async def test_a_counter_that_still_moves_contradicts_the_proof(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    await world.start(nursery)
    world.counters = {"inc-a": 6}
    await world.registry.renew("inc-a", 7)
    await world.put(Standing.READY, DEATH)
    await trio.sleep(5)
    assert await world.member() is not None
    world.counters = {"inc-a": 7}  # our next renewal tells, and the dead host's stays there
    await trio.sleep(2)
    assert await world.member() is None


async def test_what_another_host_changes_is_left_alone_for_a_while(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    await world.start(nursery)
    await world.put(Standing.READY)
    await MemoryRegistry.set_member(world.registry, "inc-a", ready=False)
    world.keeper.view_changed(0, 0)
    await trio.sleep(30)
    assert world.registry.changes == 0
    await trio.sleep(120)
    assert world.registry.changes == 1
    member = await world.member()
    assert member is not None
    assert member.ready


async def test_a_broken_watch_writes_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    await world.start(nursery)
    world.keeper.put((Evidence("a", "uid-a", Standing.TERMINATING),))
    world.keeper.set_live(False)
    await trio.sleep(300)
    assert world.registry.changes == 0


async def test_a_host_that_joins_after_the_evidence_is_judged_too(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    nursery.start_soon(world.keeper.run)
    await world.put(Standing.NOT_READY)
    await world.registry.join(Member("a", "inc-a", "10.0.0.1:50051"))
    world.keeper.view_changed(1, 1)
    await trio.testing.wait_all_tasks_blocked()
    member = await world.member()
    assert member is not None
    assert not member.ready
