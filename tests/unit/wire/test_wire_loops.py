"""Two loops on one thread: results, errors and cancellation cross both ways and lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import uvloop
from trio.testing import wait_all_tasks_blocked

from wire import guest, loops


class Odd(Exception):
    pass


@pytest.fixture(params=["host sleep", "stock"], autouse=True)
def guest_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "stock":
        monkeypatch.setenv(guest.STOCK_GUEST_VARIABLE, "1")
    return str(request.param)


def run(fn: Callable[..., Awaitable[Any]], *args: Any, within_s: float = 20) -> Any:
    async def bounded() -> Any:
        with trio.fail_after(within_s):
            return await fn(*args)

    return loops.run(bounded)


async def crossing() -> loops.Crossing:
    async with loops.open_crossing() as found:
        return found


def test_this_trio_is_one_whose_internals_the_guest_driver_knows() -> None:
    """The canary: when it falls, read the new Trio's guest_tick before adding its digest."""
    assert guest.internals_digest() in guest.KNOWN_INTERNALS


def test_an_unknown_trio_gets_the_stock_guest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "KNOWN_INTERNALS", frozenset())
    guest.host_sleep_supported.cache_clear()
    monkeypatch.setattr(guest._HostSleep, "adopt", None)
    try:
        assert not guest.host_sleep_supported()
        assert run(answer) == 42
    finally:
        guest.host_sleep_supported.cache_clear()


async def answer() -> int:
    await trio.sleep(0.001)
    return 42


def test_run_returns_the_result_and_raises_the_very_exception() -> None:
    odd = Odd("mine")

    async def fails() -> None:
        raise odd

    assert run(answer) == 42
    with pytest.raises(Odd) as caught:
        run(fails)
    assert caught.value is odd


def test_one_run_follows_another_in_one_process() -> None:
    async def both() -> list[int]:
        c = await crossing()
        return [await c.cross(double, n) for n in range(3)]

    assert [run(both) for _ in range(20)] == [[0, 2, 4]] * 20


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def test_ten_thousand_crossings_arrive_each_with_its_own_answer() -> None:
    async def many() -> None:
        c = await crossing()
        answers: dict[int, int] = {}

        async def one(worker: int) -> None:
            for i in range(worker, 10_000, 50):
                answers[i] = await c.cross(double, i)

        async with trio.open_nursery() as nursery:
            for worker in range(50):
                nursery.start_soon(one, worker)
        assert answers == {i: 2 * i for i in range(10_000)}

    run(many)


def test_crossings_nest_back_and_forth() -> None:
    async def main() -> int:
        c = await crossing()

        async def in_trio(depth: int) -> int:
            assert trio.lowlevel.in_trio_task()
            return depth if depth == 0 else 1 + await c.cross(in_asyncio, depth - 1)

        async def in_asyncio(depth: int) -> int:
            assert asyncio.current_task() is not None
            return depth if depth == 0 else 1 + await c.from_asyncio(in_trio, depth - 1)

        return await in_trio(100)

    assert run(main) == 100


def test_an_exception_crosses_unchanged_both_ways() -> None:
    async def main() -> None:
        c = await crossing()
        there, back = Odd("asyncio"), Odd("trio")

        async def fail_in_asyncio() -> None:
            raise there

        async def fail_in_trio() -> None:
            raise back

        with pytest.raises(Odd) as caught:
            await c.cross(fail_in_asyncio)
        assert caught.value is there
        with pytest.raises(Odd) as caught:
            await c.cross(c.from_asyncio, fail_in_trio)
        assert caught.value is back

    run(main)


def test_a_cancelled_scope_cancels_the_asyncio_task_and_waits_for_its_end() -> None:
    async def main() -> list[str]:
        c = await crossing()
        log: list[str] = []

        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                log.append("cancelled")
                await asyncio.sleep(0.01)
                log.append("cleaned up")
                raise

        with trio.move_on_after(0.01) as scope:
            await c.cross(slow)
        assert scope.cancelled_caught
        return log

    assert run(main) == ["cancelled", "cleaned up"]


def test_a_result_or_error_that_comes_despite_cancellation_is_not_lost() -> None:
    async def main() -> None:
        c = await crossing()
        odd = Odd()

        async def stubborn(fail: bool) -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if fail:
                    raise odd from None
            return "done"

        with trio.move_on_after(0.01) as scope:
            assert await c.cross(stubborn, False) == "done"
        assert not scope.cancelled_caught
        with trio.move_on_after(0.01), pytest.raises(Odd) as caught:
            await c.cross(stubborn, True)
        assert caught.value is odd

    run(main)


def test_crossing_in_a_cancelled_scope_never_starts_the_coroutine() -> None:
    async def main() -> list[str]:
        c = await crossing()
        log: list[str] = []

        async def touch() -> None:
            log.append("ran")

        with trio.CancelScope() as scope:
            scope.cancel()
            await c.cross(touch)
        assert scope.cancelled_caught
        return log

    assert run(main) == []


