"""Bounded load on real hosts: none above MAX_ACTORS, and NoCapacity only when all are full."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

import actors
import wire
from tests.integration.cluster import open_cluster
from tests.integration.moves_app import Note

APP = "tests.integration.moves_app"
HOSTS, CAPACITY = 3, 30


def test_no_host_takes_more_than_its_bound_and_calls_fail_only_when_all_are_full() -> None:
    async def scenario(system: actors.HostSystem) -> None:
        async with trio.open_nursery() as nursery:
            for n in range(HOSTS * CAPACITY * 4 // 5):
                nursery.start_soon(system.ref(Note, f"k{n}").write, b"x")
        load = await _load(system)
        mean = sum(load.values()) / HOSTS
        assert max(load.values()) / mean <= CAPACITY / mean == 1.25
        for n in range(HOSTS * CAPACITY * 4 // 5, HOSTS * CAPACITY):
            await system.ref(Note, f"k{n}").write(b"x")
        full = {f"host-{n}": CAPACITY for n in range(1, HOSTS + 1)}
        assert await _load(system) == full
        with pytest.raises(actors.NoCapacity, match="every host"):
            await system.ref(Note, "one-more").write(b"x")
        addresses = [host.address for host in cluster.hosts.values()]
        async with wire.trio_connect(addresses, timeout_s=10) as client:
            with pytest.raises(actors.NoCapacity):
                await client.ask("Note", "one-more", "read")
            assert await client.ask("Note", "k0", "read") == 1
        await system.stop(system.ref(Note, "k0"))
        await system.ref(Note, "one-more").write(b"x")
        assert await _load(system) == full

    async def _load(system: actors.HostSystem) -> Counter[str]:
        page, _ = await system.registry.list_actors("Note/", 1_000, "")
        return Counter(system.name_of(where.incarnation) for _, where in page)

    with open_cluster(hosts=HOSTS, ROOST_APP=APP, MAX_ACTORS=f"{CAPACITY}") as cluster:
        cluster.play(scenario)
