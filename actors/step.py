"""A worker's next step at once, within the step of the task that asks for it. An adapter.

Trio resumes a task in its next pass: two passes, 5 us, for an ask whose handler never waits. Here
the worker takes its step while its caller still runs, as a function call would; where the handler
has to wait, Trio goes on with the worker as if it had resumed it itself. What a step is stays the
same: the worker is the current task, with its own context and cancel scopes. That touches Trio's
internals, so :func:`known` compares their source with what this module was written against; for
any other Trio, or with ROOST_STOCK_STEPS=1, every step is Trio's own and only speed differs.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import outcome
import trio

from actors.resume import GO_ON
from wire.trio_internals import digest

try:
    from trio._core import _run
    from trio._core._traps import (
        CancelShieldedCheckpoint,
        PermanentlyDetachCoroutineObject,
        WaitTaskRescheduled,
    )
except ImportError:  # a Trio whose insides are others: every step is its own
    _run = None  # type: ignore[assignment]

STOCK_STEPS_VARIABLE = "ROOST_STOCK_STEPS"

#: SHA-256 of the source that this module relies on.
KNOWN_INTERNALS = frozenset({"ebea2faf7b1617373116091cc782147b4ef74dd91320621fd1d5b7765df540aa"})


def internals_digest() -> str:
    """SHA-256 of the Trio source this module relies on; "" where it cannot be read."""
    try:
        return digest(
            (
                _run.unrolled_run, _run.current_task, _run.Runner.reschedule,
                _run.Runner.task_exited, _run.Task._attempt_abort,
                _run.Task._attempt_delivery_of_any_pending_cancel,
                _run.Task._activate_cancel_status,
            )
        )  # fmt: skip
    except (AttributeError, OSError, TypeError):
        return ""


#: Frames below which a step is taken at once, of the 1,000 that Python allows.
STACK_MAX = 200


@cache
def known() -> bool:
    """Whether this Trio is one whose internals this module knows."""
    wanted = _run is not None and not os.environ.get(STOCK_STEPS_VARIABLE)
    return wanted and internals_digest() in KNOWN_INTERNALS


@trio.lowlevel.enable_ki_protection
def resume(task: trio.lowlevel.Task) -> None:
    """Resume a task that waits in ``wait_task_rescheduled``: at once, if that can be done, else in
    Trio's next pass."""
    if not known() or not _may_nest(task):
        trio.lowlevel.reschedule(task, GO_ON)
        return
    context: Any = _run.GLOBAL_RUN_CONTEXT
    caller = context.task
    task._abort_func = None
    task.custom_sleep_data = None
    context.task = task
    end: outcome.Outcome[Any] | None = None
    message: Any = None
    try:
        message = task.context.run(task.coro.send, GO_ON)
    except StopIteration as stop:
        end = outcome.Value(stop.value)
    except BaseException as exc:
        # Without this frame, which knows ``end``: the two would be a ring.
        end = outcome.Error(exc.with_traceback(exc.__traceback__ and exc.__traceback__.tb_next))
    finally:
        context.task = caller
    if end is None:
        _take(task, message)
    else:
        task._runner.task_exited(task, end)


def _may_nest(task: trio.lowlevel.Task) -> bool:
    """Whether the task's step may be taken within the step of the task that runs now."""
    caller = getattr(_run.GLOBAL_RUN_CONTEXT, "task", None)
    runner: Any = task._runner
    return (
        caller is not None
        and caller._runner is runner
        # What is to stop the caller stops it before its call begins, as at any checkpoint.
        and not caller._cancel_status.effectively_cancelled
        and not (runner.ki_pending and caller is runner.main_task)
        # The handler must not see an exception that its caller handles: Python would make it the
        # context of the handler's own, and a bare ``raise`` would raise it.
        and sys.exc_info()[0] is None
        and not _is_watched(runner)
        and not _is_deep()
    )


def _is_deep() -> bool:
    """Whether what runs is so deep in calls that the handler's might not fit on the stack: steps
    within steps share it."""
    try:
        sys._getframe(STACK_MAX)
    except ValueError:
        return False
    return True


def _is_watched(runner: Any) -> bool:
    """Whether instruments want to hear of each step."""
    return "before_task_step" in runner.instruments or "after_task_step" in runner.instruments


@trio.lowlevel.enable_ki_protection
def _take(task: trio.lowlevel.Task, message: Any) -> None:
    """What Trio's own loop does with what a task yields."""
    runner = task._runner
    task._schedule_points += 1
    if type(message) is WaitTaskRescheduled:
        task._cancel_points += 1
        task._abort_func = message.abort_func
        task._attempt_delivery_of_any_pending_cancel()
    elif message is CancelShieldedCheckpoint:
        runner.reschedule(task)
    elif type(message) is PermanentlyDetachCoroutineObject:
        runner.task_exited(task, message.final_outcome)
    else:
        error: Any = TypeError(f"{message!r} is nothing that a Trio task can wait for")
        runner.reschedule(task, error)
        task._next_send_fn = task.coro.throw
