"""actors.testing itself: what users write against it."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

import actors
import actors.testing
from actors import Reason, SystemConfig
from actors.testing import ClusterConfig
from tests.unit.actors.cluster_kit import Account, key_owned_by


async def test_hosts_are_named_live_and_know_each_other_at_once(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=4) as cluster:
        assert [host.host_id for host in cluster.hosts] == ["host-1", "host-2", "host-3", "host-4"]
        assert all(len(host.members) == 4 and host.is_serving() for host in cluster.hosts)
        assert cluster.host("host-2") is cluster.hosts[1]
        with pytest.raises(KeyError, match="host-9"):
            cluster.host("host-9")
        assert trio.current_time() < 1


async def test_a_host_may_be_named_and_have_a_config_of_its_own(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=0) as cluster:
        host = await cluster.add_host("big", config=SystemConfig(capacity=1))
        assert cluster.hosts == [host]
        assert host.config.capacity == 1
        with pytest.raises(ValueError, match="'big' runs already"):
            await cluster.add_host("big")
        await host.ref(Account, "a").add(1)
        with pytest.raises(actors.NoCapacity):
            await host.ref(Account, "b").add(1)


async def test_a_name_may_be_used_again_as_another_incarnation(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        victim = cluster.host("host-2")
        ref = cluster.host("host-1").ref(Account, key_owned_by(victim, Account))
        await ref.add(5)
        await cluster.kill(victim)
        again = await cluster.add_host("host-2")
        assert again.me.incarnation != victim.me.incarnation
        await cluster.wait_settled()
        assert await ref.add(5) == 10


async def test_host_of_says_where_an_actor_lives(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        first, second, _ = cluster.hosts
        ref = first.ref(Account, key_owned_by(second, Account))
        assert cluster.host_of(ref) is None
        await ref.add(1)
        assert cluster.host_of(ref) is second
        await cluster.kill(second)
        assert cluster.host_of(ref) is None


async def test_at_the_end_hosts_drain_and_states_are_in_the_store(
    autojump_clock: MockClock,
) -> None:
    told: list[Reason] = []

    class Tells(Account, persist="passivate", kind="Tells"):
        async def on_deactivate(self, reason: Reason) -> None:
            told.append(reason)

    async with actors.testing.open_cluster([Tells], hosts=2) as cluster:
        for host in cluster.hosts:
            await host.ref(Tells, key_owned_by(host, Tells)).add(1)
    assert told.count(Reason.DRAIN) == 2  # one may first have been offered to a host that left too
    assert len(cluster.store.stored) == 2
    assert cluster.store.view().members == ()
    assert cluster.hosts == []


async def test_what_the_block_raises_comes_out_as_it_is_and_at_once(
    autojump_clock: MockClock,
) -> None:
    error = KeyError("x")

    async def fail() -> None:
        async with actors.testing.open_cluster([Account]) as cluster:
            await cluster.hosts[0].ref(Account, "a").add(1)
            raise error

    with pytest.raises(KeyError) as caught:
        await fail()
    assert caught.value is error
    assert trio.current_time() < 1


async def test_a_cancelled_cluster_ends_at_once(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5):
        async with actors.testing.open_cluster([Account]) as cluster:
            await cluster.hosts[0].ref(Account, "a").add(1, 100)
    assert trio.current_time() == pytest.approx(5)


async def test_killing_and_draining_what_is_gone_does_nothing(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        one, other = cluster.hosts
        await cluster.kill(one)
        await cluster.kill(one)
        await cluster.drain(other)
        await cluster.drain(other)
        assert cluster.hosts == []


async def test_a_host_of_another_sort_is_a_named_mistake(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster(hosts=1) as cluster, actors.open_system() as system:
        with pytest.raises(TypeError, match="no host of a cluster in memory"):
            await cluster.kill(system)  # type: ignore[arg-type]


def test_a_cluster_runs_under_a_plain_trio_run_with_a_mock_clock() -> None:
    async def main() -> float:
        config = ClusterConfig(lease_ttl_s=60)
        async with actors.testing.open_cluster([Account], config=config) as cluster:
            first, victim, _ = cluster.hosts
            ref = first.ref(Account, key_owned_by(victim, Account))
            await ref.add(1)
            await cluster.kill(victim)
            await cluster.wait_settled()
            assert await ref.add(1) == 2
        return trio.current_time()

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) > 60


async def test_and_in_real_time() -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        first, second = cluster.hosts
        assert await first.ref(Account, key_owned_by(second, Account)).add(1) == 1


async def test_a_seed_decides_what_the_network_does(autojump_clock: MockClock) -> None:
    async def trace(seed: int) -> list[float]:
        times: list[float] = []
        config = ClusterConfig(delay_s=(0.0, 1.0))
        async with actors.testing.open_cluster([Account], config=config, seed=seed) as cluster:
            first, second, _ = cluster.hosts
            ref = first.ref(Account, key_owned_by(second, Account))
            for _ in range(5):
                start = trio.current_time()
                await ref.add(1)
                times.append(round(trio.current_time() - start, 6))
        return times

    assert await trace(1) == await trace(1)
    assert await trace(1) != await trace(2)


async def test_operators_see_the_hosts_and_actors_of_a_cluster_in_memory(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        first, second = cluster.hosts
        ref = first.ref(Account, key_owned_by(second, Account))
        await ref.add(1)
        gateway = actors.testing.gateway_of(first)
        assert [h.host_id for h in await gateway.list_hosts()] == ["host-1", "host-2"]
        found = await gateway.locate(ref.id)
        assert (found.host_id, found.status) == ("host-2", "idle")
        assert await gateway.drain("host-2")
        await second.wait_closed()
        assert (await gateway.locate(ref.id)).host_id == "host-1"


async def test_a_host_that_has_just_joined_can_be_drained_through_one_that_has_not_heard_of_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.membership.is_behind", lambda *_: False)
    async with actors.testing.open_cluster([Account], hosts=1) as cluster:
        first = cluster.hosts[0]
        second = await cluster.add_host()
        assert second.me.incarnation not in first.members
        gateway = actors.testing.gateway_of(first)
        with pytest.raises(actors.InvalidArgument, match="no host 'host-3'"):
            await gateway.drain("host-3")
        assert await gateway.drain("host-2")
        with trio.fail_after(30):
            await second.wait_closed()
