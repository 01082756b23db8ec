"""A host inside one Trio run: links over a MemoryNetwork, a MemoryStore for Redis, a task for the
lease, Trio's clock for all. An adapter; ``testing`` is what users see of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from random import Random
from typing import TYPE_CHECKING, Any, cast

import trio

from actors.config import SystemConfig
from actors.gateway import HostGateway
from actors.hosting import Hosting, HostSystem
from actors.membership import Keeper
from actors.service_nursery import open_service_nursery
from placement.lease import Lease, LeaseTerms
from placement.memory import MemoryRegistry, MemoryStore
from placement.ports import Clock, Fenced, Registry, RegistryError, RegistryUnavailable
from placement.records import Member, Renewal
from wire.items import Goaway
from wire.link_config import LinkConfig
from wire.links_memory import MemoryLinks, MemoryNetwork
from wire.ports import Peer

if TYPE_CHECKING:
    from actors.actor import Actor
    from actors.interceptors import Interceptor

GOODBYE_S = 3.0
POLL_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What all hosts of a cluster in memory share; see actors.HostConfig for the meanings."""

    lease_ttl_s: float = 12.0
    heartbeat_interval_s: float = 20.0
    drain_timeout_s: float = 30.0
    #: Least and most that a message takes from host to host, and to the registry or back (s).
    delay_s: tuple[float, float] = (0.0, 0.0)
    registry_delay_s: tuple[float, float] = (0.0, 0.0)
    system: SystemConfig = field(default_factory=SystemConfig)


class RegistryLine:
    """One host's way to the registry (placement.ports.Registry): it takes time, and can be cut."""

    def __init__(self, store: MemoryStore, rng: Random, delay_s: tuple[float, float]) -> None:
        self.is_cut = False
        self._registry = MemoryRegistry(store)
        self._rng = rng
        self._delay_s = delay_s

    def __getattr__(self, name: str) -> Any:
        step = getattr(self._registry, name)
        if not iscoroutinefunction(step):
            return step

        async def there_and_back(*args: Any, **kwargs: Any) -> Any:
            await self._travel()
            result = await step(*args, **kwargs)
            await self._travel()  # cut only now: the step has run, and nobody hears of it
            return result

        return there_and_back

    async def _travel(self) -> None:
        await trio.sleep(self._rng.uniform(*self._delay_s))
        if self.is_cut:
            raise RegistryUnavailable("the line to the registry is cut")

    def on_change(self, callback: Callable[[int, int], None]) -> None:
        def unless_cut(generation: int, version: int) -> None:
            if not self.is_cut:
                callback(generation, version)

        self._registry.on_change(unless_cut)

    async def listen(self) -> None:
        await self._registry.listen()  # a cut loses what it tells, and does not end it

    async def aclose(self) -> None:
        await self._registry.aclose()


class TaskKeeper:
    """Keeps a lease from two Trio tasks (actors.membership.Keeper), by placement.lease's rules."""

    def __init__(
        self,
        terms: LeaseTerms,
        renew: Callable[[int], Awaitable[Renewal]],
        on_renewal: Callable[[Renewal], None],
        on_fenced: Callable[[Fenced], None],
        nursery: trio.Nursery,
        clock: Clock = trio.current_time,
    ) -> None:
        self._terms = terms
        self._lease = Lease(terms)
        self._renew = renew
        self._on_renewal = on_renewal
        self._on_fenced = on_fenced
        self._nursery = nursery
        self._clock = clock
        self._scope = trio.CancelScope()
        self._counter = 0
        self._last_tick_s = 0.0

    @property
    def deadline_s(self) -> float:
        return self._lease.deadline_s

    def is_held(self) -> bool:
        return self._lease.is_held(self._clock())

    def tick(self) -> None:
        self._last_tick_s = self._clock()

    def start(self) -> None:
        self.tick()
        self._nursery.start_soon(self._keep)

    def stop(self) -> None:
        self._scope.cancel()

    async def _keep(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._renew_for_ever)
                nursery.start_soon(self._watch_deadline)

    async def _renew_for_ever(self) -> None:
        while True:
            now_s = self._clock()
            await trio.sleep(self._lease.next_renewal_at(now_s) - now_s)
            if not await self._renew_once():
                await trio.sleep(self._terms.retry_every_s)

    async def _renew_once(self) -> bool:
        sent_at_s = self._clock()
        if not self._lease.may_renew(sent_at_s, self._last_tick_s):
            return False
        self._counter += 1  # one of its own for each attempt: a lost one may still arrive late
        try:
            renewal = await self._renew(self._counter)
        except Fenced as exc:
            self._over(exc)
            return False
        except RegistryError:
            return False
        if not self._lease.renewed(sent_at_s, self._clock()):
            return False
        self._on_renewal(renewal)
        return True

    async def _watch_deadline(self) -> None:
        while self.is_held() or not self._lease.has_begun:
            await trio.sleep(max(self._lease.remaining_s(self._clock()), POLL_S))
        self._over(Fenced("the lease ran out before a renewal succeeded"))

    def _over(self, reason: Fenced) -> None:
        self._lease.end()
        self.stop()
        self._on_fenced(reason)


