"""Actors that move between hosts, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import trio

import actors.mover
from actors import Actor, HostSystem, handler
from actors.mover import Mover
from actors.offers import Answer, Outcome
from actors.ref import id_of
from actors.testing import Cluster, open_cluster
from placement import records
from placement.ports import Claim, RegistryUnavailable
from tests.unit.actors.cluster_kit import key_owned_by, keys_owned_by

seen: list[int] = []


class Sink(Actor):
    @handler
    async def put(self, n: int) -> None:
        await trio.sleep(0.01)
        seen.append(n)

    @handler
    async def where(self) -> str:
        return self.system.host_id


async def test_local_tells_in_the_mailbox_follow_an_actor_that_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen.clear()
    async with open_cluster(hosts=1, kinds=[Sink]) as cluster:
        first = cluster.hosts[0]
        refs = [first.ref(Sink, f"k{i}") for i in range(20)]
        for ref in refs:
            await ref.where()
        await cluster.add_host()
        told = 0
        with trio.move_on_after(8):
            while True:
                for ref in refs:
                    await ref.put.tell(told)
                    told += 1
                await trio.sleep(0.12)
        await trio.sleep(5)
        assert any([await ref.where() != first.host_id for ref in refs])
        assert sorted(seen) == list(range(told))


class Room(Actor, max_concurrency=100):
    @handler
    async def listen(self) -> AsyncIterator[int]:
        await trio.sleep_forever()
        yield 0

    @handler
    async def say(self) -> str:
        return self.system.host_id


async def _ends(host: HostSystem, key: str) -> None:
    async for _ in host.ref(Room, key).listen():
        pass


async def test_an_actor_whose_stream_does_not_end_is_seldom_held_up_and_moves_when_it_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each try to move it keeps its messages waiting: it must not be tried again and again."""
    async with open_cluster(hosts=1, kinds=[Room]) as cluster, trio.open_nursery() as listeners:
        first = cluster.hosts[0]
        keys = [f"k{i}" for i in range(8)]
        for key in keys:
            listeners.start_soon(_ends, first, key)
        await trio.sleep(1)
        second = await cluster.add_host()
        slow: Counter[str] = Counter()
        for _ in range(100):
            for key in keys:
                began_s = trio.current_time()
                assert await first.ref(Room, key).say() == first.host_id
                slow[key] += trio.current_time() - began_s > 0.5
            await trio.sleep(0.5)
        assert 0 < max(slow.values()) <= 4
        listeners.cancel_scope.cancel()
        await trio.sleep(5)
        assert second.host_id in [await first.ref(Room, key).say() for key in keys]


class Clockwork(Actor):
    def __init__(self) -> None:
        self.ticks = 0  # of this activation

    async def on_activate(self) -> None:
        self.set_timer(self.tick, 1.0, every_s=1.0)

    async def tick(self) -> None:
        self.ticks += 1

    @handler
    async def once_more(self, after_s: float) -> None:
        self.set_timer(self.tick, after_s)

    @handler
    async def lose(self) -> None:
        self.set_timer(lambda: self.tick(), 60.0)

    @handler
    def ticked(self) -> int:
        return self.ticks


async def _moved(cluster: Cluster, ref: Clockwork) -> Clockwork:
    """A ref at the host that the actor has moved to: its own is drained."""
    home = cluster.host_of(ref)
    assert home is not None
    await cluster.add_host()
    await cluster.drain(home)
    await cluster.wait_settled()
    return cluster.hosts[0].ref(Clockwork, ref.key)


async def test_a_timer_that_on_activate_sets_does_not_double_when_the_actor_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(hosts=1, kinds=[Clockwork]) as cluster:
        ref = cluster.hosts[0].ref(Clockwork, "a")
        await ref.ticked()
        for _ in range(3):
            ref = await _moved(cluster, ref)
        before = await ref.ticked()
        await trio.sleep(10)
        assert 9 <= await ref.ticked() - before <= 11


