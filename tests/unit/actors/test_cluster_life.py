"""Several hosts in one Trio run: death, drain, claims, capacity, a lost lease."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

import actors
import actors.testing
from actors import Actor, Reason, SystemConfig, handler
from actors.ref import id_of
from actors.testing import ClusterConfig
from placement.ports import Fenced, RegistryUnavailable
from placement.records import View
from placement.ring import Ring
from tests.unit.actors import cluster_kit as kit
from tests.unit.actors.cluster_kit import Account, Narrow, key_owned_by, keys_owned_by


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    kit.turns.clear()


# Death ------------------------------------------------------------------------------------


async def test_after_its_hosts_lease_an_actor_lives_elsewhere_with_its_state(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        first, victim, _ = cluster.hosts
        keys = [key for key, _ in zip(keys_owned_by(victim, Account), range(30), strict=False)]
        for n, key in enumerate(keys):
            await first.ref(Account, key).add(n)
        assert {cluster.host_of(first.ref(Account, key)) for key in keys} == {victim}
        await cluster.kill(victim)
        start = trio.current_time()
        await cluster.wait_settled()
        assert 12 <= trio.current_time() - start <= 18
        for n, key in enumerate(keys):
            ref = first.ref(Account, key)
            assert await ref.add(100) == n + 100
            assert cluster.host_of(ref) in cluster.hosts
        kit.assert_turns_never_overlap_between_epochs()


async def test_calls_to_a_dead_host_end_in_an_error_that_says_so_within_their_deadline(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        first, victim, _ = cluster.hosts
        key = key_owned_by(victim, Account)
        await first.ref(Account, key).add(1)
        ends: list[tuple[str, float]] = []

        async def ask(timeout_s: float, seconds: float) -> None:
            start = trio.current_time()
            end = "answered"
            try:
                await actors.with_timeout(first.ref(Account, key), timeout_s).add(1, seconds)
            except actors.RoostError as exc:
                end = exc.code
            ends.append((end, round(trio.current_time() - start)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 60, 50)  # under way when the host dies
            await trio.sleep(1)
            await cluster.kill(victim)
            nursery.start_soon(ask, 3, 0)  # its deadline is before anyone can know
            nursery.start_soon(ask, 60, 0)  # never left this host, so it goes to the next one
        assert sorted(end for end, _ in ends) == ["answered", "outcome_unknown", "outcome_unknown"]
        assert min(took for _, took in ends) == 3
        assert max(took for _, took in ends) <= 20


async def test_an_idempotent_call_is_made_again_for_its_caller(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        first, victim, _ = cluster.hosts
        ref = actors.with_timeout(first.ref(Account, key_owned_by(victim, Account)), 60)
        await ref.add(7)
        await cluster.kill(victim)
        assert await ref.total() == 7


async def test_a_killed_host_saves_nothing_and_tells_nobody(autojump_clock: MockClock) -> None:
    told: list[Reason] = []

    class Quiet(Account, persist="passivate", kind="Quiet"):
        async def on_deactivate(self, reason: Reason) -> None:
            told.append(reason)

    async with actors.testing.open_cluster([Quiet], hosts=2) as cluster:
        first, victim = cluster.hosts
        ref = first.ref(Quiet, key_owned_by(victim, Quiet))
        await ref.add(7)
        own = victim.ref(Quiet, ref.key)
        before = dict(cluster.store.locations)
        await cluster.kill(victim)
        assert told == []
        assert cluster.store.stored == {}
        assert cluster.store.locations == before
        with pytest.raises(actors.Unavailable):
            await own.add(1)
        await cluster.wait_settled()
        assert await ref.add(1) == 1


async def test_calls_made_by_a_killed_host_fail_in_this_program(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        victim, other = cluster.hosts
        outcomes: list[str] = []

        async def ask(key: str) -> None:
            with pytest.raises(actors.RoostError) as caught:
                await victim.ref(Account, key).add(1, 100)
            outcomes.append(caught.value.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, key_owned_by(victim, Account))
            nursery.start_soon(ask, key_owned_by(other, Account))
            await trio.sleep(1)
            await cluster.kill(victim)
        assert outcomes == ["outcome_unknown"] * 2
        await trio.sleep(20)
        assert [t.end_s < 20 for log in kit.turns.values() for t in log] == [True] * 2, (
            "the other host has cancelled what ran for the dead one"
        )


# Drain ------------------------------------------------------------------------------------


async def test_a_drained_hosts_actors_go_on_elsewhere_and_no_call_fails(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], seed=5) as cluster:
        first, leaver, _ = cluster.hosts
        cluster.network.delay_s = (0.0, 0.02)
        keys = [key for key, _ in zip(keys_owned_by(leaver, Account), range(20), strict=False)]
        done: dict[str, int] = dict.fromkeys(keys, 0)
        stop = trio.Event()

        async def work(key: str) -> None:
            ref = first.ref(Account, key)
            while not stop.is_set():
                done[key] += 1
                assert await ref.add(1, 0.1) == done[key]

        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(work, key)
            await trio.sleep(2)
            assert await cluster.drain(leaver) == 0
            await trio.sleep(2)
            stop.set()
        assert min(done.values()) > 10
        assert leaver not in cluster.hosts
        kit.assert_turns_never_overlap_between_epochs()


async def test_a_drain_cuts_short_what_does_not_end_in_time(autojump_clock: MockClock) -> None:
    config = ClusterConfig(system=SystemConfig(deactivate_timeout_s=1))
    async with actors.testing.open_cluster([Account], hosts=2, config=config) as cluster:
        first, leaver = cluster.hosts
        ref = actors.with_timeout(first.ref(Account, key_owned_by(leaver, Account)), 100)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(actors.RoostError) as caught:
                    await ref.add(1, 90)
                assert caught.value.may_have_run

            nursery.start_soon(ask)
            await trio.sleep(1)
            await cluster.drain(leaver, timeout_s=5)
            assert trio.current_time() < 15
        assert await ref.add(1) == 1


async def test_a_drain_ends_although_the_registry_is_out_of_reach(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        first, leaver = cluster.hosts
        refs = [
            first.ref(Account, key) for key in itertools.islice(keys_owned_by(leaver, Account), 3)
        ]
        for ref in refs:
            await ref.add(1)
        await leaver.ref(Account, refs[0].key).add.tell(1, 100)
        cluster.isolate(leaver)
        await cluster.drain(leaver, timeout_s=2)
        assert trio.current_time() < 15
        cluster.heal()
        await cluster.wait_settled()
        assert [await ref.add(1) for ref in refs] == [2, 2, 2]


async def test_what_could_not_leave_a_drained_host_fails(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Narrow], hosts=2) as cluster:
        first, leaver = cluster.hosts
        full = leaver.ref(Narrow, key_owned_by(first, Narrow))
        await full.block.tell(500)
        await trio.sleep(1)
        for n in range(8):
            full.record.tell_nowait("n", n)
        ends: list[str] = []

        async def ask() -> None:
            with trio.move_on_after(100):
                try:
                    await actors.with_timeout(full, 50).add(1)
                except actors.RoostError as exc:
                    ends.append(exc.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            await cluster.drain(leaver, 1)
        assert ends == ["unavailable"]


async def test_draining_twice_is_draining_once(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        host = cluster.hosts[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.drain, host)
            nursery.start_soon(cluster.drain, host)
            nursery.start_soon(host.wait_closed)
        assert cluster.hosts == [cluster.host("host-1")]


async def test_when_all_hosts_drain_calls_say_that_none_takes_new_actors(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], hosts=1) as cluster:
        (host,) = cluster.hosts
        outcomes: list[Any] = []

        class Caller(actors.Actor):
            async def on_deactivate(self, reason: Reason) -> None:
                try:
                    await self.system.ref(Account, "b").add(1)
                except actors.RoostError as exc:
                    outcomes.append(exc.code)

            @handler
            async def hi(self) -> None: ...

        host.kinds._host(Caller)
        # Its kind is news to the view: start it here.
        host.start(actors.actor_id("Caller", "a"), host.kinds.of(Caller))
        await trio.sleep(1)
        await cluster.drain(host)
        assert outcomes == ["unavailable"]


async def test_an_answer_with_an_older_view_that_comes_late_is_ignored(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        first, second = cluster.hosts
        older = first.view
        third = await cluster.add_host()
        await cluster.wait_settled()
        first.set_view(older)
        assert third.me.incarnation in first.members
        assert second.view == first.view


# Claims -----------------------------------------------------------------------------------


async def test_of_two_hosts_that_claim_one_actor_at_once_one_wins_and_both_reach_it(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(registry_delay_s=(0.0, 0.1), delay_s=(0.0, 0.01))
    async with actors.testing.open_cluster([Account], hosts=3, config=config) as cluster:
        for host in cluster.hosts:  # each believes that it owns every actor
            alone = [m for m in host.view.members if m.incarnation == host.me.incarnation]
            host.ring = Ring(View(host.view.generation, host.view.version, tuple(alone)))
        for n in range(200):
            answers: list[int] = []

            async def ask(host: actors.HostSystem, key: str, answers: list[int]) -> None:
                answers.append(await host.ref(Account, key).add(1))

            async with trio.open_nursery() as nursery:
                for host in cluster.hosts:
                    nursery.start_soon(ask, host, f"k{n}", answers)
            assert sorted(answers) == [1, 2, 3]
            (epoch,) = {turn.epoch for turn in kit.turns[f"Account/k{n}"]}
            assert cluster.store.locations[f"Account/k{n}"].epoch == epoch
        kit.assert_turns_never_overlap_between_epochs()


async def test_tells_to_an_actor_whose_claim_is_slow_and_lost_are_not_lost(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(registry_delay_s=(0.05, 0.2))
    async with actors.testing.open_cluster([Account], hosts=3, config=config) as cluster:
        sender, loser, winner = cluster.hosts
        for n in range(10):
            key = list(zip(keys_owned_by(loser, Account), range(n + 1), strict=False))[-1][0]
            target = actors.actor_id("Account", key)
            async with trio.open_nursery() as nursery:
                # The winner asks out of turn, a moment before the ring's owner hears of the actor.
                winner.start(target, winner.kinds.of(Account))
                await trio.sleep(0.01)
                for i in range(20):
                    nursery.start_soon(sender.ref(Account, key).record.tell, "s", i)
                    await trio.sleep(0.02)
            seen = await sender.ref(Account, key).recorded()
            assert kit.in_order_and_once(seen) == {"s": list(range(20))}


async def test_what_waits_for_room_in_an_actor_that_drains_is_not_overtaken(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Narrow], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = host.ref(Narrow, "a")
        await ref.total()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.block.tell, 1.0)
            await trio.sleep(0.1)
            for i in range(8):  # there is room for four
                nursery.start_soon(ref.record.tell, "s", i)
                await trio.sleep(0.01)
            host.lifecycle.stop(host.activations[id_of(ref)], Reason.DRAIN)
            nursery.start_soon(ref.record.tell, "s", 8)
        await trio.sleep(2)
        assert kit.in_order_and_once(await ref.recorded()) == {"s": list(range(9))}


async def test_nor_is_what_waits_for_a_claim_while_the_host_drains(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        here, there = cluster.hosts
        ref = here.ref(Account, key_owned_by(here, Account))
        held: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(here.claimer, "claim", held.append)
            for i in range(3):
                ref.record.tell_nowait("s", i)
        here.lifecycle.stop(held[0], Reason.DRAIN)
        alone = [m for m in here.view.members if m.incarnation == there.me.incarnation]
        here.ring = there.ring = Ring(View(here.view.generation, here.view.version, tuple(alone)))
        for i in range(3, 6):
            await ref.record.tell("s", i)
        await trio.sleep(0.1)  # time enough for the other host, were it asked
        here.claimer.claim(held[0])
        await trio.sleep(2)
        assert kit.in_order_and_once(await ref.recorded()) == {"s": list(range(6))}


@pytest.mark.parametrize("delay_s", [n * 0.1 for n in range(16)])
async def test_stop_and_watch_follow_an_actor_to_where_it_is(
    autojump_clock: MockClock, delay_s: float
) -> None:
    config = ClusterConfig(registry_delay_s=(0.05, 0.05))
    async with actors.testing.open_cluster([Account], hosts=2, config=config) as cluster:
        first, second = cluster.hosts
        key = key_owned_by(first, Account)
        target = actors.actor_id("Account", key)
        heard: list[Reason] = []

        async def watch() -> None:
            heard.append((await first.watch(first.ref(Account, key))).reason)

        async with trio.open_nursery() as nursery:
            second.start(target, second.kinds.of(Account))  # out of turn: the claim is first
            await trio.sleep(0.02)
            nursery.start_soon(watch)  # on trial at the first host, then sent on
            with trio.fail_after(100):
                await trio.sleep(0.5)
                assert cluster.host_of(first.ref(Account, key)) is second
                await trio.sleep(delay_s)  # at some moment of this the actor moves to the first
                assert await first.stop(first.ref(Account, key))
                while not heard:
                    await trio.sleep(0.01)
        assert heard == [Reason.STOPPED]
        assert not cluster.store.locations


# Capacity ---------------------------------------------------------------------------------


async def test_a_full_host_spills_to_the_next_and_all_full_is_no_capacity(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(system=SystemConfig(capacity=3))
    async with actors.testing.open_cluster([Account], config=config) as cluster:
        first = cluster.hosts[0]
        keys = [key for key, _ in zip(keys_owned_by(first, Account), range(10), strict=False)]
        for host in cluster.hosts:  # whoever asks, for actors that all belong to one host
            for key in keys[:9]:
                assert await host.ref(Account, key).add(1) > 0
        assert [len(host.activations) for host in cluster.hosts] == [3, 3, 3]
        for host in cluster.hosts:
            with pytest.raises(actors.NoCapacity, match="every host"):
                await host.ref(Account, keys[9]).add(1)
        await first.stop(first.ref(Account, keys[0]))
        assert await first.ref(Account, keys[9]).add(1) == 1


# A lost lease -----------------------------------------------------------------------------


async def test_a_host_cut_off_for_its_lease_ends_its_actors_before_others_run_them(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], seed=3) as cluster:
        first, cut_off, _ = cluster.hosts
        keys = [key for key, _ in zip(keys_owned_by(cut_off, Account), range(5), strict=False)]
        for key in keys:
            await first.ref(Account, key).add(1)
        old = cut_off.me.incarnation
        cluster.isolate(cut_off)
        served: list[float] = []

        async def serve_itself(key: str) -> None:
            """Callers on the isolated host itself: it may serve them until its lease ends."""
            while True:
                try:
                    await cut_off.ref(Account, key).add(1, 0.3)
                    served.append(trio.current_time())
                except actors.RoostError:
                    await trio.sleep(0.1)

        async def use_elsewhere(key: str) -> None:
            while True:
                try:
                    await actors.with_timeout(first.ref(Account, key), 2).add(1, 0.1)
                except actors.RoostError:
                    await trio.sleep(0.1)

        with trio.move_on_after(30):
            async with trio.open_nursery() as nursery:
                for key in keys:
                    nursery.start_soon(serve_itself, key)
                    nursery.start_soon(use_elsewhere, key)
        kit.assert_turns_never_overlap_between_epochs()
        assert not cut_off.is_serving()
        assert old not in first.members
        cluster.heal()
        await cluster.wait_settled()
        assert cut_off.me.incarnation != old
        assert cut_off.me.incarnation in first.members
        for key in keys:
            assert await cut_off.ref(Account, key).total() > 0


async def test_late_saves_of_a_fenced_host_are_refused(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        first, cut_off, _ = cluster.hosts
        key = key_owned_by(cut_off, Account)
        await first.ref(Account, key).add(1)
        old, name = cluster.store.locations[f"Account/{key}"], f"Account/{key}"
        cluster.isolate(cut_off)
        await trio.sleep(20)
        assert await first.ref(Account, key).add(10) == 11
        kept = cluster.store.stored[name]
        cluster.heal()
        with pytest.raises(Fenced):
            await first.registry.save(old.incarnation, name, old.epoch, 99, b"late")
        assert not await first.registry.save(first.me.incarnation, name, old.epoch, 99, b"late")
        assert cluster.store.stored[name] == kept


async def test_a_fenced_host_rejoins_although_an_actor_of_its_hangs_in_a_hook(
    autojump_clock: MockClock,
) -> None:
    class Hangs(actors.Actor):
        async def on_activate(self) -> None:
            await trio.sleep_forever()

        @handler
        async def hi(self) -> None: ...

    async with actors.testing.open_cluster([Hangs], hosts=1) as cluster:
        (host,) = cluster.hosts
        with trio.move_on_after(1):
            await host.ref(Hangs, "a").hi()
        old = host.me.incarnation
        cluster.isolate(host)
        await trio.sleep(20)
        cluster.heal()
        with trio.fail_after(10):
            await cluster.wait_settled()
        assert host.me.incarnation != old


async def test_a_host_whose_lease_ends_during_the_last_step_of_its_join_joins_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not serve yet, so the end of its lease is no end of its service."""
    async with actors.testing.open_cluster([Account], hosts=1) as cluster:
        (host,) = cluster.hosts
        line: Any = actors.testing._memory_host(host).line
        set_member = line.set_member
        incarnations: list[str] = []

        async def answered_late(incarnation: str, **changes: Any) -> View:
            view: View = await set_member(incarnation, **changes)
            incarnations.append(incarnation)
            if len(incarnations) == 1:
                line.is_cut = True
                await trio.sleep(20)
                line.is_cut = False
            return view

        monkeypatch.setattr(line, "set_member", answered_late, raising=False)
        host.fenced("for this test")
        with trio.fail_after(60):
            await cluster.wait_settled()
        assert host.me.incarnation not in incarnations[:1]
        assert await host.ref(Account, "a").add(1) == 1


