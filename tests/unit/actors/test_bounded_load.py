"""Bounded load: what a full host refuses goes on along the ring, and how uneven hosts get."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import actors
import actors.testing
from actors.actor import Actor
from actors.config import SystemConfig
from actors.routing import Unroutable, choose
from actors.testing import ClusterConfig
from placement.records import Member, View
from placement.ring import Ring
from wire.ids import ActorId


def _ring(hosts: int) -> Ring:
    ids = [f"host-{n}" for n in range(hosts)]
    return Ring(View(1, 1, tuple(Member(id, f"{id}#1", f"{id}:1") for id in ids)))


def _placed(ring: Ring, actors: int, capacity: int) -> tuple[Counter[str], int]:
    """Actors that start one after the other: how many each host has in the end, and how many
    found every host full."""
    load: Counter[str] = Counter()
    homeless = 0
    for n in range(actors):
        refused: list[str] = []
        while isinstance(chosen := choose(ring, ActorId("K", str(n)), refused), Member):
            if load[chosen.incarnation] < capacity:
                load[chosen.incarnation] += 1
                break
            refused.append(chosen.incarnation)
        homeless += chosen is Unroutable.ALL_FULL
    return load, homeless


@pytest.mark.parametrize("slack", [0.0, 0.1, 0.25, 0.5])
@given(hosts=st.integers(1, 8), count=st.integers(1, 300))
def test_a_capacity_of_the_mean_and_some_slack_bounds_the_fullest_host_by_that_slack(
    slack: float, hosts: int, count: int
) -> None:
    mean = count / hosts
    capacity = ceil((1 + slack) * mean)
    load, homeless = _placed(_ring(hosts), count, capacity)
    assert homeless == 0, "the hosts have room enough"
    assert max(load.values()) / mean <= capacity / mean <= 1 + slack + 1 / mean + 1e-9


@given(hosts=st.integers(1, 8), capacity=st.integers(1, 30), more=st.integers(0, 20))
def test_what_finds_no_room_is_exactly_what_is_above_the_capacity_of_all(
    hosts: int, capacity: int, more: int
) -> None:
    load, homeless = _placed(_ring(hosts), hosts * capacity + more, capacity)
    assert sorted(load.values()) == [capacity] * hosts
    assert homeless == more


@given(count=st.integers(2_000, 4_000))
def test_without_a_capacity_ten_equal_hosts_stay_near_the_mean(count: int) -> None:
    """1.15 of the mean is the ring's own share; the rest is chance, three deviations of it."""
    load, _ = _placed(_ring(10), count, count)
    mean = count / 10
    assert max(load.values()) <= 1.15 * mean + 3 * mean**0.5


class Guest(Actor):
    @actors.handler
    def where(self) -> str:
        return self.system.host_id


async def test_a_running_cluster_keeps_the_bound_and_says_no_capacity_when_all_are_full(
    autojump_clock: MockClock,
) -> None:
    capacity = 25
    config = ClusterConfig(system=SystemConfig(capacity=capacity))
    async with actors.testing.open_cluster([Guest], hosts=4, config=config) as cluster:
        first = cluster.hosts[0]
        for n in range(80):
            await first.ref(Guest, f"k{n}").where()
        assert max(len(host.activations) for host in cluster.hosts) / 20 <= capacity / 20
        for n in range(80, 100):
            await cluster.hosts[n % 4].ref(Guest, f"k{n}").where()
        assert [len(host.activations) for host in cluster.hosts] == [capacity] * 4
        for host in cluster.hosts:
            with pytest.raises(actors.NoCapacity, match="every host"):
                await host.ref(Guest, "one-more").where()
        assert [len(host.activations) for host in cluster.hosts] == [capacity] * 4


async def test_no_capacity_is_said_only_after_a_look_at_the_newest_view(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that has just joined has room, and the host that is asked has not heard of it yet."""
    monkeypatch.setattr("actors.membership.is_behind", lambda *_: False)
    config = ClusterConfig(system=SystemConfig(capacity=2))
    async with actors.testing.open_cluster([Guest], hosts=1, config=config) as cluster:
        first = cluster.hosts[0]
        for n in range(2):
            await first.ref(Guest, f"k{n}").where()
        with pytest.raises(actors.NoCapacity):
            await first.ref(Guest, "k2").where()
        second = await cluster.add_host()
        await trio.sleep(1)
        assert second.me.incarnation not in first.members
        assert await first.ref(Guest, "k2").where() == second.host_id
