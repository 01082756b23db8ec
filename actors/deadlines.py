"""Deadlines for many calls at once: buckets of a few milliseconds, one sleeping task.

A cancel scope per call costs 8 us and a heap entry; a bucket costs a dict entry, and removing one
is as cheap. Deadlines therefore fire up to one tick late, never early.
"""

from __future__ import annotations

import heapq
import math
from typing import Protocol

import trio

TICK_S = 0.005


class Expiring(Protocol):
    """What has a deadline. ``tick`` belongs to the wheel; 0 means that it is in none."""

    tick: int

    def expire(self) -> None:
        """Called once, in the wheel's task, when the deadline has passed. Must not block."""


class DeadlineWheel:
    """Calls ``expire`` on each entry when its time (on Trio's clock) has come."""

    def __init__(self, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._buckets: dict[
            int, dict[Expiring, None]
        ] = {}  # dicts: their order is the same in each run
        self._order: list[int] = []
        self._next = math.inf
        self._scope: trio.CancelScope | None = None

    def add(self, entry: Expiring, at: float) -> None:
        """Let ``entry`` expire at ``at`` seconds of Trio's clock."""
        tick = int(at / self._tick_s) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = bucket = {}
            heapq.heappush(self._order, tick)
            if tick < self._next:
                self._next = tick
                if self._scope is not None:
                    self._scope.deadline = tick * self._tick_s
        bucket[entry] = None
        entry.tick = tick

    def discard(self, entry: Expiring) -> None:
        """Forget ``entry``; does nothing when it is not in the wheel."""
        tick, entry.tick = entry.tick, 0
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.pop(entry, None)

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            self._fire(trio.current_time())
            with trio.CancelScope(deadline=self._next * self._tick_s) as self._scope:
                await trio.sleep_forever()

    def _fire(self, now: float) -> None:
        # Rounded up by a hair: the clock may stand a rounding error before the tick it woke for.
        due = int(now / self._tick_s + 1e-6)
        # Buckets emptied in the meantime go too, whatever their time: they cost wake-ups.
        while self._order and (self._order[0] <= due or not self._buckets[self._order[0]]):
            tick = heapq.heappop(self._order)
            for entry in self._buckets.pop(tick):
                if entry.tick == tick:  # else discarded by one that expired before it
                    entry.tick = 0
                    entry.expire()
        self._next = self._order[0] if self._order else math.inf
