"""The data of a registry in memory, and what restarts and rollbacks do to it. An adapter's half."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import NamedTuple

from placement.durable import name_bounds, spec_name
from placement.records import Load, Location, Member, Reminder, Stored, View
from placement.view import make_view

#: How many reminders a store remembers that it dropped, so as to tell a new one from them.
RETIRED_MAX = 10_000


class Snapshot(NamedTuple):
    """A store's data as it once was, for ``MemoryStore.rollback``."""

    generation: int
    version: int
    epoch: int
    settled: int
    gone: set[str]
    locations: dict[str, Location]
    stored: dict[str, Stored]
    specs: dict[str, bytes]
    reminders: dict[str, Reminder]


EMPTY = Snapshot(0, 0, 0, 0, set(), {}, {}, {}, {})


class MemoryStore:
    """The data that the registries of one simulated cluster share; one per cluster.

    ``clock``: what the server takes for seconds since 1970. It may step either way.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._generations = {1}
        self.generation = 1
        self.version = 1
        self.epoch = 0
        self.settled = 0
        self.claimed_in = 0  # the latest generation in which anybody has claimed
        self.members: dict[str, Member] = {}
        self.counters: dict[str, int] = {}
        self.loads: dict[str, Load] = {}
        self.gone: set[str] = set()
        self.locations: dict[str, Location] = {}
        self.stored: dict[str, Stored] = {}
        self.specs: dict[str, bytes] = {}
        self.spec_names: list[str] = []
        self.reminders: dict[str, Reminder] = {}
        self.retired: dict[str, int] = {}
        self.callbacks: list[Callable[[int, int], None]] = []

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    def snapshot(self) -> Snapshot:
        """A copy of the data, as a server writes to its disk or sends to a replica."""
        return Snapshot(
            self.generation, self.version, self.epoch, self.settled, set(self.gone),
            dict(self.locations), dict(self.stored), dict(self.specs), dict(self.reminders),
        )  # fmt: skip

    def restart(self, *, keep_data: bool) -> None:
        """What a restart of the server means: a new generation, in which nobody is a member."""
        self.rollback(self.snapshot() if keep_data else EMPTY)

    def rollback(self, to: Snapshot) -> None:
        """A restart with the data of ``to``: what came later was lost. The server itself recalls
        nothing else; hosts raise its numbers to the highest they have heard of as they call."""
        self.version, self.settled = to.version, to.settled
        self.gone = set(to.gone)
        self.locations, self.stored = dict(to.locations), dict(to.stored)
        self.specs, self.reminders = dict(to.specs), dict(to.reminders)
        self.spec_names = sorted(map(spec_name, self.specs))
        self.retired.clear()
        self._begin_generation(to.generation, to.epoch)

    def hear(self, generation: int, epoch: int) -> None:
        """What every call begins with: its host has heard of this generation and this epoch."""
        if generation > self.generation:
            self._begin_generation(generation, max(epoch, self.epoch))
        self.epoch = max(self.epoch, epoch)

    def _begin_generation(self, generation: int, epoch: int) -> None:
        """Above ``generation``, with no epoch up to ``epoch`` to come, nor one that was given
        before unless the clock stepped back; and never a generation that there has been."""
        now_us = int(self._clock() * 1_000_000)
        known = max(generation, now_us)
        self.generation = known + 1
        while self.generation in self._generations:  # what chance sees to in Redis
            self.generation += 1
        self._generations.add(self.generation)
        self.epoch = max(epoch, known)
        self.members.clear()
        self.counters.clear()
        self.loads.clear()
        self.changed()

    def changed(self) -> View:
        """Raise the version and tell everyone."""
        self.version += 1
        for callback in tuple(self.callbacks):
            callback(self.generation, self.version)
        return self.view()

    def view(self) -> View:
        return make_view(self.generation, self.version, self.members.values())

    def remove(self, incarnation: str) -> View:
        """Take a member out of the view for good."""
        del self.members[incarnation], self.counters[incarnation]
        self.loads.pop(incarnation, None)
        self.gone.add(incarnation)
        return self.changed()

    def is_claimed(self) -> bool:
        """Whether anybody has claimed in this generation."""
        return self.claimed_in == self.generation

    def keep_spec(self, actor: str, spec: bytes) -> None:
        if actor not in self.specs:
            insort(self.spec_names, spec_name(actor))
        self.specs[actor] = spec

    def drop_spec(self, actor: str) -> None:
        if self.specs.pop(actor, None) is not None:
            del self.spec_names[bisect_left(self.spec_names, spec_name(actor))]

    def durable_between(self, first: int, last: int) -> list[str]:
        """The durable actors of that range of hashes, in their order."""
        low, high = (bisect_left(self.spec_names, bound) for bound in name_bounds(first, last))
        return [name[17:] for name in self.spec_names[low:high]]

    def retire_reminder(self, key: str) -> bool:
        """Forget a reminder, but not when it was due; whether it was there."""
        reminder = self.reminders.pop(key, None)
        if reminder is None:
            return False
        self.retired[key] = reminder.due_ms
        if len(self.retired) > RETIRED_MAX:
            del self.retired[next(iter(self.retired))]
        return True

    def earlier_due_ms(self, key: str) -> int | None:
        """When the reminder of that id was due last, if it is known."""
        reminder = self.reminders.get(key)
        return self.retired.get(key) if reminder is None else reminder.due_ms
