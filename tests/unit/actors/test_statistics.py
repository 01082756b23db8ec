"""What a system says of itself: counts of calls, moves, activations; in virtual time."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
import actors.testing
from actors import Actor, SystemConfig, handler
from actors.statistics import ASK_BOUNDS_S


class Sleeper(Actor, mailbox_max=5):
    @handler
    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @handler
    async def fail(self) -> None:
        raise LookupError("on purpose")


async def test_an_ask_is_counted_in_the_bucket_of_its_duration(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Sleeper, "a")
        for seconds in (0.0, 0.3, 0.3, 20.0):
            await ref.sleep(seconds)
        asks = system.statistics().asks
        within = dict(zip((*ASK_BOUNDS_S, math.inf), asks.counts, strict=True))
        assert (within[0.0001], within[0.5], within[30.0]) == (1, 2, 1)
        assert sum(asks.counts) == 4
        assert asks.sum_s == pytest.approx(20.6, abs=0.01)


async def test_failed_calls_are_counted_by_their_error(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Sleeper, "a")
        for _ in range(2):
            with pytest.raises(actors.ActorError):
                await ref.fail()
        with pytest.raises(actors.DeadlineExceeded):
            await actors.with_timeout(ref, 0.5).sleep(1)
        statistics = system.statistics()
        assert statistics.errors == {"ActorError": 2, "DeadlineExceeded": 1}
        assert sum(statistics.asks.counts) == 3


async def test_a_tell_is_no_ask(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await system.ref(Sleeper, "a").sleep.tell(0)
        await wait_all_tasks_blocked()
        assert not any(system.statistics().asks.counts)


async def test_messages_that_wait_are_counted_in_all_mailboxes(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        for key, waiting in (("a", 1), ("b", 3)):
            for _ in range(waiting + 1):  # one of them runs
                system.ref(Sleeper, key).sleep.tell_nowait(10)
                await wait_all_tasks_blocked()
        statistics = system.statistics()
        assert (statistics.mailbox_depth, statistics.mailbox_deepest) == (4, 3)


async def test_an_idle_actor_s_end_is_a_passivation(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(idle_after_s=5)) as system:
        await system.ref(Sleeper, "a").sleep(0)
        await system.stop(system.ref(Sleeper, "b"))
        await system.ref(Sleeper, "b").sleep(0)
        await system.stop(system.ref(Sleeper, "b"))
        await trio.sleep(10)
        statistics = system.statistics()
        assert (statistics.actors, statistics.activations_total) == (0, 2)
        assert statistics.passivations_total == 1


async def test_moves_are_counted_on_both_sides_with_what_went_over_the_link(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Sleeper], hosts=1) as cluster:
        (first,) = cluster.hosts
        for n in range(40):
            await first.ref(Sleeper, f"k{n}").sleep(0)
        second = await cluster.add_host()
        await trio.sleep(5)
        moved, taken = first.statistics(), second.statistics()
        assert moved.moves.moved == taken.adopted_total == taken.actors > 0
        assert moved.actors + taken.actors == 40
        assert moved.moves.running == moved.moves.oldest_s == 0
        assert moved.traffic.links == 1
        assert moved.traffic.bytes_out == taken.traffic.bytes_in > 0
        assert (moved.view_version, moved.members) == (taken.view_version, 2)


async def test_a_move_that_waits_for_its_actor_grows_old_and_is_given_up(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Sleeper], hosts=1) as cluster:
        (first,) = cluster.hosts
        for n in range(20):
            first.ref(Sleeper, f"k{n}").sleep.tell_nowait(60)
        await wait_all_tasks_blocked()
        await cluster.add_host()
        await trio.sleep(4)
        waiting = first.statistics().moves
        assert waiting.running > 0
        assert waiting.oldest_s > 2
        await trio.sleep(10)
        assert first.statistics().moves.given_up > 0


async def test_traffic_of_a_host_that_has_gone_stays_counted(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Sleeper], hosts=2) as cluster:
        first, second = cluster.hosts
        for n in range(20):
            await first.ref(Sleeper, f"k{n}").sleep(0)
        before = first.statistics().traffic
        await cluster.kill(second)
        await cluster.wait_settled()
        after = first.statistics().traffic
        assert (before.links, after.links) == (1, 0)
        assert after.bytes_in >= before.bytes_in > 0
        assert after.items_out >= before.items_out > 0


async def test_the_margin_of_a_lease_is_what_is_left_of_it(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Sleeper], hosts=1) as cluster:
        (host,) = cluster.hosts
        ttl_s = cluster.config.lease_ttl_s
        assert ttl_s / 2 < host.statistics().lease_margin_s < ttl_s
        assert host.statistics().is_ready
        cluster.isolate(host)
        await trio.sleep(2 * ttl_s)
        cut = host.statistics()
        assert (cut.lease_margin_s, cut.leases_lost_total, cut.is_ready) == (0, 1, False)


async def test_a_local_system_needs_no_lease(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        assert system.statistics().lease_margin_s == math.inf
