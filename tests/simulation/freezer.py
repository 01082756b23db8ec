"""Freezer: hosts of a simulation that stop as SIGSTOP stops a process, and go on later.

Nothing of a frozen host's tasks runs, wherever they wait. What becomes runnable meanwhile (a timer,
a reply, a cancellation) waits for the thaw, and then all of it is runnable at once.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, NoReturn

import trio
from trio.lowlevel import Task

#: So many passes of the scheduler without time going on: something spins.
SPINS_MAX = 50_000


#: A run that has not ended by then (virtual seconds) never will.
RUN_MAX_S = 300.0


class NeverEnds(Exception):
    """Time does not go on, or goes on for ever."""


class Freezer(trio.abc.Instrument):
    """Holds back tasks of frozen hosts; hosts are known by their root tasks."""

    def __init__(self) -> None:
        self.frozen: dict[str, list[Task]] = {}  # host -> runnable, but held
        self._roots: dict[Task, str] = {}
        self._spins = 0
        self._last_tasks: deque[Task] = deque(maxlen=4)
        self._spins_at = -1.0
        self.steps = 0  # of all tasks

    def root(self, task: Task, host: str) -> None:
        """``task`` and all that it starts belong to ``host``."""
        self._roots[task] = host

    def is_frozen(self, host: str) -> bool:
        return host in self.frozen

    def freeze(self, host: str) -> None:
        self.frozen.setdefault(host, [])

    def thaw(self, host: str) -> None:
        for task in self.frozen.pop(host, ()):
            _runq().append(task)

    def host_of(self, task: Task) -> str:
        """The host that ``task`` belongs to; "" for the world's own tasks."""
        found: Task | None = task
        while found is not None:
            host = self._roots.get(found)
            if host is not None:
                return host
            nursery = found.parent_nursery
            found = nursery.parent_task if nursery is not None else None
        return ""

    # trio.abc.Instrument ------------------------------------------------------------------

    def task_scheduled(self, task: Task) -> None:
        if self.frozen:
            held = self.frozen.get(self.host_of(task))
            if held is not None:
                runq = _runq()
                assert runq[-1] is task
                runq.pop()
                held.append(task)

    def task_exited(self, task: Task) -> None:
        self._roots.pop(task, None)

    def before_task_step(self, task: Task) -> None:
        self.steps += 1
        self._last_tasks.append(task)

    def before_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        if now != self._spins_at:
            self._spins_at, self._spins = now, 0
        self._spins += 1
        if self._spins == SPINS_MAX or now > RUN_MAX_S:
            # A task could not end the run: those that spin may be shielded.
            sys.unraisablehook = _ignore
            self.frozen = {}
            names = ", ".join(sorted({task.name for task in self._last_tasks}))
            _runner().clock = _Stopped(f"it does not end at {now:.3f}; last ran: {names}")


def _ignore(unraisable: object) -> None:
    """What the tasks of a run that is broken off complain of."""


class _Stopped:
    """A clock that ends the run when it is looked at."""

    def __init__(self, why: str) -> None:
        self._why = why

    def deadline_to_sleep_time(self, deadline: float) -> NoReturn:
        raise NeverEnds(self._why)

    def current_time(self) -> NoReturn:
        raise NeverEnds(self._why)


def _runner() -> Any:
    return trio._core._run.GLOBAL_RUN_CONTEXT.runner


def _runq() -> Any:
    return _runner().runq
