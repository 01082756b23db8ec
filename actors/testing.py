"""Test your actors in memory and in virtual time: a whole cluster inside one Trio run.

Import it by its name, ``import actors.testing``; ``import actors`` does not. Everything runs on
Trio's clock, so under a ``MockClock`` that jumps, seconds of lease or backoff cost nothing. With
pytest-trio ask for its fixture, in the test itself (in a fixture alone it does nothing)::

    async def test_counters_outlive_their_host(autojump_clock):  # they have persist="turn"
        async with actors.testing.open_cluster([Counter], hosts=3) as cluster:
            ref = cluster.hosts[0].ref(Counter, "a")
            await ref.add(1)
            await cluster.kill(cluster.host_of(ref))
            await cluster.wait_settled()
            assert await cluster.hosts[0].ref(Counter, "a").add(1) == 2

and without it run ``trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))``. A test
of actors on one host needs no cluster: ``actors.open_system()`` works in virtual time too.

Only threads take real time: a clock that jumps does not wait for ``run_blocking``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from random import Random

import trio

from actors.actor import Actor
from actors.config import SystemConfig
from actors.hosting import HostSystem
from actors.interceptors import Interceptor
from actors.memory_host import ClusterConfig, MemoryHost, RegistryLine, run_host
from actors.ref import id_of
from actors.service_nursery import open_service_nursery
from placement.memory import MemoryStore
from wire.links_memory import MemoryNetwork
from wire.ports import Gateway

__all__ = ["Cluster", "ClusterConfig", "gateway_of", "open_cluster"]

POLL_S = 0.01

#: What the store takes for the time of day (seconds since 1970) when Trio's clock begins.
EPOCH_S = 1_700_000_000.0


class Cluster:
    """Hosts in memory, and what goes wrong with them. Made by :func:`open_cluster`.

    ``hosts`` are those that live, in the order of their start; each is an actors.HostSystem.
    ``network`` delays, cuts, partitions and repeats what the hosts send each other (by their
    ``address``); ``store`` holds what Redis would: locations, saved states, the view.
    """

    def __init__(
        self, kinds: Iterable[type[Actor]], config: ClusterConfig, seed: int,
        interceptors: Sequence[Interceptor], nursery: trio.Nursery,
    ) -> None:  # fmt: skip
        self.config = config
        self.store = MemoryStore(lambda: EPOCH_S + trio.current_time())
        # Nobody outside this cluster can run its actors: the first claims need not wait.
        self.store.settled = self.store.generation
        self.network = MemoryNetwork(Random(seed), delay_s=config.delay_s)
        self._kinds = tuple(kinds)
        self._interceptors = interceptors
        self._nursery = nursery
        self._lives: list[_Life] = []
        self._incarnations: dict[str, Iterator[int]] = defaultdict(lambda: count(1))
        self._names = (f"host-{number}" for number in count(1))

    @property
    def hosts(self) -> list[HostSystem]:
        return [life.host.system for life in self._lives if life.host is not None]

    def host(self, host_id: str) -> HostSystem:
        """The live host of that name. Raises KeyError when there is none."""
        for system in self.hosts:
            if system.host_id == host_id:
                return system
        raise KeyError(host_id)

    def host_of(self, ref: object) -> HostSystem | None:
        """The live host that has the actor, as the registry knows it."""
        location = self.store.locations.get(str(id_of(ref)))
        for system in self.hosts:
            if location is not None and location.incarnation == system.me.incarnation:
                return system
        return None

    async def add_host(
        self, host_id: str = "", *, config: SystemConfig | None = None
    ) -> HostSystem:
        """Start one more host; it has joined when this returns. ``config`` is for it alone."""
        name = host_id or next(self._names)
        if any(life.host_id == name for life in self._lives):
            raise ValueError(f"host {name!r} runs already")
        life = _Life(name)
        self._lives.append(life)
        life.host = await self._nursery.start(self._run, life, config)
        return life.host.system

    async def _run(
        self, life: _Life, config: SystemConfig | None, task_status: trio.TaskStatus[MemoryHost]
    ) -> None:
        """The task of one host, from its start to its end."""
        shared = self.config if config is None else replace(self.config, system=config)
        line = RegistryLine(self.store, self.network.rng, shared.registry_delay_s)

        def make(nursery: trio.Nursery) -> MemoryHost:
            return MemoryHost(
                life.host_id, self._incarnations[life.host_id], self.network, line, nursery,
                self._kinds, shared, self._interceptors,
            )  # fmt: skip

        try:
            with life.scope:
                await run_host(make, task_status)
        finally:
            self._lives.remove(life)
            life.ended.set()

    def _life_of(self, host: HostSystem) -> _Life | None:
        memory_host = _memory_host(host)
        return next((life for life in self._lives if life.host is memory_host), None)

    async def kill(self, host: HostSystem) -> None:
        """End a host at once, as SIGKILL does: nothing is saved, released or told. Calls that it
        has under way fail in this program, and nobody else hears of it."""
        life = self._life_of(host)
        if life is not None:
            _memory_host(host).kill()
            life.scope.cancel()
            await life.ended.wait()

    async def drain(self, host: HostSystem, timeout_s: float | None = None) -> int:
        """Let a host leave in good order; see HostSystem.drain."""
        life = self._life_of(host)
        cut_short = await host.drain(timeout_s)
        if life is not None:
            await life.ended.wait()
        return cut_short

    def isolate(self, host: HostSystem) -> None:
        """Cut a host off from the registry and from all hosts, until :meth:`heal`. It lives on,
        and serves until its lease ends."""
        _memory_host(host).line.is_cut = True
        for other in self.hosts:
            if other is not host:
                self.network.partition(host.address, other.address)
                self.network.partition(other.address, host.address)

    def heal(self) -> None:
        """End every isolation and partition."""
        for host in self.hosts:
            _memory_host(host).line.is_cut = False
        self.network.heal()

    async def wait_settled(self) -> None:
        """Wait until all hosts that live, and no others, are in the view that each of them holds:
        after ``kill`` this takes a lease and its margin."""
        while not self._is_settled():
            await trio.sleep(POLL_S)

    def _is_settled(self) -> bool:
        view = self.store.view()
        live = {system.me.incarnation for system in self.hosts}
        return {member.incarnation for member in view.members} == live and all(
            system.is_serving() and system.view == view for system in self.hosts
        )

    async def aclose(self) -> None:
        """Drain all hosts at once."""
        async with trio.open_nursery() as nursery:
            for system in self.hosts:
                nursery.start_soon(self.drain, system)

    async def kill_all(self) -> None:
        for system in self.hosts:
            await self.kill(system)


class _Life:
    """One host that was started; ``host`` is there once it has joined."""

    def __init__(self, host_id: str) -> None:
        self.host_id = host_id
        self.host: MemoryHost | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


@asynccontextmanager
async def open_cluster(
    kinds: Iterable[type[Actor]] = (),
    *,
    hosts: int = 3,
    seed: int = 0,
    config: ClusterConfig | None = None,
    interceptors: Sequence[Interceptor] = (),
) -> AsyncIterator[Cluster]:
    """A cluster of ``hosts`` hosts that all run ``kinds``, for the length of the block.

    ``seed`` decides what the network's chances and delays come to. At the end of the block the
    hosts drain; when it raises, they are killed.
    """
    async with open_service_nursery() as nursery:
        cluster = Cluster(kinds, config or ClusterConfig(), seed, interceptors, nursery)
        nursery.start_soon(cluster.network.run)
        try:
            for _ in range(hosts):
                await cluster.add_host()
            await cluster.wait_settled()
            yield cluster
        except BaseException:
            with trio.CancelScope(shield=True):
                await cluster.kill_all()
            raise
        await cluster.aclose()


def gateway_of(host: HostSystem) -> Gateway:
    """What the gRPC services of this host would call; see wire.ports.Gateway."""
    return _memory_host(host).gateway


def _memory_host(host: HostSystem) -> MemoryHost:
    hosting = getattr(host, "hosting", None)
    if not isinstance(hosting, MemoryHost):
        raise TypeError(f"{host!r} is no host of a cluster in memory")
    return hosting
