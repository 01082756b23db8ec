"""What must not grow: hosts between which a long stream flows, and a host whose actors come and
go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

import actors
from tests.integration.cluster import Cluster, count, keys_at, open_cluster, until
from tests.integration.cluster_app import Brief, Probe, Sink, Source

MIB = 1 << 20
STREAM_ITEMS = count(200_000, 1_000_000)
ITEM_BYTES = 100
#: A pause after each 256 items: the consumer takes 64,000 a second at most.
PAUSE_S = 0.004
ROUND_ACTORS = count(7_000, 100_000)
ASKERS = 64
ALIVE_MAX = 1_000


@pytest.fixture(scope="module")
def fresh() -> Iterator[Cluster]:
    """Two hosts that nobody has used before: memory once freed would hide what is lost later."""
    with open_cluster(hosts=2) as cluster:
        yield cluster


def test_a_fast_producer_and_a_slow_consumer_on_two_hosts_keep_memory_flat(
    fresh: Cluster,
) -> None:
    """The stream carries 20 MB (100 MB in a full run); what is buffered must be far less."""
    hosts = fresh.hosts.values()

    async def scenario(system: actors.HostSystem) -> None:
        source = system.ref(Source, keys_at(system, Source, "host-1", 1)[0])
        sink = system.ref(Sink, keys_at(system, Sink, "host-2", 1)[0])
        take = sink.take.with_options(timeout_s=600)
        most: dict[str, int] = {}

        async def watch() -> None:
            while True:
                for host in hosts:
                    most[host.name] = max(most.get(host.name, 0), host.rss_bytes())
                await trio.sleep(0.02)

        await take(source, STREAM_ITEMS // 20, ITEM_BYTES, PAUSE_S)  # all that it needs at all
        before = {host.name: host.rss_bytes() for host in hosts}
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            assert await take(source, STREAM_ITEMS, ITEM_BYTES, PAUSE_S) == STREAM_ITEMS
            nursery.cancel_scope.cancel()
        took_s = trio.current_time() - began_s
        growth = {name: (most[name] - before[name]) / MIB for name in before}
        print(f"{STREAM_ITEMS} items in {took_s:.1f} s; growth in MiB: {growth}")
        assert all(grown_mib < 6 for grown_mib in growth.values()), growth

    fresh.play(scenario, within_s=600)


def test_activations_and_passivations_leave_no_memory_behind(fresh: Cluster) -> None:
    """Each actor is activated by a message, and passivated, its state saved; three times. The
    same number is alive at the height of each round, so that each needs as much as the others."""
    host = fresh.hosts["host-1"]

    async def scenario(system: actors.HostSystem) -> None:
        probe = system.ref(Probe, keys_at(system, Probe, "host-1", 1)[0])
        names = keys_at(system, Brief, "host-1", ROUND_ACTORS)

        async def none_is_left() -> bool:
            return await probe.activations("Brief") == 0

        async def activate_and_passivate(keys: list[str], total: int) -> None:
            async def add_in_turn(some: list[str]) -> None:
                for key in some:
                    assert await system.ref(Brief, key).add(1) == total

            async with trio.open_nursery() as nursery:
                for start in range(ASKERS):
                    nursery.start_soon(add_in_turn, keys[start::ASKERS])
            assert await probe.activations("Brief") == len(keys)
            for key in keys:
                await system.ref(Brief, key).rest.tell()
            await until("all are passivated", none_is_left)

        async def one_round(total: int) -> float:
            for start in range(0, ROUND_ACTORS, ALIVE_MAX):
                await activate_and_passivate(names[start : start + ALIVE_MAX], total)
            return host.rss_bytes() / MIB

        began_s = trio.current_time()
        rss = [await one_round(total) for total in (1, 2, 3)]
        took_s = trio.current_time() - began_s
        assert await probe.activations_total() >= 3 * ROUND_ACTORS
        shown = ", ".join(f"{one:.1f}" for one in rss)
        print(f"3 times {ROUND_ACTORS} activations, {took_s:.0f} s; resident MiB: {shown}")
        assert rss[2] <= 1.1 * rss[0], shown

    fresh.play(scenario, within_s=900)
