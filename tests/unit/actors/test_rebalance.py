"""When a host's actors move, how many at a time, and when they stay, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import actors
from actors import Actor, HostSystem, handler
from actors.config import SystemConfig
from actors.membership import Membership
from actors.testing import Cluster, ClusterConfig, open_cluster
from placement.handoff import Caps
from placement.records import View
from tests.unit.actors.cluster_kit import keys_owned_by

SETTLED_S = 10.0


class Page(Actor):
    def __init__(self) -> None:
        self.text = b""

    @handler
    def write(self, text: str) -> None:
        self.text = text.encode()

    @handler
    def read(self) -> str:
        return self.text.decode()

    def snapshot(self) -> bytes:
        return self.text

    def restore(self, snapshot: bytes) -> None:
        if snapshot == b"unreadable":
            raise RuntimeError("I cannot read this")
        self.text = snapshot


@dataclass
class Census:
    """What moved in a cluster."""

    cluster: Cluster

    def of(self, host: HostSystem) -> int:
        return sum(id.kind == "Page" for id in host.activations)

    @property
    def moved(self) -> int:
        return sum(host.statistics().moves.moved for host in self.cluster.hosts)

    @property
    def refused(self) -> int:
        return sum(host.statistics().moves.refused for host in self.cluster.hosts)


async def _write(host: HostSystem, keys: list[str]) -> None:
    for key in keys:
        await host.ref(Page, key).write(key)


async def _weigh(host: HostSystem, weight: float) -> None:
    await host.registry.set_member(host.me.incarnation, weight=weight)


@contextmanager
def _frozen_view(host: HostSystem) -> Iterator[None]:
    """The host hears of no later view, as if every word of it were lost."""

    def ignore(view: View) -> None:
        pass

    host.set_view = ignore  # type: ignore[method-assign]
    try:
        yield
    finally:
        del host.set_view
        membership = host.membership
        assert isinstance(membership, Membership)
        membership.heard_of(host.view.generation, host.view.version + 1)


# What makes actors move -------------------------------------------------------------------


async def test_a_host_of_more_weight_gets_its_share_and_gives_it_back(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Page], hosts=2) as cluster:
        first, second = cluster.hosts
        census = Census(cluster)
        keys = [f"k{n}" for n in range(400)]
        await _write(first, keys)
        assert 140 <= census.of(second) <= 260
        await _weigh(second, 3.0)
        await trio.sleep(SETTLED_S)
        assert 270 <= census.of(second) <= 330
        await _weigh(second, 0.0)  # neither dead nor draining: it has just no share any more
        await trio.sleep(SETTLED_S)
        assert census.of(second) == 0
        assert [await second.ref(Page, key).read() for key in keys] == keys
        assert census.refused == 0


async def test_views_that_come_and_go_within_a_second_move_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Page], hosts=2) as cluster:
        first, second = cluster.hosts
        census = Census(cluster)
        await _write(first, [f"k{n}" for n in range(200)])
        before = first.view.version
        for _ in range(10):
            for weight in (4.0, 1.0):
                await _weigh(second, weight)
                await trio.sleep(0.04)
        assert first.view.version >= before + 20
        await trio.sleep(SETTLED_S)
        assert census.moved == 0


async def test_many_changes_within_a_second_move_each_actor_once(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Page], hosts=2) as cluster:
        first, second = cluster.hosts
        census = Census(cluster)
        await _write(first, [f"k{n}" for n in range(200)])
        before = census.of(second)
        for weight in (1.5, 2.0, 2.5, 3.0):
            await _weigh(second, weight)
            await trio.sleep(0.1)
        await trio.sleep(SETTLED_S)
        assert census.moved == census.of(second) - before > 20


class Slow(Page):
    async def on_activate(self) -> None:
        await trio.sleep(20)


async def test_an_actor_that_starts_slowly_moves_once_it_runs(autojump_clock: MockClock) -> None:
    async with open_cluster([Slow], hosts=1) as cluster:
        first = cluster.hosts[0]
        keys = [f"k{n}" for n in range(20)]
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(first.ref(Slow, key).write, key)
            await trio.sleep(1)
            second = await cluster.add_host()
        await trio.sleep(40)
        ideal = set(keys) & {key for key in keys_owned_by(second, Slow) if int(key[1:]) < 20}
        assert {id.key for id in second.activations if id.kind == "Slow"} == ideal
        assert len(ideal) > 3


# Caps -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "most"),
    [(Caps(at_once=7, share=1.0), 7), (Caps(at_once=1_000, share=0.1), 20)],
    ids=["in number", "in share"],
)
async def test_no_more_move_at_a_time_than_the_caps_allow_and_none_is_forgotten(
    autojump_clock: MockClock, caps: Caps, most: int
) -> None:
    async with open_cluster([Page], hosts=1) as cluster:
        first = cluster.hosts[0]
        first.rebalancer._caps = caps
        census = Census(cluster)
        await _write(first, [f"k{n}" for n in range(200)])
        cluster.network.delay_s = (0.05, 0.1)  # so that a round can be looked at
        second = await cluster.add_host()
        seen = 0
        for _ in range(3_000):
            running = first.statistics().moves.running
            assert running <= most
            seen = max(seen, running)
            await trio.sleep(0.01)
        assert seen > most / 2
        ideal = sum(1 for key in _keys_of(second) if int(key[1:]) < 200)
        assert census.of(second) == ideal > 60


def _keys_of(host: HostSystem) -> list[str]:
    return [key for key in keys_owned_by(host, Page) if int(key[1:]) < 200]


# When views differ, or the new owner says no ----------------------------------------------


@pytest.mark.parametrize("stale", [0, 1], ids=["the older one here", "the older one there"])
async def test_two_hosts_whose_views_differ_never_pass_an_actor_back_and_forth(
    autojump_clock: MockClock, stale: int
) -> None:
    """For one host the ring gives half of the actors to the other, for the other all to the one:
    each would hand over what the other hands back."""
    async with open_cluster([Page], hosts=2) as cluster:
        behind, ahead = cluster.hosts[stale], cluster.hosts[1 - stale]
        census = Census(cluster)
        keys = [f"k{n}" for n in range(100)]
        await _write(ahead, keys)
        here = census.of(behind)
        with _frozen_view(behind):
            # The one that knows gives the other nearly all; the other thinks that nothing changed.
            await _weigh(behind, 20.0)
            await trio.sleep(120)
            assert census.moved == 0
            assert census.of(behind) == here
            assert 0 < census.refused <= (100 - here) * 8, "each try costs a claim"
            assert [await ahead.ref(Page, key).read() for key in keys] == keys
        await trio.sleep(60 + SETTLED_S)  # by then it has been tried again
        assert census.moved == census.of(behind) - here > 30


async def test_an_actor_whose_owner_is_full_is_offered_seldom_and_serves_meanwhile(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Page], hosts=1) as cluster:
        first = cluster.hosts[0]
        census = Census(cluster)
        keys = [f"k{n}" for n in range(60)]
        await _write(first, keys)
        small = await cluster.add_host(config=SystemConfig(capacity=5))
        await trio.sleep(100)
        assert census.of(small) == 5
        early = census.refused
        await trio.sleep(100)
        assert census.refused - early <= 60 * 2, "each offer costs a claim"
        assert [await small.ref(Page, key).read() for key in keys] == keys


async def test_an_actor_that_cannot_be_restored_there_stays_with_the_reason_and_the_rest_moves(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster([Page], hosts=1) as cluster:
        first = cluster.hosts[0]
        census = Census(cluster)
        keys = [f"k{n}" for n in range(60)]
        await _write(first, keys)
        await first.ref(Page, keys[0]).read()
        second = await cluster.add_host()
        mine = next(key for key in keys if key in _keys_of(second))
        await first.ref(Page, mine).write("unreadable")
        await trio.sleep(60)
        assert census.of(second) == len([k for k in keys if k in _keys_of(second)]) - 1
        assert await second.ref(Page, mine).read() == "unreadable"
        why, _ = first.failures[actors.actor_id("Page", mine)]
        assert why == f"Page/{mine}: restore raised RuntimeError: I cannot read this"
        assert caplog.text.count("could not be restored") <= 8


# Durable actors ---------------------------------------------------------------------------


class Keeper(Actor):
    @handler
    def hi(self) -> str:
        return self.system.host_id


@contextmanager
def _counted_specs(hosts: list[HostSystem]) -> Iterator[dict[str, list[str]]]:
    """Which specs each host reads in its ranges; the spec of one actor alone does not count."""
    read: dict[str, list[str]] = {host.host_id: [] for host in hosts}

    def count(host: HostSystem) -> Callable[..., Any]:
        specs = host.registry.specs

        async def counting(ranges: Any, limit: int) -> Any:
            page = await specs(ranges, limit)
            if any(first < last for first, last in ranges):
                read[host.host_id] += [name for name, _, _ in page]
            return page

        return counting

    for host in hosts:
        host.registry.specs = count(host)  # type: ignore[method-assign]
    try:
        yield read
    finally:
        for host in hosts:
            del host.registry.specs


async def test_after_a_death_the_others_read_each_spec_once_and_each_only_its_own(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Keeper, Page], hosts=3) as cluster:
        victim, *others = cluster.hosts
        for n in range(60):
            await victim.spawn(Keeper, f"d{n}", durable=True)
        await _write(victim, [f"k{n}" for n in range(200)])
        await trio.sleep(SETTLED_S)
        with _counted_specs(others) as read:
            await cluster.kill(victim)
            await cluster.wait_settled()
            await trio.sleep(2)
            assert sorted(name for names in read.values() for name in names) == sorted(
                f"Keeper/d{n}" for n in range(60)
            )
            for host in others:
                for name in read[host.host_id]:
                    owner = host.ring.owner(name)
                    assert owner is not None
                    assert owner.host_id == host.host_id
        assert sum(id.kind == "Keeper" for host in others for id in host.activations) == 60


async def test_a_durable_actor_comes_back_though_its_range_is_of_a_host_that_does_not_know_it(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Page], hosts=1) as cluster:
        cluster._kinds = (Keeper,)
        second = await cluster.add_host()
        third = await cluster.add_host()
        await cluster.wait_settled()
        for n in range(30):
            await second.spawn(Keeper, f"d{n}", durable=True)
        await trio.sleep(SETTLED_S)
        await cluster.kill(second)
        await cluster.wait_settled()
        await trio.sleep(5)
        assert sum(id.kind == "Keeper" for id in third.activations) == 30
        assert not cluster.hosts[0].failures


async def test_a_durable_actor_of_a_kind_that_no_host_knows_is_reported_and_comes_back_later(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Page], hosts=1) as cluster:
        first = cluster.hosts[0]
        cluster._kinds = (Keeper,)
        second = await cluster.add_host()
        await cluster.wait_settled()
        await first.spawn_id(actors.actor_id("Keeper", "a"), durable=True)
        await cluster.kill(second)
        await cluster.wait_settled()
        await trio.sleep(5)
        why, _ = first.failures[actors.actor_id("Keeper", "a")]
        assert why == "Keeper/a is durable, but no host knows kind 'Keeper'"
        third = await cluster.add_host()
        await trio.sleep(5)
        assert actors.actor_id("Keeper", "a") in third.activations
        assert not first.failures


# What a drain cuts short ------------------------------------------------------------------


class Worker(Actor, max_concurrency=2):
    def __init__(self) -> None:
        self.notes: list[int] = []

    @handler
    async def work(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @handler
    async def items(self, every_s: float) -> AsyncIterator[int]:
        for n in range(1_000):
            yield n
            await trio.sleep(every_s)

    @handler
    def note(self, n: int) -> str:
        self.notes.append(n)
        return self.system.host_id


async def test_at_the_drain_s_deadline_calls_and_streams_end_with_an_error_that_says_they_ran(
    autojump_clock: MockClock,
) -> None:
    """What runs may have had effects; what still waits has had none, and runs at the new owner."""
    config = ClusterConfig(system=SystemConfig(deactivate_timeout_s=1))
    async with open_cluster([Worker], hosts=2, config=config) as cluster:
        first, leaver = cluster.hosts
        key = next(keys_owned_by(leaver, Worker))
        ref = actors.with_timeout(first.ref(Worker, key), 100)
        errors: dict[str, actors.RoostError] = {}
        notes: list[str] = []
        items: list[int] = []

        async def work() -> None:
            try:
                await ref.work(90)
            except actors.RoostError as exc:
                errors["ask"] = exc

        async def follow() -> None:
            try:
                async for item in ref.items(0.5):
                    items.append(item)
            except actors.RoostError as exc:
                errors["stream"] = exc

        async def note(n: int) -> None:
            notes.append(await ref.note(n))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(follow)
            await trio.sleep(1)
            for n in range(5):  # both turns are taken: these wait
                nursery.start_soon(note, n)
            await trio.sleep(1)
            await cluster.drain(leaver, timeout_s=4)
            assert trio.current_time() < 12
        assert notes == [first.host_id] * 5
        assert len(items) > 5
        for what, error in errors.items():
            assert isinstance(error, actors.OutcomeUnknown), what
            assert error.may_have_run
            assert f"Worker/{key}" in str(error)
        assert set(errors) == {"ask", "stream"}


async def test_what_ends_before_the_drain_s_deadline_ends_well(autojump_clock: MockClock) -> None:
    async with open_cluster([Worker], hosts=2) as cluster:
        first, leaver = cluster.hosts
        ref = first.ref(Worker, next(keys_owned_by(leaver, Worker)))
        answers: list[str] = []

        async def work() -> None:
            answers.append(await ref.work(3))

        async def follow() -> None:
            answers.append(f"{[n async for n in ref.items(0.002)][-1]}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(follow)
            await trio.sleep(1)
            assert await cluster.drain(leaver, timeout_s=10) == 0
        assert sorted(answers) == ["999", "done"]
