"""Messages of one sender to one actor arrive in order and once, while the connections between the
hosts break again and again, at whatever byte that is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

import actors
import wire
from tests.contract.tcp_proxy import TcpProxy
from tests.integration.cluster import count, free_port, keys_at, open_cluster, until
from tests.integration.cluster_app import Recorder, Reporter
from wire.loops import open_crossing

NUMBERS = count(200, 2_000)
PADDING_BYTES = 200
REPORTERS = 4
#: A connection is cut after so many bytes, both ways counted together, and after so many seconds.
CUT_BYTES = (1, 600_000)
CUT_S = (0.02, 0.1)
BREAKS_LEAST = 5


@asynccontextmanager
async def breaking_proxy(port: int) -> AsyncIterator[TcpProxy]:
    """A way to that port on which no connection lasts."""
    rng = Random(port)
    proxy = TcpProxy(port, rng)
    proxy.kill_bytes = CUT_BYTES

    async def cut_again_and_again() -> None:
        while True:
            await trio.sleep(rng.uniform(*CUT_S))
            crossing.call_soon(proxy.cut)

    async with open_crossing() as crossing, trio.open_nursery() as nursery:
        await crossing.cross(proxy.start)
        nursery.start_soon(cut_again_and_again)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await crossing.cross(proxy.close)


def test_interleaved_senders_arrive_in_order_and_once_while_connections_break() -> None:
    async def scenario(system: actors.HostSystem) -> None:
        port = free_port()
        async with breaking_proxy(port) as proxy:
            cluster.add_host("broken", {"advertise": proxy.address}, GRPC_PORT=str(port))
            await until("the host behind the proxy is up", lambda: cluster.is_complete(system))
            await tell_and_ask(system)
            print(f"{proxy.connections} connections to the host were needed")
            assert proxy.connections > BREAKS_LEAST

    async def tell_and_ask(system: actors.HostSystem) -> None:
        keys = keys_at(system, Recorder, "broken", 3)
        recorders = [system.ref(Recorder, key) for key in keys]
        reporters = keys_at(system, Reporter, "host-1", REPORTERS)

        async def report(key: str) -> None:
            reporter = system.ref(Reporter, key)
            send = reporter.report.with_options(timeout_s=200)
            await send(recorders, NUMBERS, PADDING_BYTES)

        async def report_from_here() -> None:
            for number in range(NUMBERS):
                for recorder in recorders:
                    await recorder.record.tell("here", number, bytes(PADDING_BYTES))

        async def report_from_outside(client: wire.TrioClient) -> None:
            for number in range(NUMBERS):
                for key in keys:
                    await client.tell("Recorder", key, "record", "outside", number, b"")

        address = cluster.hosts["host-1"].address
        async with wire.trio_connect(address) as client, trio.open_nursery() as nursery:
            for key in reporters:
                nursery.start_soon(report, key)
            nursery.start_soon(report_from_here)
            nursery.start_soon(report_from_outside, client)

        everyone = {*reporters, "here", "outside"}
        for recorder in recorders:

            async def is_complete(recorder: Recorder = recorder) -> bool:
                heard = await recorder.heard()
                return heard.keys() == everyone and all(
                    numbers and numbers[-1] >= NUMBERS - 1 for numbers in heard.values()
                )

            await until("all that was told is heard", is_complete)
            heard = await recorder.heard()
            for sender in everyone:
                assert heard[sender] == list(range(NUMBERS)), sender

    with open_cluster(hosts=1) as cluster:
        cluster.play(scenario, within_s=240)
