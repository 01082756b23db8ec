"""Reminders: they outlive activations and hosts, and reach their actor wherever it lives."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock

import actors
from actors import Actor, HostSystem, handler
from actors.testing import open_cluster
from tests.unit.actors.cluster_kit import keys_owned_by

#: (actor, reminder, host, when) of each that fired, on any host.
fired: list[tuple[str, str, str, float]] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    fired.clear()


class Alarms(msgspec.Struct):
    rung: int = 0
    refusals: int = 0


class Clock(Actor, persist="turn"):
    state: Alarms

    @handler
    async def set(self, name: str, after_s: float, every_s: float = 0.0) -> None:
        await self.set_reminder(name, after_s, every_s=every_s)

    @handler
    async def cancel(self, name: str) -> bool:
        return await self.cancel_reminder(name)

    @handler
    def refuse(self, times: int) -> None:
        self.state.refusals = times

    @handler
    def rung(self) -> int:
        return self.state.rung

    @handler
    def rest(self) -> None:
        self.passivate()

    async def on_reminder(self, name: str) -> None:
        if self.state.refusals:
            self.state.refusals -= 1
            raise RuntimeError("not now")
        self.state.rung += 1
        fired.append((str(self.id), name, self.system.host_id, trio.current_time()))


def _key(host: HostSystem) -> str:
    return next(keys_owned_by(host, Clock))


async def test_a_reminder_wakes_an_actor_that_rests_when_its_time_has_come(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Clock], hosts=2) as cluster:
        first = cluster.hosts[0]
        ref = first.ref(Clock, "a")
        await ref.set("tea", 60.0)
        await ref.rest()
        await trio.sleep(58)
        assert not fired
        assert not any(actors.actor_id("Clock", "a") in host.activations for host in cluster.hosts)
        await trio.sleep(5)
        assert [(actor, name) for actor, name, _, _ in fired] == [("Clock/a", "tea")]
        await trio.sleep(300)
        assert len(fired) == 1


async def test_a_repeated_reminder_keeps_its_rhythm_until_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Clock], hosts=2) as cluster:
        ref = cluster.hosts[0].ref(Clock, "a")
        began_s = trio.current_time()
        await ref.set("tick", 10.0, 20.0)
        await trio.sleep(95)
        times = [at - began_s for _, _, _, at in fired]
        assert times == [pytest.approx(10 + 20 * n, abs=2.5) for n in range(5)]
        assert await ref.cancel("tick")
        assert not await ref.cancel("tick")
        await trio.sleep(60)
        assert len(fired) == 5


async def test_reminders_follow_an_actor_that_moves_and_its_state_counts_each_once(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Clock], hosts=2) as cluster:
        first, leaver = cluster.hosts
        key = _key(leaver)
        await first.ref(Clock, key).set("tick", 5.0, 5.0)
        await trio.sleep(12)
        assert {host for _, _, host, _ in fired} == {leaver.host_id}
        await cluster.drain(leaver)
        before = len(fired)
        await trio.sleep(20)
        assert len(fired) >= before + 3
        assert {host for _, _, host, _ in fired[before:]} == {first.host_id}
        assert await first.ref(Clock, key).rung() == len(fired)


async def test_reminders_outlive_the_host_of_their_actor(autojump_clock: MockClock) -> None:
    async with open_cluster([Clock], hosts=2) as cluster:
        first, victim = cluster.hosts
        await first.ref(Clock, _key(victim)).set("later", 4.0)
        await cluster.kill(victim)
        await trio.sleep(30)
        assert [(name, host) for _, name, host, _ in fired] == [("later", first.host_id)]


async def test_a_reminder_that_the_actor_did_not_take_comes_again(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Clock], hosts=1) as cluster:
        ref = cluster.hosts[0].ref(Clock, "a")
        await ref.refuse(2)
        await ref.set("tea", 5.0)
        await trio.sleep(30)
        assert [name for _, name, _, _ in fired] == ["tea"]


async def test_whoever_is_stopped_has_no_reminders_any_more(autojump_clock: MockClock) -> None:
    async with open_cluster([Clock], hosts=2) as cluster:
        first = cluster.hosts[0]
        await first.ref(Clock, "a").set("tea", 30.0)
        assert await first.stop(first.ref(Clock, "a"))
        await trio.sleep(100)
        assert not fired


async def test_a_local_system_has_reminders_too(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await system.ref(Clock, "a").set("at once", 0.0)
        await trio.sleep(3)
        assert [name for _, name, _, _ in fired] == ["at once"]
