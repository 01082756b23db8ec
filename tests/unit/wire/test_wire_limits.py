"""A server and a channel of wire.limits take no message over their bound."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
import uvloop
from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from wire.bounds import OVERHEAD_BYTES, PAYLOAD_BYTES_MAX, item_bytes_max, message_bytes_max
from wire.frames import PREFIX, Frame
from wire.limits import BoundedChannel, BoundedProtocol, BoundedServer

LIMIT = 10_000
ECHO = "/test.Echo/Echo"
MANY = "/test.Echo/Many"


class Echo:
    """Sends back what it gets; ``Many`` sends back ``LIMIT + 1`` bytes for every message."""

    def __mapping__(self) -> dict[str, Handler]:
        return {
            ECHO: Handler(self._echo, Cardinality.UNARY_UNARY, Frame, Frame),
            MANY: Handler(self._many, Cardinality.STREAM_STREAM, Frame, Frame),
        }

    async def _echo(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def _many(self, stream: Any) -> None:
        async for _ in stream:
            await stream.send_message(Frame(bytes(LIMIT + 1)))


def with_server(
    test: Callable[[int], Awaitable[None]], run: Callable[..., None] = uvloop.run
) -> None:
    async def main() -> None:
        server = BoundedServer([Echo()], bytes_max=LIMIT)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await server.start(sock=listener)
            async with asyncio.timeout(30):
                await test(listener.getsockname()[1])
            server.close()
            await server.wait_closed()

    run(main())


async def ask(channel: Channel, method: str, cardinality: Cardinality, size: int) -> bytes:
    async with channel.request(method, cardinality, Frame, Frame) as stream:
        await stream.send_message(Frame(bytes(size)), end=True)
        answer = await stream.recv_message()
    assert answer is not None
    return answer.batch


def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on() -> None:
    async def test(port: int) -> None:
        async with BoundedChannel("127.0.0.1", port) as channel:
            for _ in range(3):
                with pytest.raises(GRPCError) as caught:
                    await ask(channel, ECHO, Cardinality.UNARY_UNARY, 3 * LIMIT)
                assert caught.value.status is Status.RESOURCE_EXHAUSTED
                assert str(LIMIT) in (caught.value.message or "")
                assert "payload_bytes_max" in (caught.value.message or "")
                answer = await ask(channel, ECHO, Cardinality.UNARY_UNARY, LIMIT - 3)
                assert len(answer) == LIMIT - 3

    with_server(test)


def test_a_channel_refuses_answers_over_its_limit_too() -> None:
    async def test(port: int) -> None:
        async with BoundedChannel("127.0.0.1", port, bytes_max=LIMIT) as channel:
            with pytest.raises(GRPCError) as caught:
                await ask(channel, MANY, Cardinality.STREAM_STREAM, 0)
            assert caught.value.status is Status.RESOURCE_EXHAUSTED
            assert len(await ask(channel, ECHO, Cardinality.UNARY_UNARY, 100)) == 100

    with_server(test)


def test_a_message_is_refused_by_its_prefix_before_its_body_comes() -> None:
    async def talk(channel: Channel) -> None:
        async with channel.request(ECHO, Cardinality.UNARY_UNARY, Frame, Frame) as stream:
            await stream.send_request()
            await stream._stream.send_data(PREFIX.pack(0, 200 << 20) + bytes(100_000))
            await stream.recv_message()

    async def test(port: int) -> None:
        async with BoundedChannel("127.0.0.1", port) as channel:
            with pytest.raises(GRPCError) as caught:
                await talk(channel)
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
        assert str(200 << 20) in (caught.value.message or "")

    with_server(test)


def test_grpc_core_hears_that_its_two_hundred_megabytes_are_refused() -> None:
    async def test(port: int) -> None:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(ECHO)(bytes(200 << 20))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    with_server(test)


def test_a_message_fits_the_largest_item_and_names_its_overhead() -> None:
    assert message_bytes_max(PAYLOAD_BYTES_MAX) == PAYLOAD_BYTES_MAX + OVERHEAD_BYTES
    assert item_bytes_max(PAYLOAD_BYTES_MAX) > PAYLOAD_BYTES_MAX
    assert item_bytes_max(PAYLOAD_BYTES_MAX) + 1000 < message_bytes_max(PAYLOAD_BYTES_MAX)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_both_sides_send_without_delay_and_notice_who_vanished(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., None]
) -> None:
    made: list[Any] = []
    connection_made = BoundedProtocol.connection_made

    def seen(self: BoundedProtocol, transport: Any) -> None:
        connection_made(self, transport)
        made.append(transport.get_extra_info("socket"))

    monkeypatch.setattr(BoundedProtocol, "connection_made", seen)

    async def test(port: int) -> None:
        async with BoundedChannel("127.0.0.1", port) as channel:
            await ask(channel, ECHO, Cardinality.UNARY_UNARY, 1)
            assert len(made) == 2
            for sock in made:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000

    with_server(test, run)
