"""Links over real sockets: connections cut at any byte, garbage, strangers, TLS, other gRPCs."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import grpc
import msgspec
import pytest
import uvloop
from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from tests.contract.link_worlds import CLUSTER, QUICK, GrpcWorld, Host, Recorder
from wire._generated.roost.v1 import Frame as CompiledFrame
from wire.frames import PREFIX, Frame
from wire.front import Front
from wire.handshake import read_hello, write_hello
from wire.items import (
    PROTOCOL_VERSION,
    Batch,
    Envelope,
    Goaway,
    Hello,
    Item,
    Reply,
    decode_batch,
    encode_batch,
)  # fmt: skip
from wire.link_config import LinkConfig
from wire.links_grpc import METHOD, GrpcLinks
from wire.pipe import GrpcPipe
from wire.ports import Peer
from wire.tls import TlsConfig

Scenario = Callable[[GrpcWorld], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def main() -> None:
        world = GrpcWorld()
        try:
            async with asyncio.timeout(60):
                await scenario(world)
        finally:
            await world.aclose()

    uvloop.run(main())


async def call_each_other(world: GrpcWorld, a: Host, b: Host, calls: int, rng: Random) -> None:
    """Calls both ways, of sizes from nothing to many HTTP/2 frames; each must come once."""
    for number in range(calls):
        size = rng.choice([20_000] if number % 50 == 0 else [0, 20, 300, 3000])
        a.call(b, number, bytes(size))
        b.call(a, number, bytes(size))
        if number % 10 == 0:
            await asyncio.sleep(0)
    await world.until(lambda: len(a.handler.replies) >= calls, "all answers to a")
    await world.until(lambda: len(b.handler.replies) >= calls, "all answers to b")
    for host in (a, b):
        assert host.handler.calls == host.handler.replies == list(range(calls))
        assert host.handler.lost == []


@pytest.mark.parametrize("seed", range(12))
def test_connections_cut_at_any_byte_lose_and_repeat_nothing(seed: int) -> None:
    async def scenario(world: GrpcWorld) -> None:
        rng = Random(seed)
        small = replace(
            QUICK, batch_bytes_max=8000, credit_bytes=rng.choice([100, 10_000, 1 << 20])
        )
        a = await world.host("a", answers=True, config=small)
        b = await world.host("b", answers=True, config=small)
        for proxy in world.proxies.values():
            proxy.kill_bytes = (50, rng.choice([100_000, 400_000]))
        await call_each_other(world, a, b, 600, rng)
        assert sum(proxy.connections for proxy in world.proxies.values()) > 10

    play(scenario)


def test_without_the_lane_links_go_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.pipe.open_lane", lambda stream, on_batch: None)

    async def scenario(world: GrpcWorld) -> None:
        a, b = await world.host("a", answers=True), await world.host("b", answers=True)
        for proxy in world.proxies.values():
            proxy.kill_bytes = (100, 1_000_000)
        await call_each_other(world, a, b, 300, Random(1))

    play(scenario)


def test_links_of_the_installed_grpclib_have_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    pipes: list[GrpcPipe] = []
    run = GrpcPipe.run

    async def seen(self: GrpcPipe) -> Any:
        pipes.append(self)
        return await run(self)

    monkeypatch.setattr(GrpcPipe, "run", seen)

    async def scenario(world: GrpcWorld) -> None:
        a, b = await world.host("a"), await world.host("b", answers=True)
        a.call(b, 1)
        await world.until(lambda: a.handler.replies, "the answer")
        assert [pipe._lane is not None for pipe in pipes] == [True, True]

    play(scenario)


def test_a_plain_grpclib_server_serves_links_too() -> None:
    async def scenario(world: GrpcWorld) -> None:
        a, b = await world.host("a"), await world.host("b", answers=True)
        assert isinstance(b.links, GrpcLinks)
        server = Server([b.links.service()])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            await server.start(sock=listener)
            a.call(b.me._replace(address=f"127.0.0.1:{port}"), 1, bytes(100_000))
            await world.until(lambda: a.handler.replies == [1], "the answer")
            await a.links.aclose()  # type: ignore[attr-defined]
            server.close()
            await server.wait_closed()

    play(scenario)


# -- strangers ------------------------------------------------------------------------------


class Stranger:
    """A dialer written by hand, with grpclib's public API and the plain channel."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def say(self, *items: Item, number: int = 0, received: int = 0) -> None:
        await self.stream.send_message(Frame(encode_batch(Batch(number, received, list(items)))))

    async def hear(self) -> Batch:
        frame = await self.stream.recv_message()
        assert frame is not None
        return decode_batch(frame.batch)


