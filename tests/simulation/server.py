"""The registry's server in a simulation: scripts that run one by one, and a memory that can fail.

The scripts are those of the memory registry. What this adds is what only a server has: it speaks
for a generation (rule 9, as the Redis scripts do), numbers each registry object's claims, and can
stop, come back with its data, without it, with older data under the same keys, or as a replica
that lagged behind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import trio

import placement.memory as memory
from placement.memory import MemoryRegistry, MemoryStore
from placement.ports import Claim, RegistryError, RegistryUnavailable
from placement.records import Claimed, Held, Location, Stored
from tests.simulation.events import Buried, Event, Freed, Granted, LostData, Ops, Saved

NOWHERE = Location("", 0)
SNAPSHOTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Request:
    """One script on its way: what its sender had heard when it was sent, and the call itself."""

    host: str
    generation: int
    epoch: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    claim_no: tuple[str, int] | None = None  # of a claim or assertion: registry object, number


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script answered; ``generation`` is the one that it ran in."""

    generation: int
    value: Any = None
    error: RegistryError | ValueError | None = None


class SimStore(MemoryStore):
    """The data, with what Redis keeps beside it."""

    def __init__(self, run_id: int) -> None:
        super().__init__()
        self.run_id = run_id
        self.claims: dict[str, tuple[str, int, int]] = {}  # by incarnation: object, number, epoch


