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
from functools import cache
from typing import Any

import outcome
import trio
from trio._core import _run
from trio._core._traps import (
    CancelShieldedCheckpoint,
    PermanentlyDetachCoroutineObject,
    WaitTaskRescheduled,
)

from actors.resume import GO_ON
from wire.trio_internals import digest

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


@cache
def known() -> bool:
    """Whether this Trio is one whose internals this module knows."""
    return not os.environ.get(STOCK_STEPS_VARIABLE) and internals_digest() in KNOWN_INTERNALS


def resume(task: trio.lowlevel.Task) -> None:
    """Resume a task that waits in ``wait_task_rescheduled``: at once, if that can be done.

    It cannot outside of a Trio task and where instruments watch Trio's steps; it must not for one
    that is cancelled, and goes at its next checkpoint. The task then runs in Trio's next pass.
    """
    context: Any = _run.GLOBAL_RUN_CONTEXT
    caller = getattr(context, "task", None)
    if (
        caller is None
        or caller._cancel_status.effectively_cancelled
        or _is_watched(task._runner)
        or not known()
    ):
        trio.lowlevel.reschedule(task, GO_ON)
        return
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
        end = outcome.Error(exc)
    finally:
        context.task = caller
    if end is None:
        _take(task, message)
    else:
        task._runner.task_exited(task, end)


def _is_watched(runner: Any) -> bool:
    """Whether instruments want to hear of each step."""
    return "before_task_step" in runner.instruments or "after_task_step" in runner.instruments


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
