"""The memory registry's server: restarts, rollbacks, and a clock that steps both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement import Claim, Claimed, Location, MemoryRegistry, MemoryStore, StaleGeneration
from placement.records import Member

ACTOR = "Agent/a"
T = TypeVar("T")


class Clock:
    def __init__(self, now_s: float = 1e9) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


async def joined(store: MemoryStore, host: str, registry: MemoryRegistry | None = None) -> Any:
    registry = registry or MemoryRegistry(store)
    await registry.join(Member(host, host, f"{host}:1"))
    return registry


async def claimed(registry: MemoryRegistry, me: str, actor: str = ACTOR) -> int:
    [answer] = await registry.claim(me, [Claim(actor)])
    assert isinstance(answer, Claimed)
    return answer.epoch


def test_reminders_go_by_the_clock_that_the_store_was_given() -> None:
    async def play() -> None:
        clock = Clock()
        registry = MemoryRegistry(MemoryStore(clock))
        await registry.set_reminder(ACTOR, "wake", 10.0, 60.0)
        clock.now_s += 9.999
        assert await registry.due_reminders(1) == []
        clock.now_s += 0.001
        [reminder] = await registry.due_reminders(1)
        assert reminder.due_ms == 1_000_000_010_000
        clock.now_s += 130.0
        await registry.reminder_fired(reminder)
        clock.now_s += 49.999
        assert await registry.due_reminders(1) == []
        clock.now_s += 0.001
        [reminder] = await registry.due_reminders(1)
        assert reminder.due_ms == 1_000_000_190_000

    done(play())


def test_clock_that_steps_back_between_due_and_report_moves_the_next_time_one_period_on() -> None:
    async def play() -> None:
        clock = Clock()
        registry = MemoryRegistry(MemoryStore(clock))
        await registry.set_reminder(ACTOR, "wake", 0.0, 60.0)
        [reminder] = await registry.due_reminders(1)
        clock.now_s -= 3600.0
        await registry.reminder_fired(reminder)
        clock.now_s += 3659.999
        assert await registry.due_reminders(1) == []
        clock.now_s += 0.001
        assert len(await registry.due_reminders(1)) == 1

    done(play())


def test_snapshot_is_not_changed_by_what_comes_later() -> None:
    async def play() -> None:
        store = MemoryStore(Clock())
        a = await joined(store, "a")
        epoch = await claimed(a, "a")
        await a.save("a", ACTOR, epoch, 1, b"old")
        await a.keep_spec("a", ACTOR, epoch, b"spec")
        await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
        snapshot = store.snapshot()
        for _ in range(2):
            await a.save("a", ACTOR, epoch, 2, b"new")
            await a.end_durable("a", ACTOR, epoch)
            store.rollback(snapshot)
            assert (await a.view()).members == ()
            assert await a.locate([ACTOR]) == [Location("a", epoch)]
            assert (await a.load(ACTOR)).data == b"old"
            assert [spec for _, spec, _ in await a.specs([(0, 2**64 - 1)], 9)] == [b"spec"]
            assert len(await a.due_reminders(9)) == 1
            await joined(store, "a", a)

    done(play())


@pytest.mark.parametrize("stepped_back_s", [0.0, 1e6])
def test_emptied_server_hears_from_its_hosts_how_far_generations_and_epochs_were(
    stepped_back_s: float,
) -> None:
    async def play() -> None:
        clock = Clock()
        store = MemoryStore(clock)
        store.restart(keep_data=True)
        a = await joined(store, "a")
        far, generation = await claimed(a, "a"), store.generation
        clock.now_s -= stepped_back_s
        store.restart(keep_data=False)
        newcomer = await joined(store, "b")
        with pytest.raises(StaleGeneration) as stale:
            await a.renew("a", 1)
        assert stale.value.view.generation > generation
        if stepped_back_s:  # the newcomer's generation was one of the past: void as well
            with pytest.raises(StaleGeneration):
                await newcomer.renew("b", 1)
        await joined(store, "b", newcomer)
        assert await claimed(newcomer, "b") > far

    done(play())


def test_newcomer_gets_an_epoch_above_those_in_the_data_of_a_server_whose_clock_lags() -> None:
    async def play() -> None:
        clock = Clock()
        store = MemoryStore(clock)
        store.restart(keep_data=True)
        far = await claimed(await joined(store, "a"), "a")
        clock.now_s -= 1e6
        store.restart(keep_data=True)
        assert await claimed(await joined(store, "b"), "b") > far

    done(play())


steps = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from("abc")),
    st.tuples(st.just("claim"), st.sampled_from("abc")),
    st.tuples(st.just("locate"), st.sampled_from("abc")),
    st.tuples(st.just("fresh"), st.sampled_from("abc")),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("snapshot")),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("step"), st.sampled_from([-1, 1])),
)


class Play:
    """Hosts that claim while their server restarts, rolls back and tells the wrong time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.store.restart(keep_data=False)
        self.snapshot = self.store.snapshot()
        self.generations = [self.store.generation]
        self.store.callbacks.append(self.hear)
        self.hosts = {host: MemoryRegistry(self.store) for host in "abc"}
        self.heard = dict.fromkeys("abc", 0)

    def hear(self, generation: int, version: int) -> None:
        if generation != self.generations[-1]:
            self.generations.append(generation)

    async def step(self, name: str, *args: Any) -> None:
        match name:
            case "restart":
                self.store.restart(keep_data=args[0])
            case "snapshot":
                self.snapshot = self.store.snapshot()
            case "rollback":
                self.store.rollback(self.snapshot)
            case "fresh":
                self.hosts[args[0]], self.heard[args[0]] = MemoryRegistry(self.store), 0
            case "step":
                self.clock.now_s += args[0] * 1000.0
            case _:
                await self.call(name, args[0])

    async def call(self, name: str, host: str) -> None:
        registry = self.hosts[host]
        await registry.join(Member(host, host, f"{host}:1"))
        before = registry.generation
        if name == "locate":
            found = await registry.locate(["K/a", "K/b", "K/c"])
            epochs = [location.epoch for location in found if location is not None]
            self.heard[host] = max([self.heard[host], *epochs])
        else:
            recorded = self.store.locations.get(f"K/{host}", Location("", 0)).epoch
            epoch = await claimed(registry, host, f"K/{host}")
            assert epoch > max(self.heard[host], recorded)
            self.heard[host] = epoch
        assert registry.generation == before == self.store.generation


@settings(max_examples=400, deadline=None)
@given(st.lists(steps, max_size=30))
def test_no_generation_begins_twice_and_no_epoch_is_below_what_its_host_or_the_data_knew(
    plan: list[tuple[Any, ...]],
) -> None:
    async def play() -> None:
        cluster = Play()
        for step in plan:
            await cluster.step(*step)
        assert len(set(cluster.generations)) == len(cluster.generations)

    done(play())