async def test_timers_of_one_method_move_each_and_one_of_a_lambda_is_lost_with_a_warning(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster(hosts=1, kinds=[Clockwork]) as cluster:
        ref = cluster.hosts[0].ref(Clockwork, "a")
        await ref.once_more(60.0)
        await ref.once_more(70.0)
        await ref.lose()
        ref = await _moved(cluster, ref)
        before = await ref.ticked()
        await trio.sleep(100.5)
        assert await ref.ticked() - before == 100 + 2  # those that on_activate set, and both
    assert "Clockwork/a loses 1 timers" in caplog.text


class Ending(Actor):
    @handler
    async def end(self) -> None:
        self._activation.end()
        await trio.sleep(2)


async def test_an_actor_that_ends_itself_ends_though_it_moves_before_it_can(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(hosts=2, kinds=[Ending]) as cluster:
        stays, leaves = cluster.hosts
        ref = stays.ref(Ending, key_owned_by(leaves, Ending))
        await stays.spawn(Ending, ref.key, durable=True)
        await ref.end.tell()
        await trio.sleep(1)
        await cluster.drain(leaves)
        await trio.sleep(1)
        assert leaves.rebalancer.mover.moved_total == 1
        assert not stays.activations
        assert await stays.registry.specs([(0, 2**64 - 1)], 10) == []


class Sum(msgspec.Struct):
    total: int = 0


class Purse(Actor, idle_after_s=1, persist="turn"):
    state: Sum

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total


async def _stay(*args: object, **how: object) -> int:
    return 0


async def test_who_waits_for_an_offers_answer_does_not_go_on_after_it_ran_there_and_was_released(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The location is free by then, but the retained state is not the newest any more."""
    async with open_cluster([Purse]) as cluster:
        old, new, third = cluster.hosts
        for host in (new, third):  # else it would be moved back at once
            monkeypatch.setattr(host.rebalancer.mover, "move", _stay)
        ref = old.ref(Purse, key_owned_by(old, Purse))
        name = str(id_of(ref))
        assert await new.ref(Purse, ref.key).add(1) == 1  # and the link stands
        activation = old.activations[id_of(ref)]
        cluster.network.partition(new.address, old.address)  # the offer arrives, the answer not
        async with trio.open_nursery() as nursery:

            async def move() -> None:
                deadline = trio.current_time() + 1
                moves = [(activation, new.me.incarnation)]
                await old.rebalancer.mover.move(moves, deadline, is_drain=True)

            nursery.start_soon(move)
            await trio.sleep(0.5)
            assert cluster.store.locations[name].incarnation == new.me.incarnation
            assert await new.ref(Purse, ref.key).add(1) == 2
            await trio.sleep(3)
            assert name not in cluster.store.locations  # idle, saved and released
        assert id_of(ref) not in old.activations
        cluster.network.heal()
        assert await third.ref(Purse, ref.key).add(1) == 3


async def test_who_is_refused_goes_on_though_the_reply_to_its_claim_is_lost(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first claim was granted, so the next one finds the actor at a higher epoch: its own."""
    async with open_cluster([Purse], hosts=2) as cluster:
        old, new = cluster.hosts
        ref = new.ref(Purse, key_owned_by(old, Purse))
        assert await ref.add(1) == 1
        activation = old.activations[id_of(ref)]
        claim, lost = old.registry.claim, 0

        async def claim_and_lose(
            me: str, claims: Sequence[Claim]
        ) -> Sequence[records.Claimed | records.Held]:
            nonlocal lost
            won = await claim(me, claims)
            if lost < 2:
                lost += 1
                raise RegistryUnavailable("the reply is lost")
            return won

        monkeypatch.setattr(old.registry, "claim", claim_and_lose)
        monkeypatch.setattr(Mover, "_ask", _declined)
        assert await _move(old, new, ref, within_s=1) == 0
        assert lost == 2
        assert old.activations[id_of(ref)] is activation
        assert cluster.store.locations[str(id_of(ref))].epoch == activation.epoch
        assert await ref.add(1) == 2


async def _declined(mover: Mover, to: str, offers: list[actors.mover.Offer]) -> list[Answer]:
    return [Answer(Outcome.DECLINED)] * len(offers)


async def test_messages_taken_while_an_earlier_batch_is_offered_move_along(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.mover, "BATCH_BYTES_MAX", 1)  # each offer goes alone
    async with open_cluster([Purse], hosts=2) as cluster:
        old, new = cluster.hosts
        monkeypatch.setattr(new.rebalancer.mover, "move", _stay)
        one, other = (key for key, _ in zip(keys_owned_by(old, Purse), "ab", strict=False))
        for key in (one, other):
            await new.ref(Purse, key).add(1)
        ask, batches = Mover._ask, []

        async def ask_later(mover: Mover, to: str, offers: list[actors.mover.Offer]) -> object:
            batches.append([offer.key for offer in offers])
            if len(batches) == 1:
                await new.ref(Purse, other).add.tell(10)
                await trio.sleep(0.1)
            return await ask(mover, to, offers)

        monkeypatch.setattr(Mover, "_ask", ask_later)
        moves = [
            (old.activations[id_of(old.ref(Purse, k))], new.me.incarnation) for k in (one, other)
        ]
        assert await old.rebalancer.mover.move(moves, trio.current_time() + 1, is_drain=True) == 2
        assert batches == [[one], [other]]
        assert await new.ref(Purse, other).add(0) == 11


async def test_the_first_message_of_a_sender_that_comes_while_its_actor_is_offered_goes_on_at_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before its stream is known there: its sender must be told, and not wait for
    the second after which it tries by itself."""
    async with open_cluster([Purse], hosts=3) as cluster:
        old, new, third = cluster.hosts
        monkeypatch.setattr(new.rebalancer.mover, "move", _stay)
        ref = third.ref(Purse, next(keys_owned_by(old, Purse)))
        await old.ref(Purse, ref.key).add(1)
        ask = Mover._ask
        took: list[float] = []

        async def add() -> None:
            start = trio.current_time()
            assert await ref.add(1) == 2
            took.append(trio.current_time() - start)

        async def ask_later(mover: Mover, to: str, offers: list[actors.mover.Offer]) -> object:
            nursery.start_soon(add)
            await trio.sleep(0.1)
            return await ask(mover, to, offers)

        monkeypatch.setattr(Mover, "_ask", ask_later)
        moves = [(old.activations[id_of(ref)], new.me.incarnation)]
        async with trio.open_nursery() as nursery:
            deadline = trio.current_time() + 1
            assert await old.rebalancer.mover.move(moves, deadline, is_drain=True) == 1
        assert took[0] < 0.2


@pytest.mark.parametrize("is_local", [True, False])
async def test_a_call_whose_deadline_passes_while_its_actor_is_offered_was_not_delivered(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    """Its mailbox is not full, and the caller has nothing to slow down for."""
    async with open_cluster([Purse], hosts=2) as cluster:
        old, new = cluster.hosts
        monkeypatch.setattr(new.rebalancer.mover, "move", _stay)
        caller = old if is_local else new
        ref = caller.ref(Purse, key_owned_by(old, Purse))
        assert await ref.add(1) == 1
        ask = Mover._ask

        async def ask_later(mover: Mover, to: str, offers: list[actors.mover.Offer]) -> object:
            with pytest.raises(actors.NotDelivered, match="its actor moves"):
                await actors.with_timeout(ref, 0.1).add(10)
            return await ask(mover, to, offers)

        monkeypatch.setattr(Mover, "_ask", ask_later)
        assert await _move(old, new, ref, within_s=1) == 1
        assert await ref.add(1) == 2


class Held(msgspec.Struct):
    numbers: list[int] = []


class Relay(Actor):
    """Sends on what it gets, and does not wait."""

    @handler
    async def push(self, to: Store, first: int, end: int) -> None:
        for n in range(first, end):
            await to.put.tell(n)

    @handler
    async def leave(self) -> None:
        self.passivate()


class Store(Actor, mailbox_max=4):
    """Slow, so that much waits for it."""

    state: Held

    @handler
    async def put(self, n: int) -> None:
        await trio.sleep(0.2)
        self.state.numbers.append(n)

    @handler
    async def numbers(self) -> list[int]:
        return self.state.numbers


async def _move(old: HostSystem, new: HostSystem, ref: object, within_s: float) -> int:
    moves = [(old.activations[id_of(ref)], new.me.incarnation)]
    deadline = trio.current_time() + within_s
    return await old.rebalancer.mover.move(moves, deadline, is_drain=True)


async def test_a_sender_moves_only_once_all_that_it_sent_is_accepted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its new place it begins a new stream, which would overtake the rest of the old."""
    async with open_cluster([Relay, Store], hosts=3) as cluster:
        old, new, third = cluster.hosts
        for host in (new, third):
            monkeypatch.setattr(host.rebalancer.mover, "move", _stay)
        relay = old.ref(Relay, key_owned_by(old, Relay))
        store = old.ref(Store, key_owned_by(third, Store))
        await store.numbers()  # its place is known: now all goes out before the first answer
        await relay.push(store, 0, 20)
        assert await _move(old, new, relay, 20.0) == 1
        await relay.push(store, 20, 25)
        await trio.sleep(10)
        assert await store.numbers() == list(range(25))


async def test_one_that_cannot_send_all_in_time_stays_where_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster([Relay, Store], hosts=2) as cluster:
        old, new = cluster.hosts
        relay = old.ref(Relay, key_owned_by(old, Relay))
        store = old.ref(Store, key_owned_by(new, Store))
        await store.numbers()
        await relay.push(store, 0, 50)
        moves = [(old.activations[id_of(relay)], new.me.incarnation)]
        deadline = trio.current_time() + 3
        assert await old.rebalancer.mover.move(moves, deadline, is_drain=False) == 0
        assert old.rebalancer.mover.given_up_total == 1
        await relay.push(store, 50, 51)
        await trio.sleep(12)
        assert await store.numbers() == list(range(51))


async def test_what_a_sender_that_moved_had_told_here_is_not_overtaken_when_its_receiver_moves(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cluster([Relay, Store], hosts=3) as cluster:
        old, new, third = cluster.hosts
        for host in (new, third):
            monkeypatch.setattr(host.rebalancer.mover, "move", _stay)
        relay = old.ref(Relay, key_owned_by(old, Relay))
        store = old.ref(Store, key_owned_by(old, Store))
        await relay.push(store, 0, 3)
        assert await _move(old, new, relay, 5.0) == 1
        await new.ref(Relay, relay.key).push(store, 3, 5)
        assert await _move(old, third, store, 5.0) == 1
        await trio.sleep(10)
        assert await store.numbers() == list(range(5))


@pytest.mark.parametrize("pause_s", [0.1, 8.0])
async def test_nor_does_a_sender_that_was_passivated_overtake_what_it_had_sent(
    autojump_clock: trio.testing.MockClock, pause_s: float
) -> None:
    async with open_cluster([Relay, Store], hosts=2) as cluster:
        here, there = cluster.hosts
        relay = here.ref(Relay, key_owned_by(here, Relay))
        store = here.ref(Store, key_owned_by(there, Store))
        await store.numbers()
        await relay.push(store, 0, 20)
        await relay.leave()
        await trio.sleep(pause_s)
        await relay.push(store, 20, 30)
        await trio.sleep(10)
        assert await store.numbers() == list(range(30))
