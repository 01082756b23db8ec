"""Messages between hosts: in order and once, whatever the links and the actors do meanwhile."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
import actors.testing
from actors import Actor, SystemConfig, handler
from actors.ref import id_of
from actors.testing import Cluster, ClusterConfig
from tests.unit.actors import cluster_kit as kit
from tests.unit.actors.cluster_kit import Account, Narrow, Slow, key_owned_by, keys_owned_by

MESSAGES = 60


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    kit.turns.clear()


class Teller(Actor):
    """Sends numbered messages to an account: tells, and asks in between."""

    @handler
    async def send(self, to: Account, count: int) -> None:
        for n in range(count):
            if n % 5 == 4:
                await to.record(self.key, n)
            else:
                await to.record.tell(self.key, n)


async def _send(host: actors.HostSystem, key: str, name: str, rng: Random) -> None:
    """The same from outside of any actor."""
    ref = host.ref(Account, key)
    for n in range(MESSAGES):
        if rng.random() < 0.2:
            await trio.sleep(rng.uniform(0, 0.05))
        await (ref.record if rng.random() < 0.2 else ref.record.tell)(name, n)


async def _send_from(hosts: list[actors.HostSystem], key: str, rng: Random) -> set[str]:
    """A sender outside of actors on each host, and six actors wherever they live; returns their
    names when all are done."""
    names: set[str] = set()
    async with trio.open_nursery() as nursery:
        for host in hosts:
            names.add(host.host_id)
            nursery.start_soon(_send, host, key, host.host_id, rng)
        for n in range(6):
            names.add(f"t{n}")
            teller = actors.with_timeout(hosts[0].ref(Teller, f"t{n}"), 1000)
            nursery.start_soon(teller.send, hosts[0].ref(Account, key), MESSAGES)
    return names


async def _check(ref: Account, names: set[str]) -> None:
    """All is there; the last tells may still be on their way, so they get a while."""
    expected = {name: list(range(MESSAGES)) for name in names}
    with trio.move_on_after(30):
        while kit.in_order_and_once(await ref.recorded()) != expected:
            await trio.sleep(0.5)
    assert kit.in_order_and_once(await ref.recorded()) == expected


async def _break_links(cluster: Cluster, rng: Random) -> None:
    while True:
        await trio.sleep(rng.uniform(0, 0.1))
        cluster.network.cut_all()


async def _partition(cluster: Cluster, rng: Random) -> None:
    """One way between two hosts is closed for a while, again and again."""
    while True:
        one, other = rng.sample(cluster.hosts, 2)
        cluster.network.partition(one.address, other.address)
        await trio.sleep(rng.uniform(0, 0.5))
        cluster.network.heal()


@pytest.mark.parametrize("seed", range(4))
async def test_every_message_arrives_once_and_in_order_over_links_that_break(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = Random(seed)
    config = ClusterConfig(delay_s=(0.0, 0.02), system=SystemConfig(window=8))
    async with actors.testing.open_cluster([Account, Teller], config=config, seed=seed) as cluster:
        cluster.network.duplicate = 0.2
        cluster.network.cut_chance = 0.05
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_break_links, cluster, rng)
            nursery.start_soon(_partition, cluster, rng)
            names = await _send_from(cluster.hosts, "a", rng)
            nursery.cancel_scope.cancel()
        cluster.network.heal()
        await _check(cluster.hosts[0].ref(Account, "a"), names)


@pytest.mark.parametrize("seed", range(3))
async def test_every_message_arrives_once_and_in_order_at_an_actor_that_moves(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = Random(seed)
    config = ClusterConfig(delay_s=(0.0, 0.01), registry_delay_s=(0.0, 0.01))
    async with actors.testing.open_cluster([Account, Teller], config=config, seed=seed) as cluster:
        async with trio.open_nursery() as nursery:
            ends: list[set[str]] = []

            async def send() -> None:
                ends.append(await _send_from(cluster.hosts[:1], "a", rng))

            nursery.start_soon(send)
            await trio.sleep(0.05)
            for _ in range(3):
                await cluster.add_host()
                home = cluster.host_of(cluster.hosts[0].ref(Account, "a"))
                if home is not None and home is not cluster.hosts[0]:
                    await cluster.drain(home)
                await trio.sleep(0.05)
        await _check(cluster.hosts[0].ref(Account, "a"), ends[0])


@pytest.mark.parametrize("seed", range(3))
async def test_every_message_arrives_once_and_in_order_at_an_actor_that_keeps_passivating(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = Random(seed)
    config = ClusterConfig(delay_s=(0.0, 0.002), registry_delay_s=(0.0, 0.002))
    async with actors.testing.open_cluster([Slow], config=config, seed=seed) as cluster:
        names = [f"s{n}" for n in range(9)]
        stops = 0

        async def send(name: str) -> None:
            ref = rng.choice(cluster.hosts).ref(Slow, "a")
            for n in range(MESSAGES):
                await trio.sleep(rng.uniform(0, 0.05))
                await (ref.record if rng.random() < 0.2 else ref.record.tell)(name, n)

        async def passivate() -> None:
            nonlocal stops
            while True:
                await trio.sleep(rng.uniform(0, 0.05))
                await cluster.hosts[0].ref(Slow, "a").leave()
                stops += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(passivate)
            async with trio.open_nursery() as senders:
                for name in names:
                    senders.start_soon(send, name)
            nursery.cancel_scope.cancel()
        assert stops > 10
        await _check(cluster.hosts[0].ref(Slow, "a"), set(names))


# Full mailboxes ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_a_mailbox_that_is_often_full_loses_nothing_and_keeps_the_order(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = Random(seed)
    config = ClusterConfig(delay_s=(0.0, 0.01), system=SystemConfig(window=16))
    async with actors.testing.open_cluster([Narrow], config=config, seed=seed) as cluster:
        ref = cluster.hosts[0].ref(Narrow, "a")

        async def send(host: actors.HostSystem) -> None:
            for n in range(MESSAGES):
                await host.ref(Narrow, "a").record.tell(host.host_id, n)

        async with trio.open_nursery() as nursery:
            for host in cluster.hosts:
                nursery.start_soon(send, host)
            for _ in range(20):
                await actors.with_timeout(ref, 100).block(rng.uniform(0, 0.1))
        await _check(ref, {host.host_id for host in cluster.hosts})


async def test_a_stuck_actor_holds_its_window_and_mailbox_and_no_more(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(system=SystemConfig(window=8))
    async with actors.testing.open_cluster([Narrow, Account], hosts=2, config=config) as cluster:
        first, second = cluster.hosts
        stuck = first.ref(Narrow, key_owned_by(second, Narrow))
        free = first.ref(Account, key_owned_by(second, Account))
        await stuck.block.tell(50)
        sent = 0
        with trio.move_on_after(10):
            while True:
                await stuck.record.tell("s", sent)
                sent += 1
        assert 4 <= sent <= 4 + 8 + 1  # the mailbox, the window, and the one that waits

        def storm() -> None:
            for n in range(20):
                stuck.record.tell_nowait("n", n)

        with pytest.raises(actors.MailboxFull):
            storm()
        start = trio.current_time()
        with pytest.raises(actors.MailboxFull):
            await actors.with_timeout(stuck, 3).record("late", 0)
        assert trio.current_time() - start == pytest.approx(3, abs=0.05)
        assert await free.add(1) == 1
        assert trio.current_time() - start == pytest.approx(3, abs=0.05)
        await trio.sleep(60)
        seen = kit.in_order_and_once(await stuck.recorded())
        assert len(seen["s"]) == sent
        assert "late" not in seen


class Pit(Actor):
    def __init__(self) -> None:
        self.taken = 0

    @handler
    async def throw(self, what: bytes) -> int:
        self.taken += 1
        return self.taken


async def test_a_host_takes_its_leave_though_what_was_told_waited_for_room_on_its_link(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(delay_s=(0.05, 0.05))
    async with actors.testing.open_cluster([Pit], hosts=2, config=config) as cluster:
        first, leaver = cluster.hosts
        keys = keys_owned_by(leaver, Pit)
        quiet, busy = first.ref(Pit, next(keys)), first.ref(Pit, next(keys))
        assert await quiet.throw(b"") == await busy.throw(b"") == 1
        await quiet.throw.tell(b"")  # this first one lets others run, and the next one does not
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaver.router.take_leave, 5.0)
            await trio.sleep(0.03)  # the goodbye is on its way, and finds the link full
            await quiet.throw.tell(b"")
            for _ in range(12):
                busy.throw.tell_nowait(bytes(1 << 20))
        assert trio.current_time() - start < 1
        assert leaver.activations[id_of(quiet)].actor.taken == 3  # type: ignore[attr-defined]


# Routing ----------------------------------------------------------------------------------


async def test_a_stale_location_costs_one_redirect(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account, Asker]) as cluster:
        first, second, third = cluster.hosts
        ref = first.ref(Account, key_owned_by(second, Account))
        await ref.add(1)
        first.router.ways.learn(actors.actor_id("Account", ref.key), third.me.incarnation)
        # Known only by their numbers: outboxes that are idle are routed again.
        assert await _from_a_new_sender(first, ref) == second.host_id
        assert first.router.ways.get(actors.actor_id("Account", ref.key)) == second.me.incarnation


async def _from_a_new_sender(host: actors.HostSystem, ref: Account) -> str:
    return await host.ref(Asker, key_owned_by(host, Asker)).ask_where(ref)


class Asker(Actor):
    @handler
    async def ask_where(self, account: Account) -> str:
        return await account.where()

    @handler
    async def ask_slowly(self, account: Account, seconds: float) -> int:
        return await account.add(1, seconds)

    @handler
    async def ask_back(self, other: Asker) -> str:
        return await other.ask_forth(self.ref)

    @handler
    async def ask_forth(self, other: Asker) -> str:
        return await other.hi()

    @handler
    async def hi(self) -> str:
        return "hi"


async def test_a_kind_that_no_host_knows_is_unknown_at_once(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        with pytest.raises(actors.UnknownKind, match=r"'Asker'.*is known to no host"):
            await cluster.hosts[0].ref(Asker, "a").hi()
        assert trio.current_time() < 1


# Calls across hosts -----------------------------------------------------------------------


async def test_a_cancelled_caller_cancels_the_handler_on_another_host(
    autojump_clock: MockClock,
) -> None:
    config = ClusterConfig(delay_s=(0.001, 0.001))
    async with actors.testing.open_cluster([Account, Asker], hosts=2, config=config) as cluster:
        first, second = cluster.hosts
        ref = first.ref(Account, key_owned_by(second, Account))
        asker = second.ref(Asker, key_owned_by(first, Asker))
        with trio.move_on_after(2):
            await ref.add(1, 100)
        with trio.move_on_after(2):
            await asker.ask_slowly(ref, 100)  # second, first, second
        await trio.sleep(0.1)
        assert [turn.end_s for turn in kit.turns[f"Account/{ref.key}"]] == [
            pytest.approx(2, abs=0.05),
            pytest.approx(4, abs=0.05),
        ]
        assert await ref.total() == 0


async def test_a_deadline_ends_the_handler_on_another_host(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account], hosts=2) as cluster:
        first, second = cluster.hosts
        ref = first.ref(Account, key_owned_by(second, Account))
        with pytest.raises(actors.DeadlineExceeded):
            await actors.with_timeout(ref, 3).add(1, 100)
        cluster.network.partition(first.address, second.address)  # not even the cancel gets there
        with pytest.raises(actors.DeadlineExceeded):
            await actors.with_timeout(ref, 3).add(1, 100)
        await trio.sleep(0.1)
        ends = [turn.end_s for turn in kit.turns[f"Account/{ref.key}"]]
        assert ends == [pytest.approx(3, abs=0.05)]


async def test_a_call_cycle_across_hosts_is_found(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Asker], hosts=2) as cluster:
        first, second = cluster.hosts
        here = first.ref(Asker, key_owned_by(first, Asker))
        there = first.ref(Asker, key_owned_by(second, Asker))
        with pytest.raises(actors.ActorError, match="CallCycle"):
            await here.ask_back(there)
        assert trio.current_time() < 1


async def test_refs_keep_working_wherever_they_travel(autojump_clock: MockClock) -> None:
    async with actors.testing.open_cluster([Account, Asker]) as cluster:
        first, second, third = cluster.hosts
        account = first.ref(Account, key_owned_by(third, Account))
        asker = first.ref(Asker, key_owned_by(second, Asker))
        assert await asker.ask_where(account) == third.host_id


async def test_a_watch_survives_the_death_of_the_host_it_looks_at(
    autojump_clock: MockClock,
) -> None:
    async with actors.testing.open_cluster([Account]) as cluster:
        first, victim, _ = cluster.hosts
        ref = first.ref(Account, key_owned_by(victim, Account))
        heard: list[actors.Terminated] = []

        async def watch() -> None:
            heard.append(await first.watch(ref))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.sleep(100)
            await cluster.kill(victim)
            await cluster.wait_settled()
            await trio.sleep(100)
            assert heard == []
            assert await first.stop(ref)
        assert [t.reason for t in heard] == [actors.Reason.STOPPED]


class Parent(Actor, backoff_s=1.0):
    async def run(self) -> None:
        runs.append(trio.current_time())
        await trio.sleep_forever()

    @handler
    async def adopt(self, child: Child) -> None:
        await self.system.spawn(Child, child.key)


class Child(Actor, on_error="escalate"):
    @handler
    async def boom(self) -> None:
        raise LookupError("boom")


runs: list[float] = []


async def test_an_actor_escalates_to_a_spawner_on_another_host(autojump_clock: MockClock) -> None:
    runs.clear()
    async with actors.testing.open_cluster([Parent, Child], hosts=2) as cluster:
        first, second = cluster.hosts
        parent = first.ref(Parent, key_owned_by(first, Parent))
        child = first.ref(Child, key_owned_by(second, Child))
        await parent.adopt(child)
        with pytest.raises(actors.ActorError):
            await child.boom()
        await trio.sleep(2)
        assert runs == [pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1)]
        await wait_all_tasks_blocked()
        assert not second.activations