def test_an_asyncio_cancellation_that_is_not_ours_propagates_as_it_is() -> None:
    async def main() -> None:
        c = await crossing()

        async def cancels_itself() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(60)

        with pytest.raises(asyncio.CancelledError):
            await c.cross(cancels_itself)

    run(main)


def test_a_cancelled_asyncio_task_cancels_the_trio_task_and_waits_for_its_end() -> None:
    async def main() -> list[str]:
        c = await crossing()
        log: list[str] = []

        async def slow() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.01)
                log.append("cleaned up")

        async def impatient() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await c.from_asyncio(slow)
            log.append("went on")

        await c.cross(impatient)
        return log

    assert run(main) == ["cleaned up", "went on"]


def test_a_trio_task_that_outlives_the_run_ends_with_run_finished() -> None:
    async def main() -> asyncio.Task[None]:
        c = await crossing()
        task = c.loop.create_task(c.from_asyncio(trio.sleep_forever))
        await wait_all_tasks_blocked()
        return task

    async def host() -> None:
        task = await loops.run_in_asyncio(main)
        with pytest.raises(trio.RunFinishedError):
            await task

    asyncio.run(host())


def test_from_asyncio_after_the_run_says_that_it_is_over() -> None:
    async def host() -> None:
        c = await loops.run_in_asyncio(crossing)
        with pytest.raises(trio.RunFinishedError):
            await c.from_asyncio(answer)

    asyncio.run(host())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_trio_runs_inside_a_running_asyncio_program(runner: Callable[[Any], Any]) -> None:
    async def program() -> list[Any]:
        results: list[Any] = [await loops.run_in_asyncio(answer)]
        results.append(await loops.run_in_asyncio(crosses))
        return results

    async def crosses() -> int:
        return await (await crossing()).cross(double, 21)

    assert runner(program()) == [42, 42]


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_cancelling_the_asyncio_side_cancels_the_whole_run(runner: Callable[[Any], Any]) -> None:
    log: list[str] = []

    async def sleeps() -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append("cleaned up")

    async def program() -> None:
        task = asyncio.create_task(loops.run_in_asyncio(sleeps))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loops.run_in_asyncio(answer) == 42

    runner(program())
    assert log == ["cleaned up"]


def test_a_second_run_on_the_same_thread_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="beside another Trio run"):
            await (await crossing()).cross(loops.run_in_asyncio, answer)

    run(main)


def test_threads_sockets_timers_and_both_loops_all_wake_trio() -> None:
    async def main() -> None:
        c = await crossing()
        assert await trio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
        event = trio.Event()
        await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(event.set))
        await event.wait()
        woken = trio.Event()
        c.call_soon(woken.set)
        await woken.wait()
        left, right = trio.socket.socketpair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send, b"x")
            assert await right.recv(1) == b"x"
        left.close()
        right.close()

    run(main)


def test_sleeps_end_in_order_and_never_early() -> None:
    async def main() -> list[int]:
        ended: list[int] = []

        async def sleep(ms: int) -> None:
            began = trio.current_time()
            await trio.sleep(ms / 1000)
            assert trio.current_time() - began >= ms / 1000
            ended.append(ms)

        async with trio.open_nursery() as nursery:
            for ms in (60, 1, 30, 90):
                nursery.start_soon(sleep, ms)
        return ended

    assert run(main) == [1, 30, 60, 90]


def test_a_deadline_moved_from_the_asyncio_side_is_noticed() -> None:
    async def main() -> bool:
        c = await crossing()
        with trio.CancelScope() as scope:
            c.loop.call_later(0.01, lambda: setattr(scope, "deadline", trio.current_time()))
            await trio.sleep_forever()
        return scope.cancelled_caught

    assert run(main)


def test_a_virtual_clock_does_not_jump_because_the_host_woke_trio() -> None:
    """An empty wake-up must not pass for a sleep that reached its end."""

    async def host() -> float:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        scope = trio.CancelScope(deadline=1000)

        async def main() -> float:
            with scope:
                loop.call_later(0.01, lambda: setattr(scope, "deadline", 900))
                loop.call_later(0.05, scope.cancel)
                await trio.sleep_forever()
            return trio.current_time()

        trio_clock = trio.testing.MockClock(autojump_threshold=30)
        start = trio.lowlevel.start_guest_run

        def with_clock(*args: Any, **kwargs: Any) -> None:
            start(*args, clock=trio_clock, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trio.lowlevel, "start_guest_run", with_clock)
            guest.start_guest_run(loop, done.set_result, main)
        return float((await done).unwrap())

    assert asyncio.run(host()) == 0


def test_asyncio_work_is_not_starved_by_trio_tasks_that_never_sleep() -> None:
    async def main() -> None:
        c = await crossing()
        done = trio.Event()

        async def spin() -> None:
            while not done.is_set():
                await trio.lowlevel.checkpoint()

        async def wait_in_asyncio() -> None:
            await asyncio.sleep(0.01)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(spin)
            nursery.start_soon(c.cross, wait_in_asyncio)

    run(main)


def test_an_idle_run_costs_no_processor_time() -> None:
    async def main() -> float:
        before = os.times()
        await trio.sleep(0.5)
        after = os.times()
        return (after.user - before.user) + (after.system - before.system)

    assert run(main) < 0.1


