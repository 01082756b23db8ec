"""Turns that begin within the step of their caller mean the same as those in Trio's next pass."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock

import actors
from actors import Actor, handler, step

seen: list[object] = []
mood: ContextVar[str] = ContextVar("mood", default="none")


@pytest.fixture(autouse=True)
def _empty() -> None:
    seen.clear()


@pytest.fixture(params=["at once", "in the next pass"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "at once":
        monkeypatch.setattr(step, "known", lambda: False)


either = pytest.mark.usefixtures("_both_ways")


class Many(Actor):
    def __init__(self) -> None:
        self.count = 0
        self.event = trio.Event()

    @handler
    async def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    @handler
    async def after(self, seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    @handler
    async def checkpoints(self) -> str:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.cancel_shielded_checkpoint()
        return "passed"

    @handler
    async def together(self, count: int) -> int:
        done = 0

        async def one() -> None:
            nonlocal done
            await trio.sleep(0.01)
            done += 1

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(one)
        return done

    @handler
    async def down(self, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + await self.system.ref(Many, f"d{depth - 1}").down(depth - 1)

    @handler
    async def wait_shielded(self, seconds: float) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        seen.append("shield over")

    @handler
    async def wait_for_ever(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append(("ended", trio.current_time()))

    @handler
    async def set_mood(self, value: str) -> str:
        seen.append(trio.lowlevel.current_task())
        before = mood.get()
        mood.set(value)
        return before

    @handler
    async def wait(self) -> str:
        await self.event.wait()
        return "woken"

    @handler(reentrant=True)
    async def wake(self) -> None:
        self.event.set()

    @handler
    async def misled(self) -> None:
        await asyncio.sleep(0)

    @handler
    async def fail(self) -> None:
        raise LookupError("no such thing")

    @handler
    async def raise_again(self) -> None:
        seen.append(sys.exc_info()[1])
        raise

    @handler
    async def deep(self, depth: int, further: int) -> int:
        if depth:
            return await self.deep(depth - 1, further)
        if not further:
            return 0
        key = f"d{further - 1}"
        return 1 + await self.system.ref(Many, key).deep(100, further - 1)

    @handler
    async def items(self, count: int) -> AsyncIterator[int]:
        for n in range(count):
            yield n


@asynccontextmanager
async def idle() -> AsyncIterator[Many]:
    """An actor of a local system that runs and has nothing to do: asks of it begin at once."""
    async with actors.open_system() as system:
        ref = system.ref(Many, "a")
        await ref.add(0)
        yield ref


def test_this_trio_is_one_whose_internals_steps_know() -> None:
    """The canary: when it falls, read the new Trio's unrolled_run before adding its digest."""
    assert step.internals_digest() in step.KNOWN_INTERNALS