def hello(host: Host, **changes: Any) -> Hello:
    return Hello(
        **{
            "protocol": PROTOCOL_VERSION,
            "cluster": CLUSTER,
            "host_id": "stranger",
            "incarnation": "s-1",
            "address": "127.0.0.1:1",
            "target": host.me.incarnation,
            "session": "s-1-1",
            "received": 0,
            **changes,
        }
    )


@asynccontextmanager
async def stranger_at(host: Host) -> Any:
    name, _, port = host.me.address.partition(":")
    channel = Channel(name, int(port))
    try:
        async with channel.request(METHOD, Cardinality.STREAM_STREAM, Frame, Frame) as stream:
            yield Stranger(stream)
    finally:
        channel.close()


async def ending(talk: Awaitable[None]) -> GRPCError:
    """What the server ended the stream with while ``talk`` went on."""
    with pytest.raises(GRPCError) as caught:
        await talk
    return caught.value


async def greet(host: Host, *items: Item) -> None:
    """Send ``items`` as the first frame, and hear the answer."""
    async with stranger_at(host) as stranger:
        await stranger.say(*items)
        await stranger.hear()
        await stranger.stream.end()


async def say_nothing(host: Host) -> None:
    async with stranger_at(host) as stranger:
        await stranger.stream.send_request()
        await stranger.hear()


async def greet_and_send(host: Host, data: bytes) -> None:
    """Open a session, send ``data`` as it is, and hear the answer."""
    async with stranger_at(host) as stranger:
        await stranger.say(hello(host))
        await stranger.hear()
        await stranger.stream._stream.send_data(data)
        await stranger.hear()


