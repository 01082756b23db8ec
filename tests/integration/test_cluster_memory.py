"""What must not grow: hosts between which a long stream flows, and a host whose actors come and
go."""

from __future__ import annotations

from collections.abc import Iterator

import trio

import actors
from tests.integration.cluster import Cluster, count, keys_at, until
from tests.integration.cluster_app import Brief, Probe, Sink, Source

MIB = 1 << 20
STREAM_ITEMS = count(200_000, 1_000_000)
ITEM_BYTES = 100
#: A pause after each 256 items: the consumer takes 64,000 a second at most.
PAUSE_S = 0.004
ROUND_ACTORS = count(6_000, 100_000)
ASKERS = 64
ALIVE_MAX = 2_000


def test_a_fast_producer_and_a_slow_consumer_on_two_hosts_keep_memory_flat(
    two_hosts: Cluster,
) -> None:
    """The stream carries 20 MB (100 MB in a full run); what is buffered must be far less."""
    hosts = two_hosts.hosts.values()

    async def scenario(system: actors.HostSystem) -> None:
        source = system.ref(Source, keys_at(system, Source, "host-1", 1)[0])
        sink = system.ref(Sink, keys_at(system, Sink, "host-2", 1)[0])
        taken: list[int] = []

        async def take() -> None:
            limited = sink.take.with_options(timeout_s=600)
            taken.append(await limited(source, STREAM_ITEMS, ITEM_BYTES, PAUSE_S))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)

            async def has_flowed() -> bool:
                return await sink.taken() > STREAM_ITEMS // 10

            await until("a tenth of the stream", has_flowed, 60)
            before = {host.name: host.rss_bytes() for host in hosts}
            most = dict(before)
            while not taken:
                for host in hosts:
                    most[host.name] = max(most[host.name], host.rss_bytes())
                await trio.sleep(0.05)
        assert taken == [STREAM_ITEMS]
        growth = {name: (most[name] - before[name]) / MIB for name in before}
        print(f"{STREAM_ITEMS} items; growth in MiB after the first tenth: {growth}")
        assert all(grown_mib < 6 for grown_mib in growth.values()), growth

    two_hosts.play(scenario, within_s=600)


def test_activations_and_passivations_leave_no_memory_behind(two_hosts: Cluster) -> None:
    """Each actor is activated by a message and passivated when idle, its state saved; three
    times. So many at most are alive at once that each round needs as much at its height."""
    host = two_hosts.hosts["host-1"]

    async def scenario(system: actors.HostSystem) -> None:
        probe = system.ref(Probe, keys_at(system, Probe, "host-1", 1)[0])
        names = keys_at(system, Brief, "host-1", ROUND_ACTORS)

        async def ask_in_turn(keys: Iterator[str], total: int) -> None:
            for key in keys:
                assert await system.ref(Brief, key).add(1) == total

        async def none_is_left() -> bool:
            return await probe.activations("Brief") == 0

        async def one_round(total: int) -> float:
            for start in range(0, ROUND_ACTORS, ALIVE_MAX):
                keys = iter(names[start : start + ALIVE_MAX])
                async with trio.open_nursery() as nursery:
                    for _ in range(ASKERS):
                        nursery.start_soon(ask_in_turn, keys, total)
                await until("all are passivated", none_is_left)
            return host.rss_bytes() / MIB

        began_s = trio.current_time()
        rss = [await one_round(total) for total in (1, 2, 3)]
        took_s = trio.current_time() - began_s
        assert await probe.activations_total() >= 3 * ROUND_ACTORS
        shown = ", ".join(f"{one:.1f}" for one in rss)
        print(f"3 times {ROUND_ACTORS} activations, {took_s:.0f} s; resident MiB: {shown}")
        assert rss[2] <= 1.1 * rss[0], shown

    two_hosts.play(scenario, within_s=900)
