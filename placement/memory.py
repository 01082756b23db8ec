"""The registry in memory: several hosts of one process share a MemoryStore. An adapter.

It is under the same contract suite as the Redis registry. Nothing here awaits, so each method is
one atomic step on whatever loop it runs, and needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nsmallest

from placement.claims import SaveVerdict, claim_granted, judge_save, may_assert, may_bury, owns
from placement.durable import (
    check_spec,
    delay_ms,
    first_due_ms,
    next_due_ms,
    period_ms,
    reminder_id,
)
from placement.membership import changed_member, shadowed
from placement.memory_store import MemoryStore
from placement.ports import Claim, Fenced, StaleGeneration
from placement.records import (
    Claimed,
    Held,
    Load,
    Location,
    Member,
    MemberState,
    Reminder,
    Renewal,
    Stored,
    View,
)

__all__ = ["MemoryRegistry", "MemoryStore"]

NOWHERE = Location("", 0)


class MemoryRegistry:
    """One host's access to a MemoryStore; see placement.ports.Registry for what it promises."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._generation = 0  # none heard of yet: the first call takes what it finds
        self._epoch = 0  # the highest heard of
        self._callbacks: list[Callable[[int, int], None]] = []

    def _enter(self, me: str | None = None, generation: int | None = None) -> MemoryStore:
        """``generation``: what the call speaks for, if not the latest that was heard of."""
        store = self._store
        known = self._generation if generation is None else generation
        store.hear(known, self._epoch)
        self._generation = store.generation
        if known not in (0, store.generation):
            raise StaleGeneration(
                f"generation {known} is over; this is {store.generation}", store.view()
            )
        if me is not None and me not in store.members:
            raise Fenced(f"{me} is not a live member")
        return store

    def _enter_anew(self, me: str | None = None) -> MemoryStore:
        """Enter whatever generation there is, for calls that speak for no earlier one."""
        self._store.hear(self._generation, self._epoch)
        self._generation = 0
        return self._enter(me)

    def _found(self, location: Location | None) -> Location | None:
        """``location``, of whose epoch this host has heard now."""
        if location is not None:
            self._epoch = max(self._epoch, location.epoch)
        return location

    @property
    def generation(self) -> int:
        return self._generation

    async def join(self, member: Member) -> View:
        store = self._enter_anew()
        if member.incarnation in store.gone:
            raise Fenced(f"{member.incarnation} has left or was buried; it cannot join again")
        if member.incarnation in store.members:
            return store.view()
        for earlier in shadowed(store.members.values(), member):
            store.members[earlier.incarnation] = changed_member(earlier, ready=False)
        store.members[member.incarnation] = member
        store.counters[member.incarnation] = 0
        return store.changed()

    async def renew(self, me: str, counter: int) -> Renewal:
        store = self._enter(me)
        store.counters[me] = max(store.counters[me], counter)
        return Renewal(store.generation, store.version, dict(store.counters))

    async def heartbeat(self, me: str, load: Load) -> None:
        self._enter(me).loads[me] = load

    async def set_member(
        self, incarnation: str, *, state: MemberState | None = None, ready: bool | None = None,
        weight: float | None = None,
    ) -> View:  # fmt: skip
        store = self._enter_anew(incarnation)
        before = store.members[incarnation]
        after = changed_member(before, state=state, ready=ready, weight=weight)
        if after == before:
            return store.view()
        store.members[incarnation] = after
        return store.changed()

    async def leave(self, me: str) -> View:
        store = self._enter()
        return store.remove(me) if me in store.members else store.view()

    async def bury(self, incarnation: str, counter: int) -> bool:
        store = self._enter()
        if may_bury(store.counters.get(incarnation), counter):
            store.remove(incarnation)
        return incarnation not in store.members

    async def view(self) -> View:
        return self._enter_anew().view()

    async def loads(self) -> dict[str, Load]:
        return dict(self._enter().loads)

    async def claim(
        self, me: str, claims: Sequence[Claim], generation: int | None = None
    ) -> list[Claimed | Held]:
        if not claims:
            return []
        store = self._enter(me, generation)
        locations, live, stored = store.locations, store.members, store.stored
        store.epoch += 1
        mine = Location(me, store.epoch)
        answers: list[Claimed | Held] = []
        for actor, offered in claims:
            location = locations.get(actor)
            if not claim_granted(location, me, live, offered):
                answers.append(Held(location or NOWHERE))
                continue
            if location == mine:  # asked for twice in one call: each claim gets its own epoch
                store.epoch += 1
                mine = Location(me, store.epoch)
            locations[actor] = mine
            store.claimed_in = store.generation
            answers.append(Claimed(mine.epoch, stored.get(actor)))
        self._epoch = store.epoch
        return answers

    async def release(self, me: str, owned: Sequence[tuple[str, int]]) -> None:
        if not owned:
            return
        store = self._enter(me)
        for actor, epoch in owned:
            if owns(store.locations.get(actor), me, epoch):
                del store.locations[actor]

    async def locate(self, actors: Sequence[str]) -> list[Location | None]:
        if not actors:
            return []
        store = self._enter()
        return [self._found(store.locations.get(actor)) for actor in actors]

    async def save(self, me: str, actor: str, epoch: int, save_no: int, data: bytes) -> bool:
        store = self._enter(me)
        location, stored = store.locations.get(actor), store.stored.get(actor)
        verdict = judge_save(location, stored, me, epoch, save_no)
        if verdict is SaveVerdict.STORE:
            store.stored[actor] = Stored(epoch, save_no, bytes(data))
        return verdict is not SaveVerdict.REFUSED

    async def load(self, actor: str) -> Stored | None:
        return self._enter().stored.get(actor)

    async def forget(self, me: str, actor: str, epoch: int) -> bool:
        store = self._enter(me)
        if not owns(store.locations.get(actor), me, epoch):
            return False
        del store.locations[actor]
        store.stored.pop(actor, None)
        return True

    async def list_actors(
        self, prefix: str, limit: int, cursor: str
    ) -> tuple[list[tuple[str, Location]], str]:
        store = self._enter()
        names = (a for a in store.locations if a > cursor and a.startswith(prefix))
        page = [(actor, store.locations[actor]) for actor in nsmallest(limit, names)]
        for _, location in page:
            self._found(location)
        return page, page[-1][0] if len(page) == limit else ""

    # Generations

    async def settle(self) -> None:
        store = self._enter()
        store.settled = store.generation

    async def is_settled(self) -> bool:
        store = self._enter()
        return store.settled == store.generation

    async def assert_owned(self, me: str, owned: Sequence[tuple[str, int]]) -> list[bool]:
        if not owned:
            return []
        self._epoch = max(self._epoch, *(epoch for _, epoch in owned))
        store = self._enter(me)
        return [self._assert(store, me, actor, epoch) for actor, epoch in owned]

    def _assert(self, store: MemoryStore, me: str, actor: str, epoch: int) -> bool:
        if not may_assert(store.locations.get(actor), me, epoch, store.is_claimed()):
            return False
        store.locations[actor] = Location(me, epoch)
        return True

    # Durable actors

    async def keep_spec(self, me: str, actor: str, epoch: int, spec: bytes) -> bool:
        check_spec(spec)
        store = self._enter(me)
        if not owns(store.locations.get(actor), me, epoch):
            return False
        store.keep_spec(actor, bytes(spec))
        return True

    async def end_durable(self, me: str, actor: str, epoch: int) -> bool:
        store = self._enter(me)
        if not owns(store.locations.get(actor), me, epoch):
            return False
        del store.locations[actor]
        store.drop_spec(actor)
        for key in [key for key, r in store.reminders.items() if r.actor == actor]:
            store.retire_reminder(key)
        return True

    async def specs(
        self, ranges: Sequence[tuple[int, int]], limit: int
    ) -> list[tuple[str, bytes, Location | None]]:
        if limit <= 0 or not ranges:
            return []
        store = self._enter()
        actors: list[str] = []
        for first, last in ranges:
            actors += store.durable_between(first, last)[: limit - len(actors)]
        return [(a, store.specs[a], self._found(store.locations.get(a))) for a in actors]

    # Reminders

    async def set_reminder(self, actor: str, name: str, after_s: float, every_s: float) -> None:
        after_ms, every_ms = delay_ms(after_s), period_ms(every_s)
        store, key = self._enter(), reminder_id(actor, name)
        due_ms = first_due_ms(store.now_ms(), after_ms, store.earlier_due_ms(key))
        store.reminders[key] = Reminder(actor, name, due_ms, every_ms / 1000)

    async def drop_reminder(self, actor: str, name: str) -> bool:
        return self._enter().retire_reminder(reminder_id(actor, name))

    async def due_reminders(self, limit: int) -> list[Reminder]:
        store = self._enter()
        now_ms = store.now_ms()
        due = [(r.due_ms, key) for key, r in store.reminders.items() if r.due_ms <= now_ms]
        return [store.reminders[key] for _, key in nsmallest(limit, due)]

    async def reminder_fired(self, reminder: Reminder) -> None:
        store, key = self._enter(), reminder_id(reminder.actor, reminder.name)
        there = store.reminders.get(key)
        if there is None or there.due_ms != reminder.due_ms:
            return
        if not there.every_s:
            store.retire_reminder(key)
            return
        due_ms = next_due_ms(there.due_ms, period_ms(there.every_s), store.now_ms())
        store.reminders[key] = there._replace(due_ms=due_ms)

    # The connection itself

    def on_change(self, callback: Callable[[int, int], None]) -> None:
        self._callbacks.append(callback)
        self._store.callbacks.append(callback)

    async def listen(self) -> None:
        """Returns at once: the store calls back by itself."""

    async def aclose(self) -> None:
        for callback in self._callbacks:
            self._store.callbacks.remove(callback)
        self._callbacks.clear()
