"""The network in memory does what it is told, in virtual time, and the same again by its seed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import trio
import trio.testing

from tests.contract.link_worlds import Host, Recorder
from wire.links_memory import MemoryNetwork
from wire.ports import Peer

A = Peer("a", "a-1", "10.0.0.1:1")
B = Peer("b", "b-1", "10.0.0.2:1")


class Watch(Recorder):
    """Also keeps when each item came, in virtual seconds."""

    def __init__(self, answers: bool = False) -> None:
        super().__init__(answers)
        self.times_s: list[float] = []

    def on_items(self, peer: Peer, items: Any) -> None:
        super().on_items(peer, items)
        self.times_s += [trio.current_time()] * len(items)


def start(network: MemoryNetwork, me: Peer, answers: bool = False) -> Host:
    handler = Watch(answers)
    return Host(me, network.links(me, handler), handler)


def times_s(host: Host) -> list[float]:
    assert isinstance(host.handler, Watch)
    return host.handler.times_s


def run(network: MemoryNetwork, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(network.run)
            await scenario()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_each_batch_takes_its_time_and_stays_in_order() -> None:
    network = MemoryNetwork(Random(0), delay_s=(1.0, 1.0))

    async def scenario() -> None:
        a, b = start(network, A), start(network, B)
        began_s = trio.current_time()
        a.call(b, 1)
        await trio.sleep(2.5)  # Hello and its answer took two of these
        a.call(b, 2)
        await trio.sleep(2)
        assert [round(time_s - began_s, 6) for time_s in times_s(b)] == [3.0, 3.5]

    run(network, scenario)


def test_a_partition_holds_one_way_only() -> None:
    network = MemoryNetwork(Random(0), delay_s=(0.1, 0.1))

    async def scenario() -> None:
        a, b = start(network, A), start(network, B, answers=True)
        a.call(b, 1)
        await trio.sleep(1)
        network.partition(B.address, A.address)
        a.call(b, 2)
        await trio.sleep(1)
        assert b.handler.calls == [1, 2]
        assert a.handler.replies == [1]
        network.heal()
        await trio.sleep(0.15)
        assert a.handler.replies == [1, 2]

    run(network, scenario)


def test_a_cut_under_a_partition_loses_what_was_held_and_the_session_sends_it_again() -> None:
    network = MemoryNetwork(Random(0), delay_s=(0.1, 0.1))

    async def scenario() -> None:
        a, b = start(network, A), start(network, B)
        a.call(b, 1)
        await trio.sleep(1)
        network.partition(A.address, B.address)
        a.call(b, 2)
        await trio.sleep(1)
        network.cut(A.address, B.address)
        network.heal()
        await trio.sleep(0.05)
        assert b.handler.calls == [1]
        await trio.sleep(5)
        assert b.handler.calls == [1, 2]
        assert a.handler.lost == []

    run(network, scenario)


def test_a_host_that_is_removed_hears_and_says_nothing_more() -> None:
    network = MemoryNetwork(Random(0), delay_s=(0.1, 0.1))

    async def scenario() -> None:
        a, b = start(network, A), start(network, B)
        a.call(b, 1)
        await trio.sleep(1)
        network.remove(B.address)
        a.call(b, 2)
        b.call(a, 3)
        await trio.sleep(60)
        assert b.handler.calls == [1]
        assert b.handler.lost == []
        assert a.handler.calls == []
        assert a.handler.lost == []  # only the view can say that b is dead
        assert not a.links.connected(B.incarnation)

    run(network, scenario)


def test_a_handshake_that_hangs_is_given_up_and_tried_again() -> None:
    network = MemoryNetwork(Random(0), delay_s=(0.1, 0.1))

    async def scenario() -> None:
        a, b = start(network, A), start(network, B)
        a.call(b, 1)
        await trio.sleep(0.05)
        network.partition(A.address, B.address)
        await trio.sleep(20)
        assert b.handler.calls == []
        network.heal()
        await trio.sleep(2)
        assert b.handler.calls == [1]

    run(network, scenario)


def test_the_same_seed_gives_the_same_run() -> None:
    def trace(seed: int) -> list[float]:
        network = MemoryNetwork(Random(seed), delay_s=(0.0, 0.1), duplicate=0.2, cut_chance=0.05)
        times: list[float] = []

        async def scenario() -> None:
            a, b = start(network, A, answers=True), start(network, B, answers=True)
            began_s = trio.current_time()
            for number in range(100):
                a.call(b, number)
                b.call(a, number)
                await trio.sleep(0.02)
            await trio.sleep(30)
            assert a.handler.replies == b.handler.replies == list(range(100))
            times.extend(round(time_s - began_s, 9) for time_s in times_s(a) + times_s(b))

        run(network, scenario)
        return times

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_links_in_memory_import_no_asyncio() -> None:
    code = "import sys, wire.links_memory; sys.exit('asyncio' in sys.modules)"
    # Trio itself imports no asyncio, so whatever does would be ours.
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