class MemoryHost(Hosting):
    """One host of a :class:`actors.testing.Cluster`. Its incarnations are told apart by number."""

    def __init__(
        self,
        host_id: str,
        incarnations: Iterator[int],
        network: MemoryNetwork,
        line: RegistryLine,
        nursery: trio.Nursery,
        kinds: Sequence[type[Actor]],
        config: ClusterConfig,
        interceptors: Sequence[Interceptor],
        clock: Clock = trio.current_time,
    ) -> None:
        system = HostSystem(
            kinds, cast(Registry, line), nursery, config.system, is_local=False,
            interceptors=interceptors,
        )  # fmt: skip
        super().__init__(
            system, LeaseTerms.of(config.lease_ttl_s), clock,
            heartbeat_interval_s=config.heartbeat_interval_s,
            drain_timeout_s=config.drain_timeout_s,
        )  # fmt: skip
        self.line = line
        self.clock = clock
        self.gateway = HostGateway(system)
        self.is_killed = False
        self._me = Peer(host_id, "", f"{host_id}:50051")
        self._incarnations = incarnations
        self._network = network
        self._links: MemoryLinks | None = None

    async def open_doors(self) -> None:
        config = LinkConfig(
            payload_bytes_max=self.system.config.payload_bytes_max,
            orphan_ttl_s=max(self.terms.ttl_s * 2, 5.0),
        )
        self._links = self._network.links(self._me, self.system.router, config)
        self.system.router.links = self._links

    def new_record(self) -> Member:
        (host_id, _, address), kinds = self._me, self.system.kinds.names()
        return Member(
            host_id=host_id, incarnation=f"{host_id}#{next(self._incarnations)}", address=address,
            weight=1.0 if kinds else 0.0, capacity=self.system.config.capacity, kinds=kinds,
        )  # fmt: skip

    def become(self, me: Peer, reason: str) -> None:
        if self._links is not None:
            self._links.become(me, reason)

    def make_keeper(
        self, me: str, on_renewal: Callable[[Renewal], None], on_fenced: Callable[[Fenced], None]
    ) -> Keeper:
        async def renew(counter: int) -> Renewal:
            self.generations.renewing()
            return await self.system.registry.renew(me, counter)

        return TaskKeeper(self.terms, renew, on_renewal, on_fenced, self.system.nursery, self.clock)

    async def say_goodbye(self, grace_s: float) -> None:
        if self._links is None:
            return
        for row in self._links.statistics():
            self._links.send(row.peer, Goaway("draining"))
        with trio.move_on_after(min(grace_s, GOODBYE_S)):
            while any(row.backlog_bytes for row in self._links.statistics()):
                await trio.sleep(POLL_S)

    async def close_doors(self) -> None:
        if self._links is not None and not self.is_killed:
            self._links.close()

    def kill(self) -> None:
        """As if the process had died: nothing that it still does reaches anyone."""
        self.is_killed = True
        self.line.is_cut = True
        self._network.remove(self.system.address)
        self.system.fenced("killed")


async def run_host(
    make: Callable[[trio.Nursery], MemoryHost], task_status: trio.TaskStatus[MemoryHost]
) -> None:
    """The life of a host, as a task: until it has drained, or is cancelled."""
    async with open_service_nursery() as nursery:
        host = make(nursery)
        async with host.running():
            task_status.started(host)
            await host.closed.wait()
