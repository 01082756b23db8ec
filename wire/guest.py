"""Trio as the guest of an asyncio loop, asleep in the host loop's own poll. An adapter.

The stock guest run sleeps in a helper thread; two thread switches per sleep cost more than all
else on the path of a message. Here the host loop watches Trio's epoll descriptor and a timer
instead. That touches Trio internals, so :func:`host_sleep_supported` compares their source with
what this module was written against; for any other Trio, system, or with ROOST_STOCK_GUEST=1,
the stock guest run is used and only speed differs.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import threading
from collections.abc import Awaitable, Callable
from functools import cache
from time import perf_counter
from typing import Any, cast

import outcome
import sniffio
import trio
from trio._core import _run

from wire.trio_internals import digest

STOCK_GUEST_VARIABLE = "ROOST_STOCK_GUEST"

#: SHA-256 of the source that the driver relies on; the same in Trio 0.31 to 0.35.
KNOWN_INTERNALS = frozenset({"32f66a2bda300fd4117381bf0a65652608cfd9c9218a207b9a1e5627fc961a4d"})

#: Trio steps taken in one turn of the host loop while Trio tasks are ready to run.
STEPS_PER_TURN = 4

_Done = Callable[["outcome.Outcome[Any]"], object]


class _Woken(list[tuple[int, int]]):
    """No events, yet true: Trio takes only a false value for a sleep that reached its end."""

    def __bool__(self) -> bool:
        return True


_WOKEN = _Woken()


def internals_digest() -> str:
    """SHA-256 of the Trio source this module relies on; "" where it cannot be read."""
    try:
        from trio._core._io_epoll import EpollIOManager as manager

        return digest(
            (
                _run.GuestState.guest_tick, _run.unrolled_run, _run.Runner.force_guest_tick_asap,
                _run.Runner.reschedule, manager.__attrs_post_init__, manager.close,
                manager.force_wakeup, manager.get_events, manager.process_events,
            )
        )  # fmt: skip
    except (ImportError, AttributeError, OSError, TypeError):
        return ""


@cache
def host_sleep_supported() -> bool:
    """Whether this Trio is one whose internals the driver knows."""
    return internals_digest() in KNOWN_INTERNALS


def start_guest_run(
    loop: asyncio.AbstractEventLoop,
    done: _Done,
    async_fn: Callable[..., Awaitable[object]],
    *args: object,
) -> None:
    """Start a Trio run as guest of ``loop``, on whose thread this is called.

    ``done`` gets the outcome of ``async_fn(*args)`` on the same thread, after the run is over.
    """
    schedule: Callable[[Callable[[], object]], object] = loop.call_soon
    if not os.environ.get(STOCK_GUEST_VARIABLE) and host_sleep_supported():
        schedule = _HostSleep(loop, done).adopt
    trio.lowlevel.start_guest_run(
        async_fn,
        *args,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=schedule,
        done_callback=done,
        host_uses_signal_set_wakeup_fd=True,
    )


class _HostSleep:
    """Drives one guest run: takes Trio's steps, and sleeps by a reader and a timer of the host."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: _Done) -> None:
        self._loop = loop
        self._done = done
        self._thread = threading.get_ident()
        self._context = contextvars.copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._due = math.inf
        self._poll = False  # the next step must ask epoll
        self._slept = True  # an empty poll means that the sleep reached its end

    def adopt(self, tick: Callable[[], object]) -> None:
        """Take the run over from its GuestState, whose bound ``guest_tick`` Trio hands us."""
        state = cast("_run.GuestState", tick.__self__)  # type: ignore[attr-defined]
        self._runner = state.runner
        self._generator = state.unrolled_run_gen
        self._io = cast("Any", state.runner.io_manager)
        self._io.__class__ = self._io_manager_class(type(self._io))
        self._epoll_fd: int = self._io._epoll.fileno()
        self._loop.add_reader(self._epoll_fd, self._on_readable)
        self._loop.call_soon(self._turn, context=self._context)

    def _io_manager_class(self, base: type[Any]) -> type[Any]:
        """``base`` with wake-ups and closing told to us; same layout, so it can be swapped in."""
        driver = self

        class HostIOManager(base):  # type: ignore[misc]
            __slots__ = ()

            def force_wakeup(self) -> None:
                if threading.get_ident() == driver._thread:
                    driver._wake()
                else:
                    base.force_wakeup(self)

            def close(self) -> None:
                # Before the descriptor closes, or the host would go on watching its number.
                driver._stop_watching()
                base.close(self)

        return HostIOManager

    def _wake(self) -> None:
        """Trio has set ``guest_tick_scheduled`` and wants its next step soon."""
        self._slept = False
        self._loop.call_soon(self._turn, context=self._context)

    def _on_readable(self) -> None:
        self._poll = True
        if self._runner.guest_tick_scheduled:
            return  # the step to come will ask epoll
        self._slept = False
        self._runner.guest_tick_scheduled = True
        self._turn()

    def _on_timer(self) -> None:
        self._timer = None
        if self._runner.guest_tick_scheduled:
            return  # the next sleep sets it anew
        left_s = self._due - perf_counter()
        if left_s > 0:
            self._arm(left_s)
            return
        self._poll = True
        self._slept = True
        self._runner.guest_tick_scheduled = True
        self._turn()

    def _turn(self) -> None:
        """A few steps of Trio, then sleep, or come back in the host loop's next turn."""
        previous, sniffio.thread_local.name = sniffio.thread_local.name, "trio"
        try:
            for _ in range(STEPS_PER_TURN):
                timeout_s = self._events().send(self._generator)
                if timeout_s > 0:
                    self._sleep(timeout_s)
                    return
                self._slept = True
        except StopIteration:
            result = self._runner.main_task_outcome
            assert result is not None
        except trio.TrioInternalError as exc:
            result = outcome.Error(exc)
        else:
            self._loop.call_soon(self._turn, context=self._context)
            return
        finally:
            sniffio.thread_local.name = previous
        self._done(result)

    def _events(self) -> outcome.Outcome[Any]:
        """What Trio is told of its I/O: no system call when tasks wait and epoll is quiet."""
        if not self._poll and (self._runner.runq or not self._slept):
            return outcome.Value(_WOKEN)
        self._poll = False
        events: outcome.Outcome[Any] = outcome.capture(self._io.get_events, 0)
        if isinstance(events, outcome.Value) and not events.value and not self._slept:
            return outcome.Value(_WOKEN)
        return events

    def _sleep(self, timeout_s: float) -> None:
        self._runner.guest_tick_scheduled = False
        self._due = perf_counter() + timeout_s
        # A timer that fires too early is kept: deadlines mostly move on, and it is set anew then.
        if self._timer is None or self._timer_due > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(timeout_s)

    def _arm(self, delay_s: float) -> None:
        self._timer_due = self._due
        delay_s = math.ceil(delay_s * 1000) / 1000  # hosts count in ms: rounded down, it would spin
        self._timer = self._loop.call_later(delay_s, self._on_timer, context=self._context)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._epoll_fd)
