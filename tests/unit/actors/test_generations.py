"""Hosts that meet a registry which has lost its memory, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import actors
from actors import Actor, handler
from actors.memory_host import MemoryHost
from actors.testing import Cluster, open_cluster
from tests.unit.actors.cluster_kit import Account


class Other(Actor):
    @handler
    def hi(self) -> str:
        return self.system.host_id


def _cut(cluster: Cluster, *, cut: bool) -> None:
    for system in cluster.hosts:
        assert isinstance(system.hosting, MemoryHost)
        system.hosting.line.is_cut = cut


async def _forgotten(cluster: Cluster) -> None:
    """The registry is away until every host has lost its lease, and comes back without its data;
    the first host finds it, the others not yet."""
    _cut(cluster, cut=True)
    await trio.sleep(20)
    assert not any(system.is_serving() for system in cluster.hosts)
    cluster.store.restart(keep_data=False)
    first = cluster.hosts[0]
    assert isinstance(first.hosting, MemoryHost)
    first.hosting.line.is_cut = False
    while not first.is_serving():
        await trio.sleep(0.1)
    assert len(first.members) == 1


async def test_a_call_waits_for_hosts_that_have_not_joined_the_new_generation_yet(
    autojump_clock: MockClock,
) -> None:
    """A kind that no host of the view knows may be known to one that is about to join."""
    async with open_cluster([Other], hosts=1) as cluster:
        cluster._kinds = (Account,)
        await cluster.add_host()
        await cluster.wait_settled()
        first = cluster.hosts[0]
        assert await first.ref(Account, "a").add(1) == 1
        await _forgotten(cluster)
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await actors.with_timeout(first.ref(Account, "b"), 60).add(5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(3)
            assert answers == []
            _cut(cluster, cut=False)
        assert answers == [5]


async def test_once_a_lease_has_passed_a_kind_that_no_host_knows_is_an_error_again(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster([Other], hosts=2) as cluster:
        await _forgotten(cluster)
        first = cluster.hosts[0]
        began_s = trio.current_time()
        with pytest.raises(actors.UnknownKind):
            await actors.with_timeout(first.ref(Account, "b"), 60).add(5)
        assert trio.current_time() - began_s < 16
        with pytest.raises(actors.UnknownKind):
            await actors.with_timeout(first.ref(Account, "b"), 60).add(5)
        assert trio.current_time() - began_s < 20