def in_subprocess(program: str, *, send: int | None = None) -> tuple[int, str]:
    """Run ``program``; once it has printed ``ready``, send it a signal. Its code and output."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        head = process.stdout.readline()
        if send is not None:
            assert head == "ready\n", head + process.stdout.read()
            process.send_signal(send)
        out, _ = process.communicate(timeout=20)
        return process.returncode, head + out
    finally:
        process.kill()
        process.wait()


WAITER = """
import signal, trio
from wire import loops
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job inherits ignored
async def main():
{body}
loops.run(main)
"""


def waiter(body: str) -> str:
    return WAITER.format(body=textwrap.indent(textwrap.dedent(body), "    "))


def test_control_c_interrupts_the_main_task_as_under_trio_run() -> None:
    program = waiter("""
        try:
            print("ready", flush=True)
            await trio.sleep_forever()
        except KeyboardInterrupt:
            print("interrupted")
            raise
    """)
    code, out = in_subprocess(program, send=signal.SIGINT)
    assert "interrupted" in out
    assert out.endswith("KeyboardInterrupt\n")
    assert code == -signal.SIGINT


def test_control_c_interrupts_a_busy_trio_task() -> None:
    program = waiter("""
        print("ready", flush=True)
        while True: pass
    """)
    code, out = in_subprocess(program, send=signal.SIGINT)
    assert out.endswith("KeyboardInterrupt\n")
    assert code == -signal.SIGINT


def test_a_signal_receiver_hears_sigterm() -> None:
    program = waiter("""
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            print("ready", flush=True)
            async for number in signals:
                print("got", signal.Signals(number).name)
                return
    """)
    assert in_subprocess(program, send=signal.SIGTERM) == (0, "ready\ngot SIGTERM\n")


def test_without_a_receiver_sigterm_ends_the_process() -> None:
    program = waiter("""
        print("ready", flush=True)
        await trio.sleep_forever()
    """)
    assert in_subprocess(program, send=signal.SIGTERM)[0] == -signal.SIGTERM


def test_control_c_in_an_asyncio_program_unwinds_the_trio_run() -> None:
    code, out = in_subprocess(
        """
        import asyncio, trio
        from wire import loops
        async def main():
            print("ready", flush=True)
            try:
                await trio.sleep_forever()
            finally:
                print("unwound")
        asyncio.run(loops.run_in_asyncio(main))
        """,
        send=signal.SIGINT,
    )
    assert "unwound" in out
    assert code == -signal.SIGINT


def test_system_exit_in_asyncio_code_unwinds_the_trio_run() -> None:
    code, out = in_subprocess(
        """
        import sys, trio
        from wire import loops
        async def main():
            async with loops.open_crossing() as c:
                c.call_soon(sys.exit, 3)
                try:
                    await trio.sleep_forever()
                finally:
                    print("unwound")
        loops.run(main)
        """
    )
    assert (code, out) == (3, "unwound\n")


def test_a_plain_trio_run_is_embedded_into_through_trio_asyncio() -> None:
    code, out = in_subprocess(
        """
        import asyncio, trio
        from wire import loops
        async def double(n):
            await asyncio.sleep(0.001)
            return 2 * n
        async def answer():
            await trio.sleep(0.001)
            return 42
        async def stuck():
            await asyncio.sleep(60)
        async def main():
            async with loops.open_crossing() as c:
                async with trio.open_nursery() as nursery:
                    async def many():
                        for n in range(100):
                            assert await c.cross(double, n) == 2 * n
                    for _ in range(5):
                        nursery.start_soon(many)
                assert await c.cross(c.from_asyncio, answer) == 42
                with trio.move_on_after(0.01) as scope:
                    await c.cross(stuck)
                assert scope.cancelled_caught
        trio.run(main)
        trio.run(main)
        print("fine")
        """
    )
    assert (code, out) == (0, "fine\n")


def test_those_who_embed_into_one_trio_run_share_one_loop_while_any_needs_it() -> None:
    code, out = in_subprocess(
        """
        import asyncio, trio
        from wire import loops
        async def current():
            await asyncio.sleep(0)
            assert asyncio.current_task() is not None
            return asyncio.get_running_loop()
        async def main():
            async with loops.open_crossing() as first:
                second_block = loops.open_crossing()
                second = await second_block.__aenter__()
                assert await first.cross(current) is second.loop
            assert await second.cross(current) is second.loop
            await second_block.__aexit__(None, None, None)
            assert second.loop.is_closed()
            async with loops.open_crossing() as third:
                assert await third.cross(current) is not second.loop
        trio.run(main)
        print("fine")
        """
    )
    assert (code, out) == (0, "fine\n")


def test_importing_wire_loops_imports_neither_uvloop_nor_trio_asyncio() -> None:
    code, out = in_subprocess(
        "import sys, wire.loops; print([m for m in ('uvloop', 'trio_asyncio') if m in sys.modules])"
    )
    assert (code, out) == (0, "[]\n")
