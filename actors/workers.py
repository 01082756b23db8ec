"""Workers: pooled Trio tasks that run the turns of whatever actor has messages.

An idle actor has no task; a worker is handed to it when a message comes, and goes back to the
pool when the mailbox is empty. Each worker keeps one cancel scope for many turns and takes a new
one only after a cancellation, so a turn costs no scope of its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from actors.incoming import CURRENT, InCall, RowInCall
from actors.resume import GO_ON
from actors.step import resume
from actors.turns import run_turns

if TYPE_CHECKING:
    from actors.activation import Activation

IDLE_WORKERS_MAX = 64


class Worker:
    """One pooled task."""

    __slots__ = ("activation", "is_cancelled", "scope", "stays", "task")

    def __init__(self, activation: Activation) -> None:
        self.activation: Activation | None = activation
        self.scope: trio.CancelScope | None = None
        self.task: trio.lowlevel.Task | None = None
        self.is_cancelled = False
        self.stays = True

    def cancel(self) -> None:
        """Cancel the turn that runs now."""
        self.is_cancelled = True
        if self.scope is not None:
            self.scope.cancel()


class _Namer(trio.abc.Instrument):
    """A task that a turn of a row starts may outlive it, and what it asks is not to be taken for
    the doing of a later turn: so the turn has a token from then on, and the next ones have not.

    A system task with a turn's context comes from a thread that its turn may have abandoned,
    nobody knows when; like a background task it belongs to no turn.
    """

    @trio.lowlevel.enable_ki_protection
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        call = task.context.get(CURRENT)
        if not isinstance(call, RowInCall) or call.worker is None:
            return
        nursery = task.parent_nursery
        if nursery is not None and nursery.parent_task is trio.lowlevel.current_root_task():
            task.context.run(CURRENT.set, InCall(call.activation, "thread", b""))
        else:
            _ = call.token


class WorkerPool:
    """Gives workers to activations; bounded in the idle ones that it keeps."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._idle: list[Worker] = []
        self._count = 0
        self._namer = _Namer()

    @property
    def is_idle(self) -> bool:
        """Whether no worker has an activation."""
        return len(self._idle) == self._count

    @trio.lowlevel.enable_ki_protection
    def run(self, activation: Activation, at_once: bool = False) -> Worker:
        """Let a worker run the activation's turns until its mailbox is empty.

        ``at_once``: the first turn begins, and may have ended, when this returns, if that can be.
        """
        if self._idle:
            worker = self._idle.pop()
            worker.activation = activation
            assert worker.task is not None
            if at_once:
                resume(worker.task)
            else:
                trio.lowlevel.reschedule(worker.task, GO_ON)
            return worker
        worker = Worker(activation)
        if self._count == 0:
            trio.lowlevel.add_instrument(self._namer)
        self._count += 1
        self._nursery.start_soon(self._loop, worker, name="roost worker")
        return worker

    async def _loop(self, worker: Worker) -> None:
        worker.task = trio.lowlevel.current_task()
        try:
            while worker.stays:
                worker.is_cancelled = False
                with trio.CancelScope() as worker.scope:
                    await self._work(worker)
        finally:
            self._count -= 1
            if self._count == 0:
                with suppress(KeyError):  # Trio drops one that has failed
                    trio.lowlevel.remove_instrument(self._namer)

    async def _work(self, worker: Worker) -> None:
        """Run what is handed over, until a turn is cancelled: then the scope is used up."""
        while not worker.is_cancelled and worker.stays:
            activation = worker.activation
            if activation is None:
                await self._park(worker)
                continue
            try:
                await run_turns(activation, worker)
            finally:
                worker.activation = None
                CURRENT.set(None)
                activation.turns_done()

    async def _park(self, worker: Worker) -> None:
        if len(self._idle) >= IDLE_WORKERS_MAX:
            worker.stays = False
            return

        def abort(_: object) -> trio.lowlevel.Abort:
            if worker in self._idle:
                self._idle.remove(worker)
            return trio.lowlevel.Abort.SUCCEEDED

        self._idle.append(worker)
        await trio.lowlevel.wait_task_rescheduled(abort)
