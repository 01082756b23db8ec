"""Lets concurrent calls share one round trip. An adapter, on whatever loop its events wait on.

Nothing waits to fill a batch: a call that finds no batch under way starts one, and the calls that
come meanwhile make up the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class WaitableEvent(Protocol):
    """What trio.Event and asyncio.Event have in common."""

    def set(self) -> object: ...

    async def wait(self) -> object: ...


@dataclass(eq=False, slots=True)
class _Entry(Generic[T, R]):
    key: Hashable
    items: Sequence[T]
    results: list[R] | None = None
    error: Exception | None = None
    turn: WaitableEvent | None = field(default=None)
    is_abandoned: bool = False

    @property
    def is_done(self) -> bool:
        return self.results is not None or self.error is not None

    def wake(self) -> None:
        if self.turn is not None:
            self.turn.set()


class Batcher(Generic[T, R]):
    """Runs ``run(key, items)`` for one batch at a time, in the order asked, and never two at once.

    A batch holds the items of whole calls with the same ``key``, at most ``size_max`` items in
    all unless a single call brings more. ``run`` answers one result for each item.
    """

    def __init__(
        self,
        run: Callable[[Hashable, list[T]], Awaitable[list[R]]],
        new_event: Callable[[], WaitableEvent],
        size_max: int,
    ) -> None:
        self._run = run
        self._new_event = new_event
        self._size_max = size_max
        self._waiting: deque[_Entry[T, R]] = deque()
        self._under_way = False

    async def submit(self, key: Hashable, items: Sequence[T]) -> list[R]:
        """The results for ``items``; raises what ``run`` raised for the batch they were in.

        Cancelling the call whose task runs the batch gives the others' items to the next batch,
        so ``run`` must be safe to repeat.
        """
        entry: _Entry[T, R] = _Entry(key, items)
        self._waiting.append(entry)
        try:
            while not entry.is_done:
                if self._under_way:
                    entry.turn = self._new_event()
                    await entry.turn.wait()
                else:
                    await self._lead()
        finally:
            self._abandon(entry)
        if entry.error is not None:
            raise entry.error
        assert entry.results is not None
        return entry.results

    async def _lead(self) -> None:
        batch = self._take()
        self._under_way = True
        try:
            results = await self._run(batch[0].key, [item for e in batch for item in e.items])
        except Exception as exc:
            for entry in batch:
                entry.error = exc
        except BaseException:
            self._waiting.extendleft(e for e in reversed(batch) if not e.is_abandoned)
            raise
        else:
            _deal_out(batch, results)
        finally:
            self._under_way = False
            for entry in batch:
                entry.wake()
            self._wake_next()

    def _take(self) -> list[_Entry[T, R]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].items)
        while self._waiting:
            following = self._waiting[0]
            size += len(following.items)
            if following.key != batch[0].key or size > self._size_max:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _abandon(self, entry: _Entry[T, R]) -> None:
        """Forget a call that ended; if it was cancelled when its turn came, pass the turn on."""
        entry.is_abandoned = True
        if entry in self._waiting:  # else its batch is under way, and goes on for the others
            self._waiting.remove(entry)
            self._wake_next()

    def _wake_next(self) -> None:
        if self._waiting and not self._under_way:
            self._waiting[0].wake()


def _deal_out(batch: list[_Entry[T, R]], results: list[R]) -> None:
    start = 0
    for entry in batch:
        entry.results = results[start : start + len(entry.items)]
        start += len(entry.items)