async def test_calls_on_a_host_without_its_lease_fail_at_once_and_later_work_again(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = host.ref(Account, "a")
        assert await ref.add(1) == 1
        cluster.isolate(host)
        await trio.sleep(20)
        start = trio.current_time()
        with pytest.raises(actors.Unavailable):
            await ref.add(1)
        assert trio.current_time() == start
        cluster.heal()
        await cluster.wait_settled()
        assert await ref.add(1) == 2


async def test_a_host_that_drains_while_it_has_no_lease_leaves(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        first, second = cluster.hosts
        await second.ref(Account, key_owned_by(second, Account)).add(1)
        cluster.isolate(second)
        await trio.sleep(20)
        cluster.heal()
        await cluster.drain(second)
        await trio.sleep(5)
        assert {m.host_id for m in cluster.store.view().members} == {first.host_id}


async def test_a_durable_actor_that_is_stopped_while_it_is_brought_back_stays_stopped(
    autojump_clock: MockClock,
) -> None:
    """Whoever looks for durable actors may have read the spec before it was deleted."""
    async with actors.testing.open_cluster([Account], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = await host.spawn(Account, "a", durable=True)
        spec = cluster.store.specs["Account/a"]
        assert await host.stop(ref)
        assert "Account/a" not in cluster.store.specs
        host.durables._revive_if_needed(id_of(ref), spec, None)
        await trio.sleep(1)
        assert "Account/a" not in cluster.store.specs
        assert id_of(ref) not in host.activations


class Stubborn(Account):
    """Takes its time to leave, and cannot always start."""

    async def on_activate(self) -> None:
        if str(self.id.key).startswith("broken"):
            raise RuntimeError("I cannot")

    async def on_deactivate(self, reason: Reason) -> None:
        await trio.sleep(1)


async def test_a_stop_is_answered_once_the_spec_is_gone_though_messages_wait(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with actors.testing.open_cluster([Stubborn], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = await host.spawn(Stubborn, "a", durable=True)
        end_durable, asked = host.registry.end_durable, []

        async def away(*args: Any) -> bool:
            asked.append(args)
            if len(asked) < 3:
                raise RegistryUnavailable("away")
            return await end_durable(*args)

        monkeypatch.setattr(host.registry, "end_durable", away, raising=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.stop, ref)
            await trio.sleep(0.5)
            nursery.start_soon(ref.add, 1)  # while it stops: it begins another life
            await trio.sleep(0.4)
            assert not asked
        assert len(asked) == 3
        assert "Stubborn/a" not in cluster.store.specs
        assert await ref.total() == 1


@pytest.mark.parametrize("has_run", [True, False])
async def test_a_stop_that_the_registry_refuses_is_answered_by_whether_the_spec_is_gone(
    has_run: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier try may have run and its reply been lost; or the actor is another's by now, and
    then it is stopped there."""
    async with actors.testing.open_cluster([Account], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = await host.spawn(Account, "a", durable=True)
        end_durable, answers = host.registry.end_durable, []

        async def refused_once(*args: Any) -> bool:
            done = await end_durable(*args) if has_run or answers else False
            answers.append(done)
            return done and len(answers) > 1

        monkeypatch.setattr(host.registry, "end_durable", refused_once, raising=False)
        assert await host.stop(ref)
        assert "Account/a" not in cluster.store.specs
        assert answers == ([True] if has_run else [False, True])


async def test_a_stop_of_what_is_being_passivated_ends_it_for_good(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Stubborn], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = await host.spawn(Stubborn, "a", durable=True)
        await ref.leave()
        await trio.sleep(0.5)
        assert await host.stop(ref)
        assert "Stubborn/a" not in cluster.store.specs


async def test_a_durable_actor_that_cannot_start_can_be_stopped(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Stubborn], hosts=1) as cluster:
        (host,) = cluster.hosts
        cluster.store.keep_spec("Stubborn/broken", b"\x00\x90")
        assert await host.stop(host.ref(Stubborn, "broken"))
        assert "Stubborn/broken" not in cluster.store.specs


class Spawned(Account):
    async def on_spawn(self, seconds: float = 0.0) -> None:
        await trio.sleep(seconds)


class Open(Spawned, reentrant=True):
    """Any message may run while another waits."""


class Wide(Spawned, max_concurrency=2):
    """Two messages may run at once."""


@pytest.mark.parametrize("kind", [Spawned, Open, Wide])
async def test_a_stop_whose_caller_gave_up_does_not_undo_the_spawn_that_came_behind_it(
    kind: type[Spawned], autojump_clock: MockClock
) -> None:
    async with actors.testing.open_cluster([kind], hosts=1) as cluster:
        (host,) = cluster.hosts
        ref = await host.spawn(kind, "a", durable=True)
        before = host.activations[id_of(ref)].epoch
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.add, 1, 2.0)
            await trio.sleep(0.5)
            with trio.move_on_after(0.5):
                await host.stop(ref)
            await host.spawn(kind, "a", durable=True)
        await trio.sleep(1)
        assert str(id_of(ref)) in cluster.store.specs
        assert host.activations[id_of(ref)].epoch > before
        assert host.activations[id_of(ref)].is_durable


@pytest.mark.parametrize("kind", [Spawned, Open, Wide])
@pytest.mark.parametrize("seconds", [0.0, 0.5])
async def test_who_is_brought_back_without_a_spec_is_kept_by_a_spawn_beside_it(
    kind: type[Spawned], seconds: float, autojump_clock: MockClock
) -> None:
    """It is to be stopped since its spec is gone; and what is durable by then is not."""
    config = ClusterConfig(registry_delay_s=(0.1, 0.1))
    async with actors.testing.open_cluster([kind], hosts=1, config=config) as cluster:
        (host,) = cluster.hosts
        ref = host.ref(kind, "a")
        host.durables._revive_if_needed(id_of(ref), b"\x00\x90", None)
        await host.spawn(kind, "a", seconds, durable=True)
        await trio.sleep(2)
        assert str(id_of(ref)) in cluster.store.specs
        assert host.activations[id_of(ref)].is_durable


class Noted(msgspec.Struct):
    numbers: list[int] = []


class Notebook(Actor, mailbox_max=3, idle_after_s=0.1):
    """Slow to begin and quick to end, so that much of what is told is refused at first."""

    state: Noted

    async def on_activate(self) -> None:
        await trio.sleep(0.003)

    @handler
    async def note(self, n: int) -> None:
        await trio.sleep(0.002)
        self.state.numbers.append(n)

    @handler
    def numbers(self) -> list[int]:
        return self.state.numbers


async def test_what_a_program_tells_while_its_host_drains_arrives_or_is_refused(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(delay_s=(0.0, 0.02), registry_delay_s=(0.0, 0.05))
    async with actors.testing.open_cluster([Notebook], hosts=3, config=config, seed=1) as cluster:
        leaving = cluster.hosts[0]
        told: dict[str, list[int]] = {key: [] for key in "abcd"}

        async def tell(key: str) -> None:
            for n in itertools.count():
                try:
                    await leaving.ref(Notebook, key).note.tell(n)
                except actors.Unavailable:
                    return
                told[key].append(n)
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            for key in told:
                nursery.start_soon(tell, key)
            await trio.sleep(0.3)
            await cluster.drain(leaving)
        await trio.sleep(5)
        for key, numbers in told.items():
            assert numbers
            assert await cluster.hosts[0].ref(Notebook, key).numbers() == numbers
