"""Our clients against a real server on loopback: results, errors, deadlines, streams, failover."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

import wire
from tests.fake_gateway import Served, run_bounded, served, serving, until
from wire.errors import (
    ActorError,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    MailboxFull,
    NotDelivered,
    OutcomeUnknown,
    Unavailable,
    UnknownKind,
)
from wire.server import Server, ServerConfig


@served()
async def test_both_clients_ask_by_position_and_by_name_and_tell(it: Served) -> None:
    async def in_asyncio() -> None:
        async with wire.connect(it.address) as client:
            assert await client.ask("Counter", "a", "add", n=1) == 1
            assert await client.ask("Counter", "a", "add", 2) == 3
            await client.tell("Counter", "a", "add", 4)
            named = {"kind": 1, "key": "k", "method": "m", "timeout_s": 2, "self": 3}
            assert await client.ask("Counter", "a", "echo", **named) == named

    await it.aio(in_asyncio)
    async with wire.trio_connect(it.address) as client:
        assert await client.ask("Counter", "a", "add", n=8) == 15
        await client.tell("Counter", "a", "add", 4)
        assert await client.ask("Counter", "a", "add", n=0) == 19


@served()
async def test_operators_calls_give_records(it: Served) -> None:
    async def in_asyncio() -> None:
        async with wire.connect(it.address) as client:
            await check(client)

    async def check(client: Any) -> None:
        where = await client.locate("Counter", "a")
        assert (str(where.actor), where.host_id, where.epoch) == ("Counter/a", "host-1", 2**60)
        assert (await client.describe("Counter", "a")).mailbox == 3
        spawned = await client.spawn("Counter", "a", {"start": 5}, durable=True)
        assert spawned.status == "durable=True arguments={'start': 5}"
        assert (await client.spawn("Counter", "a", [5])).status == "durable=False arguments=[5]"
        await client.tell("Counter", "gone", "add", 1)
        assert await client.stop("Counter", "gone")
        assert not await client.stop("Counter", "gone")
        (host,) = await client.hosts()
        assert (host.host_id, host.weight, host.actors, host.view_version) == ("host-1", 1.0, 7, 42)
        assert await client.drain("host-1")
        assert not await client.drain("host-2")
        names, cursor = [], ""
        while True:
            page, cursor = await client.list("Writer", limit=60, cursor=cursor)
            assert len(page) <= 60
            names += [str(actor.actor) for actor in page]
            if not cursor:
                break
        assert names == [f"Writer/{n:03}" for n in range(250)]

    await it.aio(in_asyncio)
    async with wire.trio_connect(it.address) as client:
        await check(client)


@served()
async def test_a_closed_client_says_that_it_is_closed(it: Served) -> None:
    async def in_asyncio() -> None:
        async with wire.connect(it.address) as client:
            await client.ask("Counter", "a", "add", n=1)
        with pytest.raises(InvalidArgument, match="closed"):
            await client.ask("Counter", "a", "add", n=1)

    await it.aio(in_asyncio)
    async with wire.trio_connect(it.address) as client:
        await client.ask("Counter", "a", "add", n=1)
    with pytest.raises(InvalidArgument, match="closed"):
        await client.ask("Counter", "a", "add", n=1)
    with pytest.raises(InvalidArgument, match="closed"):
        client.stream("Counter", "a", "count", 1)


def test_a_plain_trio_run_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with wire.trio_connect("127.0.0.1:1"):
            pass

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "trio_asyncio", None)
        with pytest.raises(ConfigError, match=r"roost\[trio-embedding\]"):
            trio.run(main)


@served()
async def test_the_same_error_class_arrives_with_message_and_details(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        with pytest.raises(UnknownKind, match="kind 'Counter' has no handler 'nope'"):
            await client.ask("Counter", "a", "nope")
        with pytest.raises(InvalidArgument, match="argument 'n'"):
            await client.ask("Counter", "a", "add", n="x")
        with pytest.raises(MailboxFull, match="mailbox of Counter/a is full"):
            await client.ask("Counter", "a", "busy")
        with pytest.raises(ActorError) as caught:
            await client.ask("Counter", "a", "explode")
        assert caught.value.type_name == "ValueError"
        assert caught.value.remote_traceback.endswith("frame\n")
        assert caught.value.message.startswith("a\nlöng böom")
        with pytest.raises(ActorError):
            async for _ in client.stream("Counter", "a", "explode"):
                pass


@served()
async def test_an_illegal_name_is_refused_before_it_is_sent(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        for kind, key in (("", "a"), ("1x", "a"), ("A", ""), ("A", "x" * 513), ("A", "a\nb")):
            with pytest.raises(InvalidArgument):
                await client.ask(kind, key, "echo")
        with pytest.raises(InvalidArgument, match="method must have"):
            await client.ask("A", "a", "")
        with pytest.raises(InvalidArgument, match="method or headers cannot travel"):
            await client.ask("A", "a", "\ud800")
    assert it.gateway.calls == []


@served()
async def test_a_deadline_ends_the_call_on_both_sides(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        with pytest.raises(DeadlineExceeded):
            await client.with_options(timeout_s=0.1).ask("Counter", "a", "hang")
        await until(lambda: len(it.gateway.cancelled) == 1)
        with pytest.raises(DeadlineExceeded):
            await client.with_options(timeout_s=0.1).locate("Counter", "hang")
        await until(it.gateway.stop_waits.is_set)


@served()
async def test_the_host_learns_the_time_that_is_left_and_gives_up_a_little_earlier(
    it: Served,
) -> None:
    async with wire.trio_connect(it.address, timeout_s=8) as client:
        assert 7.5 < await client.ask("Counter", "a", "timeout") < 8
        assert 1.5 < await client.with_options(timeout_s=2).ask("Counter", "a", "timeout") < 2


@served()
async def test_cancelling_a_call_cancels_it_on_the_host(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask, "Counter", "a", "hang")
            await until(lambda: it.gateway.calls)
            nursery.cancel_scope.cancel()
        await until(lambda: it.gateway.cancelled == it.gateway.calls)

    async def in_asyncio() -> None:
        async with wire.connect(it.address) as client:
            task = asyncio.ensure_future(client.ask("Counter", "a", "hang"))
            while len(it.gateway.calls) < 2:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    await it.aio(in_asyncio)
    await until(lambda: it.gateway.cancelled == it.gateway.calls)


@served()
async def test_a_lost_client_is_a_cancelled_call(it: Served) -> None:
    async def in_asyncio() -> None:
        client = wire.connect(it.address)
        task = asyncio.ensure_future(client.ask("Counter", "a", "hang"))
        while not it.gateway.calls:
            await asyncio.sleep(0.001)
        await client.aclose()
        with pytest.raises(OutcomeUnknown):
            await task

    await it.aio(in_asyncio)
    await until(lambda: it.gateway.cancelled)


@served()
async def test_a_client_is_one_session_and_headers_reach_the_handler(it: Served) -> None:
    async with wire.trio_connect(it.address) as client, wire.trio_connect(it.address) as other:
        traced = client.with_options(headers={"trace": "abc"})
        session, headers = await client.ask("Counter", "a", "session")
        assert headers is None
        assert await traced.ask("Counter", "a", "session") == [session, {"trace": "abc"}]
        assert (await other.ask("Counter", "a", "session"))[0] != session


@served()
async def test_streams_arrive_in_order_and_whole(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        got = [n async for n, _ in client.stream("Writer", "w", "count_up", 500, 10)]
        assert got == list(range(500))
        assert [n async for n in client.stream("Writer", "w", "count_up", 0, 10)] == []
    assert it.gateway.cancelled == []


@pytest.mark.parametrize("way", ["async with", "aclose", "garbage collected"])
def test_leaving_a_stream_early_cancels_it_on_the_host(way: str) -> None:
    async def main() -> None:
        async with serving() as it:
            async with wire.trio_connect(it.address) as client:
                await leave(client.stream("Writer", "w", "count_up", 10**6, 10), way)
                await until(lambda: it.gateway.cancelled == it.gateway.calls)

                async def in_asyncio() -> None:
                    async with wire.connect(it.address) as aio_client:
                        await leave(aio_client.stream("Writer", "w", "count_up", 10**6, 10), way)
                        while it.gateway.cancelled != it.gateway.calls:
                            await asyncio.sleep(0.001)

                await it.aio(in_asyncio)
            assert len(it.gateway.calls) == 2

    run_bounded(main)


async def leave(stream: Any, way: str) -> None:
    if way == "async with":
        async with stream:
            await stream.__anext__()
    else:
        async for _ in stream:
            break
    if way == "aclose":
        await stream.aclose()
    del stream
    gc.collect()


@served()
async def test_a_cancelled_scope_ends_a_stream_that_waits(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        with trio.move_on_after(0.05):
            async for _ in client.stream("Writer", "w", "hang"):
                pass
        await until(lambda: it.gateway.cancelled == it.gateway.calls)


@served()
async def test_a_slow_stream_client_holds_the_producer_and_memory_stays_flat(it: Served) -> None:
    """190 MB in all; the windows of HTTP/2 and the grants hold some 5 MB of it."""
    count, size = 3000, 64 << 10
    async with wire.trio_connect(it.address) as client:
        stream = client.stream("Writer", "w", "count_up", count, size)
        assert (await stream.__anext__())[0] == 0
        await until_still(lambda: it.gateway.produced)
        assert it.gateway.produced * size < 16 << 20
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        expected = 1
        async for n, text in stream:
            assert (n, len(text)) == (expected, size)
            expected += 1
        assert expected == count
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 << 10


async def until_still(value: Callable[[], int]) -> None:
    """Wait until ``value`` has not changed for a while."""
    last, since = value(), trio.current_time()
    with trio.fail_after(20):
        while trio.current_time() < since + 0.3:
            await trio.sleep(0.02)
            if value() != last:
                last, since = value(), trio.current_time()


@served()
async def test_payloads_up_to_the_limit_pass_and_larger_ones_are_refused(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        data = bytes(16 << 20)
        fits = data[: (16 << 20) - 6]  # the array and the bytes have 6 bytes of head
        assert await client.ask("Counter", "a", "echo", fits) == [fits]
        with pytest.raises(InvalidArgument, match="over the limit of 16777216 bytes"):
            await client.ask("Counter", "a", "echo", data)


@served(payload_bytes_max=1000)
async def test_the_host_refuses_what_a_generous_client_sends(it: Served) -> None:
    async with wire.trio_connect(it.address) as client:
        with pytest.raises(InvalidArgument, match="1503 bytes is over the limit of 1000 bytes"):
            await client.ask("Counter", "a", "echo", bytes(1499))
        with pytest.raises(InvalidArgument, match="exceeds the limit"):
            await client.ask("Counter", "a", "echo", bytes(8 << 20))
        assert await client.ask("Counter", "a", "echo", 1) == [1]
    assert len(it.gateway.calls) == 1


@served()
async def test_the_next_address_is_used_when_one_is_dead_or_drains(it: Served) -> None:
    async with serving() as other:
        dead = socket.socket()
        dead.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        addresses = [f"127.0.0.1:{dead.getsockname()[1]}", it.address, other.address]
        async with wire.trio_connect(addresses) as client:
            assert await client.ask("Counter", "a", "add", 1) == 1
            it.server.refuse("it drains")
            assert await client.ask("Counter", "a", "add", 2) == 2
            assert [n async for n, _ in client.stream("W", "w", "count_up", 3, 1)] == [0, 1, 2]
        assert (len(it.gateway.calls), len(other.gateway.calls)) == (1, 2)
        dead.close()


@served()
async def test_undelivered_calls_fail_at_their_deadline_saying_why(it: Served) -> None:
    it.server.refuse("it drains")
    async with wire.trio_connect(it.address, timeout_s=0.2) as client:
        with pytest.raises(Unavailable, match="it drains"):
            await client.ask("Counter", "a", "add", 1)
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    async with wire.trio_connect(f"127.0.0.1:{dead.getsockname()[1]}", timeout_s=0.2) as client:
        with pytest.raises(NotDelivered, match=r"no connection to 127\.0\.0\.1"):
            await client.ask("Counter", "a", "add", 1)
    dead.close()
    assert it.gateway.calls == []


def test_a_call_waits_for_a_server_that_is_being_restarted() -> None:
    async def main() -> None:
        async with serving() as it:
            port = it.server.port
            async with wire.trio_connect(it.address) as client:
                assert await client.ask("Counter", "a", "add", 1) == 1
                await it.aio(it.server.aclose)
                answers: list[int] = []

                async def ask() -> None:
                    answers.append(await client.ask("Counter", "a", "add", 5))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    async with serving(port=port):
                        await until(lambda: answers)
                assert answers == [5]

    run_bounded(main)


@served()
async def test_a_server_that_dies_under_a_call_leaves_its_outcome_unknown(it: Served) -> None:
    async with wire.trio_connect(it.address) as client, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(OutcomeUnknown):
                await client.ask("Counter", "a", "hang")

        nursery.start_soon(ask)
        await until(lambda: it.gateway.calls)
        await it.aio(it.server.aclose)
        assert it.gateway.cancelled == it.gateway.calls


@served()
async def test_a_graceful_stop_lets_running_calls_end_and_takes_no_new_ones(it: Served) -> None:
    async with wire.trio_connect(it.address, timeout_s=0.2) as client:
        slow = client.with_options(timeout_s=10)
        results: list[Any] = []

        async def ask() -> None:
            results.append(await slow.ask("Counter", "a", "hang"))

        async def stop() -> None:
            results.append(await it.aio(it.server.aclose, 10.0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: it.gateway.calls)
            nursery.start_soon(stop)
            with pytest.raises(Unavailable, match="this host is stopping"):
                await client.ask("Counter", "a", "add", 1)
            it.gateway.calls[0].finished(0, b"\x05")
        assert sorted(results) == [True, 5]


@served()
async def test_a_taken_port_is_a_clear_error(it: Served) -> None:
    config = ServerConfig(host="127.0.0.1", port=it.server.port)
    second = Server(it.gateway, it.crossing, config)
    with pytest.raises(ConfigError, match=f"port {it.server.port} on 127.0.0.1 is taken"):
        await it.aio(second.start)
    third = Server(
        it.gateway, it.crossing,
        ServerConfig(host="127.0.0.1", port=0, health_port=it.server.port),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="is taken"):
        await it.aio(third.start)
    async with wire.trio_connect(it.address) as client:
        assert await client.ask("Counter", "a", "add", 1) == 1


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_ours_is_a_clear_error(host: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match=f"cannot listen at port 0 on {host}"):
            async with serving(host=host):
                pass

    run_bounded(main)


def test_many_calls_side_by_side_on_one_connection_all_get_their_own_answer() -> None:
    """More than the 100 streams that HTTP/2 has open at once."""

    async def main() -> None:
        async with serving() as it, wire.trio_connect(it.address) as client:

            async def one(n: int) -> None:
                assert await client.ask("Counter", str(n), "echo", n) == [n]

            async with trio.open_nursery() as nursery:
                for n in range(400):
                    nursery.start_soon(one, n)

    run_bounded(main)


def test_both_clients_work_without_our_loops() -> None:
    """asyncio.run and plain trio.run, each in a process of its own."""
    programs = {
        "asyncio": """
            import asyncio, sys, wire
            async def main():
                async with wire.connect(sys.argv[1]) as client:
                    print(await client.ask("Counter", "a", "add", n=1))
            asyncio.run(main())
        """,
        "trio": """
            import sys, trio, wire
            async def main():
                async with wire.trio_connect(sys.argv[1]) as client:
                    print(await client.ask("Counter", "a", "add", n=2))
                    async for n, _ in client.stream("W", "w", "count_up", 1000, 1):
                        if n == 5:
                            break
            trio.run(main)
        """,
    }

    outputs: list[bytes] = []

    async def main() -> None:
        async with serving() as it:
            for program in programs.values():
                done = await trio.run_process(
                    [sys.executable, "-c", textwrap.dedent(program), it.address],
                    capture_stdout=True, stderr=subprocess.STDOUT, check=False,
                )  # fmt: skip
                outputs.append(done.stdout)
        assert outputs == [b"1\n", b"3\n"]

    run_bounded(main)
