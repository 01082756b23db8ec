"""Membership: this host's record, its lease, and the view of the others. An adapter.

It refreshes the view when a renewal or a publication says that it changed, buries hosts whose
counters have stood still for lease + margin, and tells the system when the lease is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import trio
from msgspec.structs import replace

from actors.parts import in_parts
from placement.lease import LeaseTerms, Sightings
from placement.ports import Clock, Fenced, RegistryError, StaleGeneration
from placement.records import Load, Member, MemberState, Renewal, View
from placement.view import is_behind, number

if TYPE_CHECKING:
    from actors.generation import Generations
    from actors.system import System

log = logging.getLogger("roost.membership")

RETRY_S = 0.2


class Keeper(Protocol):
    """Keeps a lease: placement.lease_thread.LeaseKeeper, or a task in the simulator."""

    @property
    def deadline_s(self) -> float: ...
    def is_held(self) -> bool: ...
    def tick(self) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


#: Makes a keeper for an incarnation. The callbacks must be called on the loop's thread.
KeeperFactory = Callable[[str, Callable[[Renewal], None], Callable[[Fenced], None]], Keeper]


class Membership:
    """One incarnation's place in the cluster."""

    def __init__(
        self, system: System, terms: LeaseTerms, clock: Clock, heartbeat_interval_s: float,
        generations: Generations,
    ) -> None:  # fmt: skip
        self._generations = generations
        self._system = system
        self._terms = terms
        self._clock = clock
        self._heartbeat_interval_s = heartbeat_interval_s
        self._sightings = Sightings(terms)
        self._wake = trio.Event()
        self._behind = False
        self._first_renewal = trio.Event()
        self._fenced: Fenced | None = None
        self._refreshing = trio.Lock()
        self.keeper: Keeper | None = None
        #: Each incarnation's renewals, ours included, as the last renewal told.
        self.counters: dict[str, int] = {}

    async def join(self, member: Member, make_keeper: KeeperFactory) -> None:
        """Join as ``member``, begin the lease, and only then be up for actors.

        Raises RegistryError; a host that cannot join does not start.
        """
        system = self._system
        joining = replace(member, state=MemberState.JOINING)
        system.set_view(await system.registry.join(joining))
        await self._generations.joined()
        self._sightings = Sightings(self._terms)
        self._first_renewal = trio.Event()
        self._fenced = None
        self.keeper = make_keeper(member.incarnation, self._on_renewal, self._on_fenced)
        self.keeper.start()
        while not self._first_renewal.is_set():
            if not self._generations.is_current():  # a new one meanwhile: this host runs nothing
                system.set_view(await system.registry.join(joining))
                await self._generations.joined()
            self.keeper.tick()  # nobody else does before a host's first join
            with trio.move_on_after(self._terms.stall_limit_s / 8):
                await self._first_renewal.wait()
        self._check_not_fenced()
        view = await system.registry.set_member(member.incarnation, state=MemberState.UP)
        self._check_not_fenced()  # again: a host that does not serve yet is told by nobody else
        system.set_view(view)

    def _check_not_fenced(self) -> None:
        if self._fenced is not None:
            raise self._fenced

    def is_held(self) -> bool:
        """Whether this host may act."""
        return self.keeper is not None and self.keeper.is_held()

    def expects_hosts(self) -> bool:
        """Whether a lease has not passed yet since a new generation began, so that hosts may live
        that have not joined it."""
        return self._generations.holds_claims

    def lease_margin_s(self) -> float:
        """Time left until the lease ends; 0 without one."""
        if self.keeper is None or not self.keeper.is_held():
            return 0.0
        return max(0.0, self.keeper.deadline_s - self._clock())

    def stop(self) -> None:
        """Renew no more."""
        if self.keeper is not None:
            self.keeper.stop()

    # What the keeper and the publications tell -------------------------------------------

    def _on_renewal(self, renewal: Renewal) -> None:
        self.counters = renewal.counters
        counters = dict(renewal.counters)
        counters.pop(self._system.me.incarnation, None)
        self._sightings.observe(counters, self._clock(), renewal.generation)
        self._first_renewal.set()
        self.heard_of(renewal.generation, renewal.version)

    def _on_fenced(self, reason: Fenced) -> None:
        self._fenced = reason
        self._first_renewal.set()
        self._system.fenced(str(reason))

    def heard_of(self, generation: int, version: int) -> None:
        """A view of that number exists."""
        if is_behind(self._system.view, generation, version):
            self._behind = True
        self._wake.set()

    # Tasks --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tick, watch the others, tell of this host; for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._watch)
            nursery.start_soon(self._heartbeat)

    async def _tick(self) -> None:
        while True:
            if self.keeper is not None:
                self.keeper.tick()
            await trio.sleep(self._terms.stall_limit_s / 8)

    async def _watch(self) -> None:
        while True:
            pause_s = self._sightings.next_proof_at() - self._clock()
            with trio.move_on_after(min(max(pause_s, 0.01), self._terms.renew_every_s)):
                await self._wake.wait()
            self._wake = trio.Event()
            try:
                if self._behind:
                    await self.refresh()
                await self._bury_the_dead()
            except RegistryError as exc:
                log.warning("the view may be old: %s", exc)
                await trio.sleep(RETRY_S)

    async def _bury_the_dead(self) -> None:
        system = self._system
        if not system.is_serving():
            return
        for incarnation, counter in self._sightings.proven_dead(self._clock()):
            if incarnation in system.members and await system.registry.bury(incarnation, counter):
                log.warning("host %s is dead: its lease has passed", system.name_of(incarnation))
                await self.refresh()

    async def refresh(self) -> View:
        """The registry's view now, taken over if it is newer."""
        async with self._refreshing:
            self._behind = False
            try:
                view = await self._system.registry.view()
            except RegistryError:
                self._behind = True
                raise
            if self._is_premature(view):
                self._behind = True
            elif number(view) > number(self._system.view):
                self._system.set_view(view)
            return view

    def _is_premature(self, view: View) -> bool:
        """Whether hosts that a new generation does not know yet may still live: then the old
        view is the better one."""
        old = self._system.view.generation
        return old not in (0, view.generation) and self._generations.holds_claims

    async def catch_up(self, incarnations: Iterable[str]) -> None:
        """Refresh the view if it does not know one of those that the registry named."""
        if any(i not in self._system.members for i in incarnations):
            await self.refresh()

    async def _heartbeat(self) -> None:
        while True:
            me = self._system.me.incarnation
            if self._system.is_serving():
                try:
                    await self._system.registry.heartbeat(me, await self._load())
                except StaleGeneration:
                    self.heard_of(1 << 62, 0)
                except Fenced as exc:
                    self._system.fenced(str(exc), me)
                except RegistryError as exc:
                    log.warning("heartbeat is not delivered: %s", exc)
            await trio.sleep(self._heartbeat_interval_s)

    async def _load(self) -> Load:
        system, waiting = self._system, 0
        async for activations in in_parts(list(system.activations.values())):
            waiting += sum(activation.depth for activation in activations)
        return Load(
            actors=len(system.activations),
            activations_total=system.activations_total,
            mailbox=waiting,
            view_version=system.view.version,
        )
