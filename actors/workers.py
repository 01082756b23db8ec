"""Workers: pooled Trio tasks that run the turns of whatever actor has messages.

An idle actor has no task; a worker is handed to it when a message comes, and goes back to the
pool when the mailbox is empty. Each worker keeps one cancel scope for many turns and takes a new
one only after a cancellation, so a turn costs no scope of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.incoming import InCall

IDLE_WORKERS_MAX = 64
TURNS_PER_CHECKPOINT = 32


class Worker:
    """One pooled task. ``call`` is what it runs now."""

    __slots__ = ("activation", "call", "scope", "task")

    def __init__(self, activation: Activation) -> None:
        self.activation: Activation | None = activation
        self.call: InCall | None = None
        self.scope: trio.CancelScope | None = None
        self.task: trio.lowlevel.Task | None = None

    def cancel(self) -> None:
        """Cancel the turn that runs now."""
        if self.scope is not None:
            self.scope.cancel()


class WorkerPool:
    """Gives workers to activations; bounded in the idle ones that it keeps."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._idle: list[Worker] = []

    def run(self, activation: Activation) -> Worker:
        """Let a worker run the activation's turns until its mailbox is empty."""
        if self._idle:
            worker = self._idle.pop()
            worker.activation = activation
            assert worker.task is not None
            trio.lowlevel.reschedule(worker.task)
            return worker
        worker = Worker(activation)
        self._nursery.start_soon(self._loop, worker, name="roost worker")
        return worker

    async def _loop(self, worker: Worker) -> None:
        worker.task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            if worker in self._idle:
                self._idle.remove(worker)
            return trio.lowlevel.Abort.SUCCEEDED

        while (activation := worker.activation) is not None:
            try:
                await self._turns(worker, activation)
            finally:
                worker.activation = worker.call = worker.scope = None
                activation.turns_done()
            if len(self._idle) < IDLE_WORKERS_MAX:
                self._idle.append(worker)
                await trio.lowlevel.wait_task_rescheduled(abort)

    async def _turns(self, worker: Worker, activation: Activation) -> None:
        count = 0
        while (call := activation.next_turn()) is not None:
            with trio.CancelScope() as worker.scope:
                while call is not None and not worker.scope.cancel_called:
                    worker.call, call.worker = call, worker
                    try:
                        await activation.turn(call)
                    finally:
                        worker.call = call.worker = None
                    count += 1
                    if count % TURNS_PER_CHECKPOINT == 0:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    call = None if worker.scope.cancel_called else activation.next_turn()
