"""What every implementation of wire.ports.Links promises: in memory and over real gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from tests.contract.link_worlds import QUICK, Host, MemoryWorld, Recorder, Scenario, World
from tests.contract.link_worlds import play_in_memory as in_memory
from tests.contract.link_worlds import play_over_grpc as over_grpc
from tests.contract.link_worlds import play_over_grpc_in_plain_asyncio as over_grpc_asyncio
from wire.errors import InvalidArgument
from wire.items import Goaway, Item, Request, Response
from wire.ports import Peer

Play = Callable[[Scenario], None]

TINY = replace(
    QUICK, credit_bytes=300, room_bytes=2000, room_items=20, batch_items_max=3,
    batch_bytes_max=500, ack_batches=1,
)  # fmt: skip


@pytest.fixture(
    params=[in_memory, over_grpc, over_grpc_asyncio], ids=["memory", "grpc", "grpc-asyncio"]
)
def play(request: pytest.FixtureRequest) -> Play:
    chosen: Play = request.param
    return chosen


def all_answered(count: int, *hosts: Host) -> bool:
    return all(len(host.handler.replies) >= count for host in hosts)


def test_calls_arrive_in_order_and_answers_return_on_their_session(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b", answers=True)
        for number in range(1000):
            assert a.call(b, number)
        await world.until(lambda: len(a.handler.replies) == 1000, "all answers")
        assert b.handler.calls == a.handler.replies == list(range(1000))
        assert set(b.handler.peers) == {a.me}
        assert set(a.handler.peers) == {b.me}
        (row,) = b.links.statistics()
        assert (row.peer, row.connects, row.items_in, row.items_out) == (a.me, 1, 1000, 1000)
        assert a.links.connected(b.me.incarnation)
        assert b.links.connected(a.me.incarnation)
        assert not a.links.connected("nobody")

    play(scenario)


def test_two_hosts_that_call_each_other_keep_a_session_each(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a", answers=True), await world.host("b", answers=True)
        for number in range(300):
            a.call(b, number)
            b.call(a, number)
        await world.until(lambda: all_answered(300, a, b), "all answers")
        for host in (a, b):
            assert host.handler.calls == host.handler.replies == list(range(300))
            (row,) = host.links.statistics()
            assert row.connects == 2

    play(scenario)


def test_broken_connections_lose_and_repeat_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a", answers=True), await world.host("b", answers=True)
        rng = Random(1)
        for number in range(1500):
            a.call(b, number, bytes(rng.randrange(300)))
            b.call(a, number, bytes(rng.randrange(300)))
            if number % 50 == 0:
                world.cut()
            await world.sleep(0.0005)
        await world.until(lambda: all_answered(1500, a, b), "all answers")
        for host in (a, b):
            assert host.handler.calls == host.handler.replies == list(range(1500))
            assert host.handler.lost == []
            (row,) = host.links.statistics()
            assert row.connects > 2

    play(scenario)


def test_tiny_credits_both_ways_at_full_load_do_not_deadlock(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a", answers=True, config=TINY)
        b = await world.host("b", answers=True, config=TINY)
        for number in range(400):
            a.call(b, number, b"x" * 100)
            b.call(a, number, b"x" * 100)
        await world.until(lambda: all_answered(400, a, b), "all answers")
        for host in (a, b):
            assert host.handler.calls == host.handler.replies == list(range(400))

    play(scenario)


def test_a_sender_is_told_to_stop_and_when_to_go_on(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a", config=TINY), await world.host("b")
        number = 0
        while a.call(b, number):
            number += 1
        assert number < TINY.room_items
        assert a.handler.rooms == 0
        await world.until(lambda: a.handler.rooms, "room again")
        (row,) = a.links.statistics()
        assert row.backlog_items <= TINY.room_items // 2
        await world.until(lambda: len(b.handler.calls) == number + 1, "all calls")
        assert a.handler.rooms == 1

    play(scenario)


def test_calls_to_a_host_that_starts_later_wait_for_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a")
        address = await world.reserve()
        late = Peer("b", "b-i2", address)
        a.call(late, 1)
        await world.sleep(0.1)
        assert not a.links.connected("b-i2")
        b = await world.host("b", address=address)
        assert b.me == late
        await world.until(lambda: b.handler.calls == [1], "the call")

    play(scenario)


def test_another_incarnation_at_the_address_gets_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b", answers=True)
        a.call(b, 1)
        await world.until(lambda: a.handler.replies, "the answer")
        world.vanish(b)
        other = await world.host("c", answers=True, address=b.me.address)
        a.call(b, 2)
        await world.until(lambda: a.handler.lost, "the loss")
        ((peer, reason),) = a.handler.lost
        assert peer == b.me
        assert b.me.incarnation in reason
        assert other.me.incarnation in reason
        a.call(other, 3)
        await world.until(lambda: a.handler.replies == [1, 3], "the other's answer")
        assert other.handler.calls == [3]

    play(scenario)


def test_another_cluster_is_refused_by_name(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b", cluster="elsewhere")
        a.call(b, 1)
        await world.until(lambda: a.handler.lost, "the loss")
        assert "'elsewhere'" in a.handler.lost[0][1]
        assert "'test'" in a.handler.lost[0][1]
        assert b.handler.got == []

    play(scenario)


def test_a_dropped_session_is_lost_on_both_sides_and_a_send_opens_another(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a", answers=True), await world.host("b", answers=True)
        a.call(b, 1)
        b.call(a, 1)
        await world.until(lambda: a.handler.replies and b.handler.replies, "the answers")
        a.links.drop(b.me.incarnation, "dead, says the view")
        assert a.handler.lost == [(b.me, "dead, says the view")]
        assert not a.links.connected(b.me.incarnation)
        await world.until(lambda: b.handler.lost, "the loss on the other side")
        a.links.drop(b.me.incarnation, "again")
        a.call(b, 2)
        await world.until(lambda: a.handler.replies == [1, 2], "the second answer")
        assert [len(host.handler.lost) for host in (a, b)] == [1, 1]

    play(scenario)


def test_a_dropped_peer_that_never_answered_is_lost_once(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a")
        nobody = Peer("b", "b-i9", await world.reserve())
        a.call(nobody, 1)
        await world.sleep(0.02)
        a.links.drop("b-i9", "dead")
        assert a.handler.lost == [(nobody, "dead")]
        assert a.links.statistics() == ()
        await world.sleep(0.2)
        assert len(a.handler.lost) == 1

    play(scenario)


def test_a_loss_names_the_calls_that_certainly_never_left(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a", config=TINY), await world.host("b")
        nobody = Peer("n", "n-i9", await world.reserve())
        for number in range(5):
            a.call(nobody, number)
        await world.sleep(0.02)
        a.links.drop(nobody.incarnation, "dead")
        assert a.handler.unsent == {(0, number) for number in range(5)}
        a.call(b, 0)
        await world.until(lambda: b.handler.calls, "the first call")
        world.stall(a, b)
        for number in range(1, 20):
            a.call(b, number)
        await world.sleep(0.05)
        a.links.drop(b.me.incarnation, "dead")
        left = {number for number in range(1, 20) if (0, number) not in a.handler.unsent}
        assert left == set(range(1, len(left) + 1))
        assert 0 < len(left) < 19
        assert a.links.unsent(b.me.incarnation) == frozenset()
        world.heal()
        await world.until(lambda: b.handler.lost, "the loss at the peer")
        assert len(b.handler.calls) <= len(left) + 1

    play(scenario)


def test_who_hears_of_a_loss_may_send_at_once(play: Play) -> None:
    class Stubborn(Recorder):
        def on_lost(self, peer: Peer, reason: str) -> None:
            super().on_lost(peer, reason)
            if len(self.lost) < 3:
                self.links.send(peer, Request(len(self.lost), "again", b""))

    async def scenario(world: World) -> None:
        a, b = await world.host("a", handler=Stubborn()), await world.host("b", handler=Stubborn())
        a.call(b, 1)
        b.call(a, 1)
        await world.until(lambda: a.handler.calls and b.handler.calls, "the calls")
        a.links.drop(b.me.incarnation, "dead")
        await world.until(lambda: Request(1, "again", b"") in a.handler.got, "from b")
        await world.until(lambda: Request(1, "again", b"") in b.handler.got, "from a")
        a.call(b, 2)
        await world.until(lambda: b.handler.calls[-1] == 2, "a later call")

    play(scenario)


def test_a_session_whose_dialer_does_not_come_back_is_lost(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a")
        b = await world.host("b", config=replace(QUICK, orphan_ttl_s=0.2))
        a.call(b, 1)
        await world.until(lambda: b.handler.calls, "the call")
        world.vanish(a)
        a.links.drop(b.me.incarnation, "gone")
        world.cut()
        await world.until(lambda: b.handler.lost, "the loss")
        assert b.handler.lost[0][0] == a.me

    play(scenario)


def test_a_session_that_was_resumed_in_time_is_not_lost_later(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a")
        b = await world.host("b", answers=True, config=replace(QUICK, orphan_ttl_s=0.15))
        a.call(b, 1)
        await world.until(lambda: a.handler.replies, "the first answer")
        world.cut()
        a.call(b, 2)
        await world.until(lambda: a.handler.replies == [1, 2], "the second answer")
        await world.sleep(0.3)
        assert a.handler.lost == b.handler.lost == []

    play(scenario)


def test_a_session_that_the_other_side_forgot_is_lost_not_repeated(play: Play) -> None:
    async def scenario(world: World) -> None:
        slow = replace(QUICK, backoff_start_s=0.4, backoff_max_s=0.5)
        a = await world.host("a", config=slow)
        b = await world.host("b", config=replace(QUICK, orphan_ttl_s=0.05))
        a.call(b, 1)
        await world.until(lambda: b.handler.calls, "the call")
        world.cut()
        a.call(b, 2)
        await world.until(lambda: a.handler.lost, "the loss at the dialer")
        assert "unknown" in a.handler.lost[0][1]
        assert b.handler.calls == [1]
        assert len(b.handler.lost) == 1
        a.call(b, 3)
        await world.until(lambda: b.handler.calls == [1, 3], "a new session")

    play(scenario)


def test_a_stalled_way_holds_items_and_loses_none(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b", answers=True)
        a.call(b, 0)
        await world.until(lambda: a.handler.replies, "the first answer")
        world.stall(a, b)
        for number in range(1, 100):
            a.call(b, number)
        await world.sleep(0.05)
        assert b.handler.calls == [0]
        world.heal()
        await world.until(lambda: len(a.handler.replies) == 100, "all answers")
        assert b.handler.calls == list(range(100))
        assert a.handler.lost == []

    play(scenario)


def test_large_items_survive_a_break(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b", answers=True)
        for number in range(4):
            a.call(b, number, b"y" * (3 << 20))
        await world.until(lambda: b.handler.calls, "the first call")
        world.cut()
        await world.until(lambda: len(a.handler.replies) == 4, "all answers")
        assert b.handler.calls == a.handler.replies == [0, 1, 2, 3]

    play(scenario)


def test_an_item_over_the_limit_is_refused_and_the_link_goes_on(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a", config=replace(QUICK, payload_bytes_max=1000))
        b = await world.host("b", answers=True)
        with pytest.raises(InvalidArgument, match="payload_bytes_max"):
            a.call(b, 1, bytes(2 << 20))
        a.call(b, 2)
        await world.until(lambda: a.handler.replies == [2], "the answer")

    play(scenario)


def test_a_backlog_over_its_bound_gives_the_session_up_by_name(play: Play) -> None:
    async def scenario(world: World) -> None:
        a = await world.host("a", config=replace(QUICK, backlog_bytes_max=10_000))
        nobody = Peer("b", "b-i9", await world.reserve())
        for number in range(20):
            a.call(nobody, number, bytes(1000))
        await world.until(lambda: a.handler.lost, "the loss")
        assert "backlog_bytes_max" in a.handler.lost[0][1]
        assert a.links.statistics() == ()

    play(scenario)


def test_a_handler_that_raises_costs_only_its_own_items(play: Play) -> None:
    class Clumsy(Recorder):
        def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
            super().on_items(peer, items)
            if len(self.got) == 1:
                raise RuntimeError("clumsy")

    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b", handler=Clumsy())
        for number in range(3):
            a.call(b, number)
            await world.until(lambda: b.handler.calls[-1:] == [number], "the call")  # noqa: B023
        assert b.handler.lost == []

    play(scenario)


def test_questions_between_hosts_and_goaway_pass_unchanged(play: Play) -> None:
    async def scenario(world: World) -> None:
        a, b = await world.host("a"), await world.host("b")
        items: list[Item] = [Request(7, "list", b"body"), Goaway("draining"), Response(8, "", b"x")]
        for item in items:
            a.links.send(b.me, item)
        await world.until(lambda: len(b.handler.got) == 3, "the items")
        assert b.handler.got == items
        b.links.send(a.me, Response(7, "", b"ok"))
        await world.until(lambda: a.handler.got == [Response(7, "", b"ok")], "the answer")

    play(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_memory_links_lose_nothing_when_chance_breaks_connections(seed: int) -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, MemoryWorld)
        world.network.cut_chance = 0.05
        a = await world.host("a", answers=True, config=TINY)
        b = await world.host("b", answers=True, config=TINY)
        for number in range(200):
            a.call(b, number)
            b.call(a, number)
        await world.until(lambda: all_answered(200, a, b), "all answers")
        for host in (a, b):
            assert host.handler.calls == host.handler.replies == list(range(200))

    in_memory(scenario, seed)
