"""Collector: full garbage collections when nothing waits, and not in the middle of a move.

An adapter, for a process that is a host and nothing else. A full collection looks at every object,
which stops a host of 33,000 actors for 150 ms; and Python makes one whenever objects have become a
quarter more, so just when many actors arrive. Here only the young generations are collected as
they fill. The old one waits for a moment in which no turn runs and no actor moves; if that does not
come, it waits no longer than OVERDUE_S.
"""

from __future__ import annotations

import gc
import logging
import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.host")

#: Objects more than before at which the young are looked at, and how many such looks make a middle
#: one. The last number keeps Python from full collections of its own.
YOUNG, MIDDLE, NEVER = 2_000, 10, 1_000_000_000
#: Middle collections after which a full one is due: a million objects more than before.
DUE = 50
LOOK_EVERY_S = 1.0
#: A moment counts as quiet when no actor has moved for so long.
STILL_S = 5.0
OVERDUE_S = 60.0
#: At most this part of the time goes into full collections.
SHARE_MAX = 0.01


class Collector:
    """Decides when a full collection is due. ``collect`` makes one and returns how long it took."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._due_since: float | None = None
        self._not_before = 0.0
        self._moved = 0
        self._still_since = 0.0

    def is_time(self, now: float, middle_collections: int) -> bool:
        """Whether to collect now, given how many middle collections there were since the last."""
        if self._has_moves():
            self._still_since = now
        if middle_collections < DUE or now < self._not_before:
            return False
        if self._due_since is None:
            self._due_since = now
        if now - self._due_since >= OVERDUE_S:
            return True
        return now - self._still_since >= STILL_S and self._system.pool.is_idle

    def collected(self, now: float, took_s: float) -> None:
        """A full collection has been made."""
        self._due_since = None
        self._not_before = now + took_s / SHARE_MAX

    def _has_moves(self) -> bool:
        """Whether actors have come or gone, or are about to, since the last look."""
        system = self._system
        mover = system.rebalancer.mover
        came = system.activations_total + system.adopter.adopted_total
        before, self._moved = self._moved, came + mover.moved_total
        return self._moved != before or mover.is_moving


async def run(system: System) -> None:
    """Collect for this process, until cancelled; then Python does as before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what is loaded stays
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    collector = Collector(system)
    try:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            if collector.is_time(trio.current_time(), gc.get_count()[2]):
                start = time.perf_counter()
                found = gc.collect()
                took_s = time.perf_counter() - start
                log.debug("full garbage collection: %d objects in %.3f s", found, took_s)
                collector.collected(trio.current_time(), took_s)
    finally:
        gc.set_threshold(*before)
