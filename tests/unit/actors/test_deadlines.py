"""The deadline wheel: late by at most one tick, never early, and cheap to forget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors.deadlines import TICK_S, DeadlineWheel


class Entry:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.tick = 0
        self.expired_at: list[float] = []
        self._then = then

    def expire(self) -> None:
        self.expired_at.append(trio.current_time())
        self._then()


async def _with(wheel: DeadlineWheel, entries: list[tuple[Entry, float]], until: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wheel.run)
        await trio.testing.wait_all_tasks_blocked()
        for entry, at in entries:
            wheel.add(entry, at)
        await trio.sleep_until(until)
        nursery.cancel_scope.cancel()


@settings(deadline=None)
@given(st.lists(st.floats(0, 2), max_size=30), st.sampled_from([TICK_S, 0.25, 0.1]))
def test_each_entry_expires_once_within_one_tick_and_never_early(
    times: list[float], tick_s: float
) -> None:
    entries = [(Entry(), at) for at in times]
    wheel = DeadlineWheel(tick_s)
    trio.run(_with, wheel, entries, 5.0, clock=MockClock(autojump_threshold=0))
    for entry, at in entries:
        (expired_at,) = entry.expired_at
        assert at - 1e-6 <= expired_at <= at + tick_s + 1e-6


@pytest.mark.parametrize("tick", range(1, 60))
async def test_a_tick_that_rounding_puts_a_hair_ahead_of_the_clock_still_fires(
    autojump_clock: MockClock, tick: int
) -> None:
    entry = Entry()
    with trio.fail_after(10):
        await _with(DeadlineWheel(), [(entry, tick * TICK_S)], 1.0)
    assert len(entry.expired_at) == 1


async def test_a_discarded_entry_does_not_expire(autojump_clock: MockClock) -> None:
    wheel, entry = DeadlineWheel(), Entry()
    wheel.add(entry, 0.1)
    wheel.discard(entry)
    wheel.discard(entry)
    await _with(wheel, [], 1.0)
    assert entry.expired_at == []
    assert entry.tick == 0


async def test_an_entry_discarded_by_another_of_the_same_tick_does_not_expire(
    autojump_clock: MockClock,
) -> None:
    wheel, second = DeadlineWheel(), Entry()
    first = Entry(lambda: wheel.discard(second))
    await _with(wheel, [(first, 0.1), (second, 0.1)], 1.0)
    assert len(first.expired_at) == 1
    assert second.expired_at == []


async def test_an_entry_may_add_itself_again_while_it_expires(autojump_clock: MockClock) -> None:
    wheel = DeadlineWheel()
    entry = Entry(lambda: wheel.add(entry, trio.current_time() + 0.1))
    await _with(wheel, [(entry, 0.1)], 1.0)
    assert 8 <= len(entry.expired_at) <= 10


async def test_an_earlier_deadline_added_later_is_not_missed(autojump_clock: MockClock) -> None:
    late, early = Entry(), Entry()
    await _with(DeadlineWheel(), [(late, 5.0), (early, 0.5)], 1.0)
    assert len(early.expired_at) == 1
    assert late.expired_at == []