async def still_serves(world: GrpcWorld, host: Host) -> None:
    other = await world.host("other")
    other.call(host, 99)
    await world.until(lambda: other.handler.replies == [99], "an answer to another host")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"protocol": 99}, Status.FAILED_PRECONDITION, ["99", str(PROTOCOL_VERSION)]),
        ({"cluster": "x"}, Status.FAILED_PRECONDITION, ["'x'", f"'{CLUSTER}'"]),
        ({"target": "b-i0"}, Status.FAILED_PRECONDITION, ["'b-i0'", "'b-i1'"]),
        ({"resume": True}, Status.FAILED_PRECONDITION, ["'s-1-1'", "unknown"]),
        ({"incarnation": "b-i1"}, Status.FAILED_PRECONDITION, ["itself"]),
        ({"session": ""}, Status.INVALID_ARGUMENT, ["session"]),
        ({"incarnation": ""}, Status.INVALID_ARGUMENT, ["incarnation"]),
        ({"received": 5}, Status.INVALID_ARGUMENT, ["5"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_hello_is_refused_with_both_values(
    changes: dict[str, Any], status: Status, words: list[str]
) -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        error = await ending(greet(b, hello(b, **changes)))
        assert error.status is status
        assert all(word in (error.message or "") for word in words), error.message
        assert b.handler.got == []
        await still_serves(world, b)

    play(scenario)


def test_a_hello_without_a_target_reaches_whoever_is_there() -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b")
        async with stranger_at(b) as stranger:
            await stranger.say(hello(b, target=""))
            answer = read_hello(encode_batch(await stranger.hear()))
            assert answer == hello(
                b, host_id="b", incarnation=b.me.incarnation, address=b.me.address, target="s-1"
            )
            await stranger.stream.end()

    play(scenario)


@pytest.mark.parametrize(
    "items", [[], [Goaway("x")], [Goaway("x"), Goaway("y")]], ids=["none", "another", "two"]
)
def test_a_first_frame_without_a_hello_is_refused(items: list[Item]) -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        assert (await ending(greet(b, *items))).status is Status.INVALID_ARGUMENT
        await still_serves(world, b)

    play(scenario)


def test_a_dialer_that_says_nothing_is_shown_out() -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", config=replace(QUICK, connect_timeout_s=0.05))
        assert (await ending(say_nothing(b))).status is Status.DEADLINE_EXCEEDED

    play(scenario)


@pytest.mark.parametrize(
    "message",
    [b"\x0a\x03\xc1\xc1\xc1", b"\x0f", b"\x0a\x7f", Frame(b"\x93\x05\x00\x90").SerializeToString()],
    ids=["batch", "field", "cut", "gap"],
)
def test_malformed_frames_end_the_session_and_nothing_else(message: bytes) -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        error = await ending(greet_and_send(b, PREFIX.pack(0, len(message)) + message))
        assert error.status is Status.INVALID_ARGUMENT
        assert [peer.incarnation for peer, _ in b.handler.lost] == ["s-1"]
        await still_serves(world, b)

    play(scenario)


def test_an_announced_frame_over_the_limit_is_refused_before_it_comes() -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True, config=replace(QUICK, payload_bytes_max=1000))
        error = await ending(greet_and_send(b, PREFIX.pack(0, 200 << 20)))
        assert error.status is Status.RESOURCE_EXHAUSTED
        assert "payload_bytes_max" in (error.message or "")
        assert str(200 << 20) in (error.message or "")
        await still_serves(world, b)

    play(scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 40,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x04\x00\x01\x00\x00\x00\x03abcd",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["http1", "noise", "data-before-headers", "tls"],
)
def test_garbage_on_the_port_leaves_the_host_serving(data: bytes) -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        name, _, port = b.me.address.partition(":")
        reader, writer = await asyncio.open_connection(name, int(port))
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            while await reader.read(65_536):
                pass
        writer.close()
        await still_serves(world, b)

    play(scenario)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"incarnation": "x-9"}, ["'x-9'", "'n-1'"]),
        ({"cluster": "x"}, ["'x'", f"'{CLUSTER}'"]),
        ({"protocol": 99}, ["99", str(PROTOCOL_VERSION)]),
        ({"session": "x"}, ["'x'"]),
        ({"received": 5}, ["5"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_dialer_sends_nothing_to_whom_it_did_not_mean(
    changes: dict[str, Any], words: list[str]
) -> None:
    heard: list[Batch] = []

    async def impostor(stream: Any) -> None:
        first = read_hello((await stream.recv_message()).batch)
        answer = msgspec.structs.replace(first, **{"incarnation": "n-1", **changes})
        await stream.send_message(Frame(write_hello(answer)))
        async for frame in stream:
            heard.append(decode_batch(frame.batch))

    class Impostor:
        def __mapping__(self) -> dict[str, Handler]:
            return {METHOD: Handler(impostor, Cardinality.STREAM_STREAM, Frame, Frame)}

    async def scenario(world: GrpcWorld) -> None:
        a = await world.host("a")
        server = Server([Impostor()])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            await server.start(sock=listener)
            a.call(Peer("n", "n-1", f"127.0.0.1:{port}"), 1)
            await world.until(lambda: a.handler.lost, "the loss")
            assert all(word in a.handler.lost[0][1] for word in words), a.handler.lost
            assert heard == []
            server.close()
            await server.wait_closed()

    play(scenario)


def test_a_second_connection_of_a_session_takes_the_place_of_the_first() -> None:
    call = Envelope(0, 0, 0, 7, "Kind", "key", "m", 1, 0, b"")

    async def talk(b: Host) -> None:
        async with stranger_at(b) as first:
            await first.say(hello(b))
            await first.hear()
            async with stranger_at(b) as second:
                await second.say(hello(b, resume=True))
                assert (await second.hear()).received == 0
                await second.say(call, number=1)
                assert (await second.hear()).items == [Reply(7, 0, 0, 0, b"")]
                await second.say(call, number=1)  # seen before
                await second.stream.end()
            await first.hear()

    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        error = await ending(talk(b))
        assert error.status is Status.UNAVAILABLE  # a dialer would connect again
        assert "another connection" in (error.message or "")
        assert b.handler.calls == [7]

    play(scenario)


def test_a_new_session_of_a_peer_ends_its_older_one() -> None:
    async def talk(b: Host) -> None:
        async with stranger_at(b) as first:
            await first.say(hello(b))
            await first.hear()
            async with stranger_at(b) as second:
                await second.say(hello(b, session="s-1-2"))
                await second.hear()
                assert len(b.handler.lost) == 1
                refused = await ending(greet(b, hello(b, resume=True)))
                assert refused.status is Status.FAILED_PRECONDITION
                await second.stream.end()
            await first.hear()

    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b")
        error = await ending(talk(b))
        assert error.status is Status.ABORTED  # a dialer would give its session up
        assert "replaced" in (error.message or "")

    play(scenario)


def test_sessions_over_the_bound_are_turned_away_and_admitted_later() -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True, config=replace(QUICK, sessions_max=1))
        a, c = await world.host("a"), await world.host("c")
        a.call(b, 1)
        await world.until(lambda: a.handler.replies, "the first host's answer")
        c.call(b, 2)
        await asyncio.sleep(0.05)
        assert c.handler.got == []
        a.links.drop(b.me.incarnation, "done")
        await world.until(lambda: c.handler.replies == [2], "the second host's answer")
        assert c.handler.lost == []

    play(scenario)


# -- other gRPCs, TLS, tokens ---------------------------------------------------------------


def test_grpc_core_can_dial_a_host() -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        call = Envelope(0, 0, 0, 7, "Kind", "key", "m", 1, 0, b"payload")
        frames = [
            bytes(CompiledFrame(batch=write_hello(hello(b)))),
            bytes(CompiledFrame(batch=encode_batch(Batch(1, 0, [call])))),
        ]
        async with grpc.aio.insecure_channel(b.me.address) as channel:
            link = channel.stream_stream(METHOD)()
            for frame in frames:
                await link.write(frame)
            await link.read()
            answer = CompiledFrame.parse(await link.read())
            assert decode_batch(answer.batch) == Batch(1, 1, [Reply(7, 0, 0, 0, b"payload")])
            link.cancel()

    play(scenario)


def _certificate(folder: Path, name: str) -> TlsConfig:
    """A certificate of a CA of its own, for ``name``."""
    ca, key, request, cert = (str(folder / f"{name}.{end}") for end in ("ca", "key", "csr", "crt"))
    ca_key = str(folder / "ca.key")
    ca = str(folder / "ca.crt")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    if not Path(ca).exists():
        _run(*new, "-x509", "-keyout", ca_key, "-out", ca, "-subj", "/CN=test CA", "-days", "2")
    _run(*new, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    names = folder / f"{name}.ext"
    names.write_text(f"subjectAltName=DNS:{name}\n")
    _run(
        "openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", cert,
        "-days", "2", "-CAcreateserial", "-extfile", str(names),
    )  # fmt: skip
    return TlsConfig(cert=cert, key=key, ca=ca, name=name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


async def _tls_host(name: str, context: ssl.SSLContext, config: LinkConfig, tls: Any) -> Any:
    from wire.limits import BoundedServer

    handler = Recorder(answers=True)
    listener = socket.create_server(("127.0.0.1", 0))
    me = Peer(name, f"{name}-i1", f"127.0.0.1:{listener.getsockname()[1]}")
    links = GrpcLinks(me, CLUSTER, handler, config, tls=tls)
    server = BoundedServer([links.service()])
    await server.start(sock=listener, ssl=context)
    return Host(me, links, handler), server


def test_links_over_mutual_tls_and_not_without_a_certificate(tmp_path: Path) -> None:
    config = replace(QUICK, tls_name="hosts", peer_certificate=True)
    tls = _certificate(tmp_path, "hosts")
    bare = replace(tls, cert="", key="")

    async def main() -> None:
        world = GrpcWorld()
        context, mine = tls.server_context(), tls.client_context()
        a, a_server = await _tls_host("a", context, config, mine)
        b, b_server = await _tls_host("b", context, config, mine)
        c, c_server = await _tls_host("c", context, config, bare.client_context())
        async with asyncio.timeout(30):
            await call_each_other(world, a, b, 300, Random(2))
            c.call(b, 1)
            await world.until(lambda: c.handler.lost, "the refusal")
            assert "certificate" in c.handler.lost[0][1]
            for host in (a, b, c):
                await host.links.aclose()
        for server in (a_server, b_server, c_server):
            server.close()
            await server.wait_closed()

    uvloop.run(main())


def test_a_certificate_for_another_name_is_not_talked_to(tmp_path: Path) -> None:
    tls = _certificate(tmp_path, "hosts")

    async def main() -> None:
        config = replace(QUICK, tls_name="others")
        a, a_server = await _tls_host("a", tls.server_context(), config, tls.client_context())
        b, b_server = await _tls_host("b", tls.server_context(), config, tls.client_context())
        a.call(b, 1)
        await asyncio.sleep(0.1)
        assert not a.links.connected(b.me.incarnation)
        assert b.handler.got == []
        for host, server in ((a, a_server), (b, b_server)):
            await host.links.aclose()
            server.close()
            await server.wait_closed()

    uvloop.run(main())


def test_hosts_show_the_token_and_strangers_to_it_are_lost() -> None:
    async def scenario(world: GrpcWorld) -> None:
        b = await world.host("b", answers=True)
        assert isinstance(b.links, GrpcLinks)
        server = Server([Front("secret").guard(b.links.service())])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            await server.start(sock=listener)
            there = b.me._replace(address=f"127.0.0.1:{port}")
            a = await world.host("a")
            a.call(there, 1)
            await world.until(lambda: a.handler.lost, "the refusal")
            assert "UNAUTHENTICATED" in a.handler.lost[0][1]
            handler = Recorder()
            knowing = Host(
                Peer("c", "c-1", "127.0.0.1:1"),
                GrpcLinks(Peer("c", "c-1", "127.0.0.1:1"), CLUSTER, handler, token="secret"),
                handler,
            )
            knowing.call(there, 2)
            await world.until(lambda: handler.replies == [2], "the answer")
            assert b.handler.calls == [2]
            await knowing.links.aclose()  # type: ignore[attr-defined]
            server.close()
            await server.wait_closed()

    play(scenario)


# -- the end --------------------------------------------------------------------------------


def test_draining_says_goaway_and_waits_for_what_was_sent() -> None:
    async def scenario(world: GrpcWorld) -> None:
        a, b = await world.host("a"), await world.host("b")
        a.call(b, 1)
        await world.until(lambda: b.handler.calls, "the call")
        world.stall(a, b)
        a.call(b, 2, bytes(1 << 20))
        assert isinstance(a.links, GrpcLinks)
        assert not await a.links.drain(0.1)
        world.heal()
        assert await a.links.drain(10)
        assert b.handler.calls == [1, 2]
        assert b.handler.got.count(Goaway("draining")) == 2

    play(scenario)


def test_closing_ends_every_session_on_both_sides_and_leaves_no_task() -> None:
    async def scenario(world: GrpcWorld) -> None:
        before = asyncio.all_tasks()
        a, b = await world.host("a", answers=True), await world.host("b", answers=True)
        nobody = Peer("n", "n-1", await world.reserve())
        await call_each_other(world, a, b, 10, Random(0))
        a.call(nobody, 1)
        assert isinstance(a.links, GrpcLinks)
        await a.links.aclose()
        assert [peer for peer, _ in a.handler.lost] == [b.me, nobody]
        await world.until(lambda: b.handler.lost, "the loss at the peer")
        assert b.handler.lost[0][0] == a.me
        assert a.call(b, 2)
        assert a.links.statistics() == ()
        world.cut()
        await world.until(
            lambda: asyncio.all_tasks() - before == set(), "no task of the links is left"
        )

    play(scenario)


def test_a_peer_that_stops_reading_costs_no_more_memory_than_the_bounds() -> None:
    async def scenario(world: GrpcWorld) -> None:
        config = replace(QUICK, credit_bytes=1 << 20, room_bytes=1 << 20)
        a, b = await world.host("a", config=config), await world.host("b")
        a.call(b, 0)
        await world.until(lambda: b.handler.calls, "the first call")
        world.stall(a, b)
        number = 1
        while a.call(b, number, bytes(1000)):
            number += 1
            if number % 100 == 0:
                await asyncio.sleep(0)
        (row,) = a.links.statistics()
        assert row.backlog_bytes <= (2 << 20) + (64 << 10)
        assert a.handler.lost == []
        world.heal()
        await world.until(lambda: len(b.handler.calls) == number + 1, "all calls")
        assert b.handler.calls == list(range(number + 1))

    play(scenario)


def test_an_address_that_is_none_loses_the_session_by_name() -> None:
    async def scenario(world: GrpcWorld) -> None:
        a = await world.host("a")
        a.call(Peer("n", "n-1", "nowhere"), 1)
        await world.until(lambda: a.handler.lost, "the loss")
        assert "'nowhere'" in a.handler.lost[0][1]

    play(scenario)


def test_a_server_that_is_no_host_loses_the_session() -> None:
    async def scenario(world: GrpcWorld) -> None:
        a = await world.host("a")
        server = Server([])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            await server.start(sock=listener)
            a.call(Peer("n", "n-1", f"127.0.0.1:{port}"), 1)
            await world.until(lambda: a.handler.lost, "the loss")
            assert "UNIMPLEMENTED" in a.handler.lost[0][1]
            server.close()
            await server.wait_closed()

    play(scenario)
