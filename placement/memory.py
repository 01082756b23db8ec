"""The registry in memory: several hosts of one process share a MemoryStore. An adapter.

It is under the same contract suite as the Redis registry. Nothing here awaits, so each method is
one atomic step on whatever loop it runs, and needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nsmallest

from placement.claims import SaveVerdict, claim_granted, judge_save, may_bury, owns
from placement.membership import changed_member, shadowed
from placement.ports import Claim, Fenced, StaleGeneration
from placement.records import (
    Claimed,
    Held,
    Load,
    Location,
    Member,
    MemberState,
    Renewal,
    Stored,
    View,
)
from placement.view import make_view

NOWHERE = Location("", 0)


class MemoryStore:
    """The data that the registries of one simulated cluster share; one per cluster."""

    def __init__(self) -> None:
        self.generation = 1
        self.version = 1
        self.epoch = 0
        self.members: dict[str, Member] = {}
        self.counters: dict[str, int] = {}
        self.loads: dict[str, Load] = {}
        self.gone: set[str] = set()
        self.locations: dict[str, Location] = {}
        self.stored: dict[str, Stored] = {}
        self.callbacks: list[Callable[[int, int], None]] = []

    def restart(self, *, keep_data: bool) -> None:
        """What a restart of the server means: a new generation, in which nobody is a member."""
        self.generation += 1
        self.members.clear()
        self.counters.clear()
        self.loads.clear()
        if not keep_data:
            self.version = 0
            self.gone.clear()
            self.locations.clear()
            self.stored.clear()
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


class MemoryRegistry:
    """One host's access to a MemoryStore; see placement.ports.Registry for what it promises."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._generation = 0  # none heard of yet: the first call takes what it finds
        self._callbacks: list[Callable[[int, int], None]] = []

    def _enter(self, me: str | None = None) -> MemoryStore:
        store = self._store
        known, self._generation = self._generation, store.generation
        if known not in (0, store.generation):
            raise StaleGeneration(
                f"generation {known} is over; this is {store.generation}", store.view()
            )
        if me is not None and me not in store.members:
            raise Fenced(f"{me} is not a live member")
        return store

    def _enter_anew(self, me: str | None = None) -> MemoryStore:
        """Enter whatever generation there is, for calls that speak for no earlier one."""
        self._generation = 0
        return self._enter(me)

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

    async def claim(self, me: str, claims: Sequence[Claim]) -> list[Claimed | Held]:
        if not claims:
            return []
        store = self._enter(me)
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
            answers.append(Claimed(mine.epoch, stored.get(actor)))
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
        return [store.locations.get(actor) for actor in actors]

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
        return page, page[-1][0] if len(page) == limit else ""

    def on_change(self, callback: Callable[[int, int], None]) -> None:
        self._callbacks.append(callback)
        self._store.callbacks.append(callback)

    async def listen(self) -> None:
        """Returns at once: the store calls back by itself."""

    async def aclose(self) -> None:
        for callback in self._callbacks:
            self._store.callbacks.remove(callback)
        self._callbacks.clear()