class Server:
    """See the module. ``ops_in`` reads a saved state; ``log`` hears what the scripts did."""

    def __init__(self, log: Callable[[Event], None], ops_in: Callable[[bytes], Ops]) -> None:
        self._log = log
        self._ops_in = ops_in
        self.is_up = True
        self.time_step_s = 0.0  # the server's clock is off by so much
        self.run_id = 1
        self._latest_us = 0  # the latest time that it has ever shown
        self.store = SimStore(self.run_id)
        self.published: Callable[[int, int], None] = lambda generation, version: None
        self.store.callbacks.append(lambda g, v: self.published(g, v))
        self.store.generation = self.store.epoch = self.time_us()
        self.snapshots: list[tuple[float, dict[str, Any]]] = []

    def time_us(self) -> int:
        return int((1e6 + trio.current_time() + self.time_step_s) * 1e6)

    # Running scripts ----------------------------------------------------------------------

    def run(self, request: Request) -> Reply:
        """Run one script, whole."""
        store = self.store
        self._begin(request)
        locations, stored = dict(store.locations), dict(store.stored)
        members = list(store.members)
        registry = MemoryRegistry(store)
        registry._generation = request.generation
        try:
            if request.claim_no is not None:
                value: Any = self._run_numbered(registry, request)
            else:
                value = _run(getattr(registry, request.name)(*request.args, **request.kwargs))
            reply = Reply(store.generation, value)
        except (RegistryError, ValueError) as exc:
            reply = Reply(store.generation, error=exc)
        for gone in store.claims.keys() - store.members.keys():
            del store.claims[gone]
        self._tell(request.name, locations, stored)
        for gone in members if request.name == "bury" else ():
            if gone not in store.members:
                self._log(Buried(trio.current_time(), gone))
        return reply

    def _begin(self, request: Request) -> None:
        """Rule 9: another run id than the one beside the data starts a generation; so does a
        caller who has heard of a later one."""
        store = self.store
        self._latest_us = max(self._latest_us, self.time_us())
        if store.run_id != self.run_id or request.generation > store.generation:
            self._begin_generation(request)
        store.epoch = max(store.epoch, request.epoch)

    def _begin_generation(self, request: Request) -> None:
        store, now_us = self.store, self.time_us()
        known = max(store.generation, request.generation, now_us)
        epoch = max(store.epoch, request.epoch, known)
        store.restart(keep_data=True)
        store.claims.clear()
        # While the clock lags, by chance, as in scripts/common.lua: with the very next number, two
        # rollbacks to the same data would begin one generation twice.
        step = 1 if now_us == known else 1 + Random(f"run {self.run_id}").randrange(1 << 16)
        store.generation, store.epoch, store.run_id = known + step, epoch, self.run_id
        self.published(store.generation, store.version)

    def _run_numbered(self, registry: MemoryRegistry, request: Request) -> Any:
        """Claims and assertions of one registry object are numbered: one that comes behind a later
        one is void, and one that comes twice only confirms what is there."""
        store = self.store
        me, wanted = request.args
        assert request.claim_no is not None
        claimer, number = request.claim_no
        registry._enter(me)
        last = store.claims.get(me)
        if last is not None and last[0] == claimer:
            if number < last[1]:
                raise RegistryUnavailable("a later claim came first")
            if number == last[1]:
                return self._run_again(request, last[2])
        answers = _run(getattr(registry, request.name)(me, wanted))
        store.claims[me] = (claimer, number, store.epoch)
        return answers

    def _run_again(self, request: Request, epoch: int) -> list[Claimed | Held] | list[bool]:
        me, wanted = request.args
        if request.name == "assert_owned":
            return [memory.owns(self.store.locations.get(actor), me, e) for actor, e in wanted]
        return [self._claim_again(me, claim, epoch) for claim in wanted]

    def _claim_again(self, me: str, claim: Claim, epoch: int) -> Claimed | Held:
        store, location = self.store, self.store.locations.get(claim.actor)
        if location != Location(me, epoch):
            return Held(location or NOWHERE)
        return Claimed(epoch, store.stored.get(claim.actor))

    def _tell(self, name: str, locations: dict[str, Location], stored: dict[str, Stored]) -> None:
        now, store = trio.current_time(), self.store
        for actor, location in store.locations.items():
            if location != locations.get(actor) and name != "assert_owned":
                self._log(Granted(now, actor, location.epoch, location.incarnation))
        for actor, location in locations.items():
            if actor not in store.locations:
                self._log(Freed(now, actor, location.epoch, location.incarnation))
        for actor, save in store.stored.items():
            if save is not stored.get(actor):
                host = store.locations.get(actor, NOWHERE).incarnation
                ops = self._ops_in(save.data)
                self._log(Saved(now, actor, save.epoch, host, save.save_no, ops))

    # Failing ------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """Remember the data as it is: a replica, or a backup, that will lag behind."""
        self.snapshots.append((trio.current_time(), _copy(self.store)))
        del self.snapshots[:-SNAPSHOTS_MAX]

    def stop(self) -> None:
        self.is_up = False

    def start(self, data: dict[str, Any] | None = None) -> None:
        """Come back as another run of the server; with ``data`` instead of its own, if given."""
        self.is_up = True
        self.run_id += 1
        if data is not None:
            vars(self.store).update(copy.deepcopy(data))
            stored = {actor: self._ops_in(s.data) for actor, s in self.store.stored.items()}
            is_back = self.time_us() < self._latest_us
            self._log(LostData(trio.current_time(), stored, is_back))

    def empty_data(self) -> dict[str, Any]:
        """The data of a server that has none: not even a generation."""
        empty = SimStore(0)
        empty.generation = empty.version = 0
        return _copy(empty)

    def old_data(self, age_s: float) -> dict[str, Any]:
        """The data as it was at least ``age_s`` ago, or as early as anyone remembers."""
        until = trio.current_time() - age_s
        fitting = [data for at, data in self.snapshots if at <= until]
        return fitting[-1] if fitting else self.snapshots[0][1]


def _copy(store: SimStore) -> dict[str, Any]:
    data = {name: value for name, value in vars(store).items() if name != "callbacks"}
    return copy.deepcopy(data)


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine of the memory registry returns; they never wait."""
    try:
        coroutine.send(None)
    except StopIteration as exc:
        return exc.value
    raise AssertionError("the memory registry waits for something")


def distinct(claims: Sequence[Claim]) -> list[list[Claim]]:
    """``claims`` in parts that name no actor twice: a script gives all its claims one epoch."""
    parts: list[dict[str, Claim]] = [{}]
    for claim in claims:
        if claim.actor in parts[-1]:
            parts.append({})
        parts[-1][claim.actor] = claim
    return [list(part.values()) for part in parts if part]
