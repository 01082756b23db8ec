"""Two loops, one thread: an asyncio loop hosts, Trio runs as its guest. An adapter.

Crossing from one to the other is a function call on the same thread: no lock, no queue, and
cancellation crosses with it, both ways. uvloop is imported when :func:`run` is called, and
trio_asyncio only when a plain ``trio.run`` is embedded into: importing it patches asyncio.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, TypeVarTuple, cast

import outcome
import trio

from wire import guest
from wire.errors import ConfigError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Own the thread: uvloop as host, Trio as guest; returns the result of ``async_fn(*args)``.

    As under ``trio.run``, Ctrl-C raises KeyboardInterrupt in the main task, other signals keep
    their handlers (``trio.open_signal_receiver`` works), and exceptions come out unchanged.
    """
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(run_in_asyncio(async_fn, *args))
    finally:
        _shut(loop)


def _shut(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what asyncio tasks are left (the guest run too, after a SystemExit), then close."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def run_in_asyncio(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Within an asyncio program: run ``async_fn(*args)`` in Trio, a guest of the running loop.

    Cancelling the awaiting task cancels the Trio run and waits for its end; a run that finishes
    all the same gives its result. One Trio run per thread: a second raises RuntimeError.
    """
    loop = asyncio.get_running_loop()
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            f"{getattr(async_fn, '__qualname__', async_fn)} cannot be run beside another Trio run "
            "in this thread: call it from the function that runs there already"
        )
    scope = trio.CancelScope()

    async def main() -> T:
        _current.set(Crossing(loop))
        with scope:
            return await async_fn(*args)
        raise asyncio.CancelledError

    finish = _Finish[T](loop)
    guest.start_guest_run(loop, finish.set, main)
    return await finish.wait(scope.cancel)


class Crossing:
    """The way between the two loops of this thread. Only for use on that thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    async def cross(self, fn: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """From Trio: the result of the asyncio coroutine function ``fn(*args)``.

        When the Trio scope is cancelled the asyncio task is, and its end is awaited: a result
        or an error that it ends in nevertheless is not lost. Exceptions propagate unchanged,
        ``asyncio.CancelledError`` too if it was not this scope that cancelled.
        """
        call = _Call(trio.lowlevel.current_task())
        call.task = self.loop.create_task(call.run(fn, args))
        call.task.add_done_callback(call.done)
        return cast("T", await trio.lowlevel.wait_task_rescheduled(call.abort))

    def call_soon(self, fn: Callable[[*Ts], object], *args: *Ts) -> None:
        """From either side: call ``fn(*args)`` in the asyncio loop's next turn."""
        self.loop.call_soon(fn, *args)

    async def from_asyncio(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Awaited in asyncio: the result of ``async_fn(*args)``, run as a Trio task.

        Cancelling the awaiting asyncio task cancels the Trio task and waits for its end.
        Raises ``trio.RunFinishedError`` when the Trio run is over, or ends first.
        """
        scope = trio.CancelScope()
        finish = _Finish[T](self.loop)
        context = contextvars.copy_context()
        try:
            trio.lowlevel.spawn_system_task(_report, scope, finish, async_fn, args, context=context)
        except RuntimeError as exc:
            raise trio.RunFinishedError("the Trio run is over") from exc
        return await finish.wait(scope.cancel)


_current: trio.lowlevel.RunVar[Crossing | None] = trio.lowlevel.RunVar("roost_crossing")
_embedded: trio.lowlevel.RunVar[_Embedded | None] = trio.lowlevel.RunVar("roost_embedded")


@asynccontextmanager
async def open_crossing() -> AsyncIterator[Crossing]:
    """Within Trio: this run's crossing, if it is a guest run of ours; else a trio_asyncio loop.

    The latter is one for the whole run, lives as long as a block needs it, and comes with the
    extra ``roost[trio-embedding]``.
    """
    crossing = _current.get(None)
    if crossing is not None:
        yield crossing
        return
    embedded = _embedded.get(None)
    if embedded is None:
        try:
            import trio_asyncio
        except ImportError as exc:
            raise ConfigError(
                "a plain trio.run needs the extra for this: pip install 'roost[trio-embedding]'; "
                "actors.run(main) needs none"
            ) from exc

        embedded = _Embedded(trio_asyncio.open_loop)
        _embedded.set(embedded)
        trio.lowlevel.spawn_system_task(embedded.run)
    async with embedded.used() as crossing:
        yield crossing


class _Embedded:
    """The asyncio loop inside a plain Trio run, open while it has users.

    One for all: asyncio.current_task() goes by the one running loop that a thread has.
    """

    def __init__(self, open_loop: Callable[[], Any]) -> None:
        self._open_loop = open_loop
        self._users = 0
        self._opened, self._unused, self._closed = trio.Event(), trio.Event(), trio.Event()

    async def run(self) -> None:
        try:
            async with self._open_loop() as loop:
                # Its own handler would end the whole run for a forgotten task's exception.
                loop.set_exception_handler(asyncio.BaseEventLoop.default_exception_handler)
                # trio_asyncio replaces get_running_loop, but not for asyncio's C code.
                asyncio.events._set_running_loop(loop)
                self._crossing = Crossing(loop)
                self._opened.set()
                await self._unused.wait()
        finally:
            asyncio.events._set_running_loop(None)
            self._closed.set()

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Crossing]:
        self._users += 1
        try:
            await self._opened.wait()
            yield self._crossing
        finally:
            self._users -= 1
            if not self._users:
                _embedded.set(None)
                self._unused.set()
                with trio.CancelScope(shield=True):
                    await self._closed.wait()


class _Call:
    """One crossing from Trio: the asyncio task that runs, and the Trio task that waits."""

    __slots__ = ("_raise_cancel", "_started", "_waiter", "task")

    task: asyncio.Task[None]

    def __init__(self, waiter: trio.lowlevel.Task) -> None:
        self._waiter = waiter
        self._started = False
        self._raise_cancel: Callable[[], Any] | None = None

    async def run(self, fn: Callable[..., Coroutine[Any, Any, object]], args: Any) -> None:
        # Wakes Trio itself: by a done callback it would wait for one more turn of the loop.
        self._started = True
        result: outcome.Outcome[object]
        try:
            result = outcome.Value(await fn(*args))
        except asyncio.CancelledError as exc:
            result = self._cancelled(exc)
        except BaseException as exc:
            result = outcome.Error(exc)
        trio.lowlevel.reschedule(self._waiter, result)

    def done(self, task: asyncio.Task[None]) -> None:
        if not self._started:  # cancelled before its first step
            trio.lowlevel.reschedule(self._waiter, self._cancelled(asyncio.CancelledError()))

    def abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._raise_cancel = raise_cancel
        self.task.cancel()
        return trio.lowlevel.Abort.FAILED

    def _cancelled(self, exc: asyncio.CancelledError) -> outcome.Outcome[object]:
        if self._raise_cancel is None:
            return outcome.Error(exc)
        raised: outcome.Outcome[object] = outcome.capture(self._raise_cancel)
        return raised


class _Finish(Generic[T]):
    """Where an asyncio task awaits the outcome of a Trio task that it may cancel."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outcome: outcome.Outcome[T] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def set(self, result: outcome.Outcome[T]) -> None:
        self._outcome = result
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, cancel: Callable[[], object]) -> T:
        """The outcome, awaited to the end: being cancelled only calls ``cancel``."""
        while self._outcome is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                cancel()
        return self._outcome.unwrap()


async def _report(
    scope: trio.CancelScope,
    finish: _Finish[T],
    async_fn: Callable[..., Awaitable[T]],
    args: tuple[object, ...],
) -> None:
    """Run ``async_fn`` for a caller in asyncio and tell it how that ended; never raises."""
    result: outcome.Outcome[T] = outcome.Error(asyncio.CancelledError())
    try:
        with scope:
            result = outcome.Value(await async_fn(*args))
    except trio.Cancelled:
        result = outcome.Error(trio.RunFinishedError("the Trio run ended"))
        raise
    except BaseException as exc:
        result = outcome.Error(exc)
    finally:
        finish.set(result)