def test_for_an_unknown_trio_and_on_demand_every_step_is_trios(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        monkeypatch.setenv(step.STOCK_STEPS_VARIABLE, "1")
        step.known.cache_clear()
        assert not step.known()
        monkeypatch.delenv(step.STOCK_STEPS_VARIABLE)
        monkeypatch.setattr(step, "KNOWN_INTERNALS", frozenset())
        step.known.cache_clear()
        assert not step.known()
    finally:
        step.known.cache_clear()


async def passes_during(system: actors.System, asks: int) -> int:
    """How often Trio came by while the asks were made, one after another."""
    ref = system.ref(Many, "a")
    await ref.add(0)
    await trio.testing.wait_all_tasks_blocked()
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = passes
        for _ in range(asks):
            await ref.add(1)
        during = passes - before
        nursery.cancel_scope.cancel()
    return during


async def test_a_handler_that_never_waits_costs_no_pass_of_trio(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        assert await passes_during(system, 10) <= 1


async def test_without_it_each_ask_does(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "known", lambda: False)
    async with actors.open_system() as system:
        assert await passes_during(system, 10) >= 10


async def test_asks_one_after_another_let_others_run(autojump_clock: MockClock) -> None:
    """Also while the clock stands still: a loop of asks must not keep the rest from ending it."""
    async with idle() as ref:
        over = False

        async def end() -> None:
            nonlocal over
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            over = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            asked = 0
            while not over:
                await ref.add(1)
                asked += 1
                assert asked < 1_000


@either
async def test_results_errors_and_waits_are_the_same(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Many, "a")
        assert [await ref.add(n) for n in (1, 2, 3)] == [1, 3, 6]
        assert await ref.after(2.0) == 2.0
        assert await ref.checkpoints() == "passed"
        assert await ref.together(5) == 5
        with pytest.raises(actors.ActorError, match="no such thing"):
            await ref.fail()
        assert await ref.add(1) == 7
        assert [n async for n in ref.items(3)] == [0, 1, 2]


@either
async def test_a_handler_waits_for_what_another_turn_does(autojump_clock: MockClock) -> None:
    async with idle() as ref:
        woken: list[str] = []

        async def wait() -> None:
            woken.append(await ref.wait())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await ref.wake()
        assert woken == ["woken"]


@either
async def test_awaiting_what_is_not_trios_is_the_handlers_error(autojump_clock: MockClock) -> None:
    async with idle() as ref:
        with pytest.raises(actors.ActorError, match=r"trio|Trio"):
            await ref.misled()
        assert await ref.add(2) == 2


@either
async def test_chains_deeper_than_steps_go(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        for n in range(41):
            await system.ref(Many, f"d{n}").add(0)
        assert await system.ref(Many, "d40").down(40) == 40


@either
async def test_a_deadline_does_not_wait_for_a_handler_that_cannot_be_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with idle() as ref:
        start = trio.current_time()
        with pytest.raises(actors.DeadlineExceeded):
            await ref.wait_shielded.with_options(timeout_s=1.0)(60.0)
        assert trio.current_time() - start < 2
        assert not seen


@either
async def test_a_cancelled_caller_goes_at_once_and_its_handler_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with idle() as ref:
        start = trio.current_time()
        with trio.move_on_after(1.0):
            await ref.wait_for_ever()
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [("ended", start + 1.0)]
        with trio.move_on_after(1.0):
            await ref.wait_shielded(60.0)
        assert trio.current_time() - start == pytest.approx(2.0)


@either
async def test_a_call_of_a_cancelled_caller_does_not_begin(autojump_clock: MockClock) -> None:
    async with idle() as ref:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.add(1)
        assert scope.cancelled_caught
        assert await ref.add(0) == 0


@either
async def test_the_end_of_the_system_ends_a_turn_that_began_so(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, actors.open_system() as system:
        ref = system.ref(Many, "a")
        await ref.add(0)

        async def ask() -> None:
            with pytest.raises(actors.RoostError):
                await ref.wait_for_ever()
            seen.append("told")

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
    assert "told" in seen
    assert len(seen) == 2  # the handler's end besides


@either
async def test_the_turn_is_the_workers_task_with_its_own_context(
    autojump_clock: MockClock,
) -> None:
    async with idle() as ref:
        mood.set("mine")
        await ref.set_mood("the handler's")
        assert mood.get() == "mine"
        assert seen[0] is not trio.lowlevel.current_task()


@either
async def test_many_callers_of_many_actors_at_once(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        refs = [system.ref(Many, f"m{n}") for n in range(16)]

        async def ask(n: int) -> None:
            for _ in range(20):
                await refs[n % 16].add(1)
                await refs[n % 16].checkpoints()

        async with trio.open_nursery() as nursery:
            for n in range(200):  # more than the pool keeps
                nursery.start_soon(ask, n)
        assert sum([await ref.add(0) for ref in refs]) == 4_000


@either
async def test_a_handler_does_not_see_the_exception_that_its_caller_handles(
    autojump_clock: MockClock,
) -> None:
    async with idle() as ref:
        try:
            raise KeyError("the caller's")
        except KeyError:
            with pytest.raises(actors.ActorError, match="No active exception") as caught:
                await ref.raise_again()
        assert seen == [None]
        assert "the caller's" not in str(caught.value.details)
        assert await ref.add(1) == 1


@either
async def test_chains_of_handlers_that_are_deep_in_calls_fit_on_the_stack(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        for n in range(13):
            await system.ref(Many, f"d{n}").add(0)
        assert await system.ref(Many, "d12").deep(100, 12) == 12


async def ask_and_interrupt(ref: Many) -> None:
    for n in range(10_000):
        if n == 10:
            signal.raise_signal(signal.SIGINT)
        await ref.add(1)


@either
def test_ctrl_c_ends_a_loop_of_asks_that_never_wait() -> None:
    async def main() -> None:
        async with idle() as ref:
            with pytest.raises(KeyboardInterrupt):
                await ask_and_interrupt(ref)
            assert await ref.add(0) < 100

    trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
