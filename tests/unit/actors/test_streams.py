"""Streams: order, flow control, and ends from either side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
import actors.testing
from actors import Actor, Stream, SystemConfig, handler
from actors.testing import ClusterConfig

ended: list[Any] = []
produced: list[int] = []
WINDOW = 8


@pytest.fixture(autouse=True)
def _empty() -> None:
    ended.clear()
    produced.clear()


class Source(Actor):
    @handler
    async def count(self, n: int, pause_s: float = 0.0) -> AsyncIterator[int]:
        try:
            for i in range(n):
                if pause_s:
                    await trio.sleep(pause_s)
                produced.append(i)
                yield i
        finally:
            ended.append(trio.current_time())

    @handler
    async def fail_after(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i
        raise LookupError("no more")

    @handler
    async def wrong(self) -> AsyncIterator[int]:
        yield 1
        yield "two"  # type: ignore[misc]

    @handler
    async def clings(self) -> AsyncIterator[int]:
        try:
            for i in range(10**9):
                yield i
        finally:
            await trio.sleep(0.5)
            ended.append(trio.current_time())

    @handler
    async def hi(self) -> str:
        return "hi"


async def take(stream: Stream[int], into: list[int]) -> None:
    async for item in stream:
        into.append(item)


@pytest.fixture(params=["here", "on another host"])
async def source(request: pytest.FixtureRequest, autojump_clock: MockClock) -> AsyncIterator[Any]:
    """A ref to a Source, here or across a (virtual) network."""
    config = SystemConfig(stream_window=WINDOW)
    if request.param == "here":
        async with actors.open_system(config=config) as system:
            yield system.ref(Source, "a")
        return
    options = ClusterConfig(system=config, delay_s=(0.0, 0.01))
    async with actors.testing.open_cluster([Source], hosts=2, config=options) as cluster:
        first, second = cluster.hosts
        keys = (str(n) for n in range(1000))
        key = next(k for k in keys if first.ring.owner(f"Source/{k}").host_id == second.host_id)  # type: ignore[union-attr]
        ref = first.ref(Source, key)
        assert await ref.hi() == "hi"
        assert cluster.host_of(ref) is second
        yield ref


async def _wait_ended() -> None:
    with trio.fail_after(5):
        while not ended:
            await trio.sleep(0.001)


async def test_items_arrive_in_order_and_the_stream_ends(
    source: Source, autojump_clock: MockClock
) -> None:
    assert [n async for n in source.count(1000)] == list(range(1000))
    assert [n async for n in source.count(0)] == []


async def test_a_producer_is_ahead_of_its_consumer_by_one_window_at_most(
    source: Source, autojump_clock: MockClock
) -> None:
    async with source.count(1000) as stream:
        taken = 0
        async for _ in stream:
            taken += 1
            await trio.sleep(0.1)
            assert len(produced) <= taken + WINDOW + 1
            if taken == 50:
                break
    assert len(produced) < 70


async def test_leaving_by_break_cancels_the_producer(
    source: Source, autojump_clock: MockClock
) -> None:
    async for n in source.count(10**9):
        if n == 20:
            break
    await _wait_ended()
    assert len(produced) < 50
    assert await source.hi() == "hi"


async def test_leaving_by_aclose_cancels_the_producer(
    source: Source, autojump_clock: MockClock
) -> None:
    stream = source.count(10**9)
    assert await stream.__anext__() == 0
    await stream.aclose()
    await _wait_ended()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    await stream.aclose()


async def test_aclosing_works_on_streams(source: Source, autojump_clock: MockClock) -> None:
    async with aclosing(source.count(10**9)) as stream:
        assert await anext(aiter(stream)) == 0
    await _wait_ended()


async def test_leaving_by_an_exception_cancels_the_producer(
    source: Source, autojump_clock: MockClock
) -> None:
    async def leave() -> None:
        async for _ in source.count(10**9):
            raise KeyError("x")

    with pytest.raises(KeyError):
        await leave()
    await _wait_ended()


async def test_a_cancelled_consumer_cancels_the_producer(
    source: Source, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(1):
        async for _ in source.count(10**9, 0.3):
            pass
    start = trio.current_time()
    await _wait_ended()
    assert ended[0] - start < 0.1
    assert produced == [0, 1, 2]


async def test_a_stream_that_was_never_started_costs_nothing(
    source: Source, autojump_clock: MockClock
) -> None:
    stream = source.count(10**9)
    del stream
    await trio.sleep(1)
    assert produced == []


async def test_an_error_in_the_middle_comes_after_the_items_before_it(
    source: Source, autojump_clock: MockClock
) -> None:
    got: list[int] = []
    with pytest.raises(actors.ActorError, match="LookupError: no more"):
        await take(source.fail_after(5), got)
    assert got == [0, 1, 2, 3, 4]


async def test_an_item_of_the_wrong_type_is_the_actors_error(
    source: Source, autojump_clock: MockClock
) -> None:
    stream = source.wrong()
    assert await stream.__anext__() == 1
    with pytest.raises(actors.ActorError, match="wrong stream item"):
        await stream.__anext__()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_a_producer_that_is_left_between_two_items_may_clean_up(
    source: Source, autojump_clock: MockClock
) -> None:
    async with source.clings() as stream:
        assert await stream.__anext__() == 0
        await trio.sleep(1)
    await _wait_ended()
    assert await source.hi() == "hi"


async def test_a_stream_longer_than_the_ask_timeout_goes_on(
    source: Source, autojump_clock: MockClock
) -> None:
    assert [n async for n in source.count(10, 10.0)] == list(range(10))
    assert trio.current_time() > 99


async def test_a_deadline_that_is_given_bounds_the_whole_stream(
    source: Source, autojump_clock: MockClock
) -> None:
    got: list[int] = []
    start = trio.current_time()
    with pytest.raises(actors.DeadlineExceeded):
        await take(source.count.with_options(timeout_s=2.5)(10, 1.0), got)
    assert got == [0, 1]
    assert trio.current_time() - start == pytest.approx(2.5, abs=0.05)
    await _wait_ended()


async def test_a_stream_that_cannot_start_in_time_is_an_error(
    source: Source, autojump_clock: MockClock
) -> None:
    async with source.count(10**9) as first:
        await first.__anext__()
        start = trio.current_time()
        with pytest.raises(actors.RoostError):
            await take(source.count.with_options(timeout_s=3)(1), [])
        assert trio.current_time() - start == pytest.approx(3, abs=0.05)


async def test_asking_for_a_stream_and_streaming_an_ask_are_named_mistakes(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        await system.ref(Source, "a").hi()
        with pytest.raises(actors.InvalidArgument, match="iterate over it"):
            await system.ask("Source/a", "count", 3)


async def test_an_actor_streams_from_another(autojump_clock: MockClock) -> None:
    class Sink(Actor):
        @handler
        async def total(self, source: Source, n: int) -> int:
            return sum([i async for i in source.count(n)])

    async with actors.open_system() as system:
        assert await system.ref(Sink, "s").total(system.ref(Source, "a"), 100) == 4950


async def test_a_cancelled_actor_lets_go_of_what_it_streams(autojump_clock: MockClock) -> None:
    class Sink(Actor):
        @handler
        async def drain(self, source: Source) -> None:
            async for _ in source.count(10**9, 1.0):
                pass

    async with actors.open_system() as system:
        with trio.move_on_after(3.5):
            await system.ref(Sink, "s").drain(system.ref(Source, "a"))
        await wait_all_tasks_blocked()
        assert ended == [3.5]
