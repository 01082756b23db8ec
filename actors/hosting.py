"""Hosting: how a host joins, loses its lease, starts anew, drains and leaves.

The order of these steps, over ports. What opens links and servers and keeps the lease is said by
an adapter: ``host`` over Redis and gRPC, ``memory_host`` inside one Trio run.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import trio

from actors.generation import Generations, GuardedRegistry
from actors.membership import Keeper, Membership
from actors.reasons import Reason
from actors.system import System
from placement.lease import LeaseTerms
from placement.ports import Clock, Fenced, Registry, RegistryError
from placement.records import Member, MemberState, Renewal
from wire.errors import Unavailable
from wire.ports import Peer

log = logging.getLogger("roost.host")

REJOIN_S = 0.5
LEAVE_S = 3.0
GRACE_MIN_S = 0.2


class HostSystem(System):
    """The system of one host of a cluster. Made by :func:`actors.open_host`."""

    hosting: Hosting
    is_draining = False

    def is_ready(self) -> bool:
        return super().is_ready() and not self.is_draining

    @property
    def address(self) -> str:
        """ip:port at which this host is reached."""
        return self.me.address

    def begin_drain(self) -> None:
        """Drain in the background, within the host's own ``drain_timeout_s``."""
        self.nursery.start_soon(self.drain)

    async def drain(self, timeout_s: float | None = None) -> int:
        """Take no new actors, let handlers finish, save, release, and leave the cluster.

        Returns how many actors were cut short at the deadline. Idempotent.
        """
        return await self.hosting.drain(timeout_s)

    async def wait_closed(self) -> None:
        """Wait until the host has drained, whoever asked it to."""
        await self.hosting.closed.wait()


class Hosting(ABC):
    """One host's steps, in their order."""

    def __init__(
        self, system: HostSystem, terms: LeaseTerms, clock: Clock, *,
        heartbeat_interval_s: float, drain_timeout_s: float,
    ) -> None:  # fmt: skip
        self.system = system
        self.terms = terms
        self.closed = trio.Event()
        self._drain_timeout_s = drain_timeout_s
        self._drained: trio.Event | None = None
        self._cut_short = 0
        self._rejoining = trio.CancelScope()
        self.generations = Generations(system, system.registry, terms, clock)
        system.registry = cast(Registry, GuardedRegistry(system.registry, self.generations))
        self._membership = Membership(system, terms, clock, heartbeat_interval_s, self.generations)
        system.membership = self._membership
        system.hosting = self

    # What an adapter says -----------------------------------------------------------------

    @abstractmethod
    async def open_doors(self) -> None:
        """Open links and servers; afterwards ``new_record`` knows the address."""

    @abstractmethod
    def new_record(self) -> Member:
        """This host's record, each time as a new incarnation."""

    @abstractmethod
    def become(self, me: Peer, reason: str) -> None:
        """End all sessions with other hosts; later ones are those of ``me``."""

    @abstractmethod
    def make_keeper(
        self, me: str, on_renewal: Callable[[Renewal], None], on_fenced: Callable[[Fenced], None]
    ) -> Keeper:
        """See actors.membership.KeeperFactory."""

    @abstractmethod
    async def say_goodbye(self, grace_s: float) -> None:
        """Take no more calls from outside, let those under way end, empty the links."""

    @abstractmethod
    async def close_doors(self) -> None:
        """Close what is open, whatever state the host is in."""

    # Start --------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Started, for the length of the block; drained and closed after it.

        Raises what ``open_doors`` raises, and Unavailable when the host cannot join.
        """
        self.system.registry.on_change(self._membership.heard_of)
        try:
            await self.open_doors()
            await self._join()
            nursery = self.system.nursery
            nursery.start_soon(self.system.run)
            nursery.start_soon(self._membership.run)
            nursery.start_soon(self.generations.run)
            nursery.start_soon(self.system.registry.listen)
            nursery.start_soon(self._rejoin_when_fenced)
            await self.generations.wait_claims()
            yield
        finally:
            with trio.CancelScope(shield=True):
                if self.system.serving:
                    await self.drain()
                await self._aclose()

    async def _aclose(self) -> None:
        await self.close_doors()
        self._membership.stop()
        await self.system.registry.aclose()

    async def _join(self) -> None:
        """Join as a new incarnation."""
        system = self.system
        me = self.new_record()
        system.me = Peer(me.host_id, me.incarnation, me.address)
        self.become(system.me, "this host has a new incarnation")
        try:
            await self._membership.join(me, self.make_keeper)
        except RegistryError as exc:
            self._membership.stop()
            raise Unavailable(f"this host cannot join the cluster: {exc}") from exc
        system.serving = True

    # A lost lease -------------------------------------------------------------------------

    async def _rejoin_when_fenced(self) -> None:
        """After the lease is lost: wait until nothing runs any more, then start anew."""
        while True:
            why = await self.system.wait_fenced()
            self._membership.stop()
            self.become(self.system.me, f"this host lost its lease: {why}")
            await self.system.wait_empty()
            with trio.CancelScope() as self._rejoining:
                await self._rejoin(self.system.me.incarnation)

    async def _rejoin(self, old: str) -> None:
        while not self.system.serving and self._drained is None:
            # Nothing of it runs any more: others need not wait for the proof of its death.
            await self._leave(old)
            try:
                await self._join()
                log.warning("rejoined as incarnation %s", self.system.me.incarnation)
            except Unavailable as exc:
                log.warning("%s", exc)
                await trio.sleep(REJOIN_S)

    # Stop ---------------------------------------------------------------------------------

    async def drain(self, timeout_s: float | None = None) -> int:
        """See HostSystem.drain."""
        if self._drained is not None:
            await self._drained.wait()
            return self._cut_short
        self._drained = trio.Event()
        self.system.is_draining = True
        self._rejoining.cancel()
        try:
            with trio.CancelScope(shield=True):
                await self._drain(self._drain_timeout_s if timeout_s is None else timeout_s)
        finally:
            self._drained.set()
            self.closed.set()
        return self._cut_short

    async def _drain(self, timeout_s: float) -> None:
        system, me = self.system, self.system.me.incarnation
        log.info("draining: %d actors", len(system.activations))
        until = trio.current_time() + timeout_s
        if system.serving:
            try:
                system.set_view(await system.registry.set_member(me, state=MemberState.DRAINING))
            except RegistryError as exc:
                log.warning("the cluster does not know that this host drains: %s", exc)
        self._cut_short = await system.stop_all(Reason.DRAIN, timeout_s)
        await system.router.wait_accepted(max(GRACE_MIN_S, until - trio.current_time()))
        grace_s = max(GRACE_MIN_S, until - trio.current_time())
        await system.router.take_leave(min(grace_s, LEAVE_S))
        await self.say_goodbye(grace_s)
        system.is_leaving = True
        await system.router.wait_accepted(LEAVE_S)  # what this program has told until now
        system.serving = False
        # What could not leave in time never will, and nobody keeps its deadline from here on.
        system.router.outgoing.fail_everything(Unavailable("this host has left the cluster"))
        self._membership.stop()
        if system.activations:  # no deadline permits two owners: others wait for the lease's end
            log.warning("%d actors do not end: leaving without a word", len(system.activations))
        else:
            await self._leave(system.me.incarnation)
            log.info("left the cluster")

    async def _leave(self, me: str) -> None:
        """Tell the cluster that ``me`` runs nothing any more; if it cannot be told, the lease
        tells it later."""
        try:
            with trio.move_on_after(LEAVE_S):
                await self.system.registry.leave(me)
        except RegistryError as exc:
            log.warning("incarnation %s leaves without a word: %s", me, exc)
