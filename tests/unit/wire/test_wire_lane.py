"""The lane past h2 writes the same bytes as h2, reads what h2 reads, and keeps its windows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from grpclib.client import Handler as ClientHandler
from grpclib.config import Configuration
from grpclib.exceptions import GRPCError
from grpclib.protocol import AbstractHandler
from h2.config import H2Configuration
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wire.errors import ProtocolError
from wire.frames import PREFIX, encode_frame, encode_message
from wire.lane import Lane, open_lane
from wire.limits import BoundedProtocol, BoundedStream

BYTES_MAX = 200_000


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0, "what is written should leave at once"

    def pull(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data


class Acceptor(AbstractHandler):
    stream: Any = None

    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:
        self.stream = stream

    def cancel(self, stream: Any) -> None: ...

    def close(self) -> None: ...


class Ends:
    """Two protocols of wire.limits that are joined by hand, and one stream between them."""

    def __init__(self) -> None:
        config = Configuration(
            http2_connection_window_size=1 << 20, http2_stream_window_size=1 << 20
        )
        self.handler = Acceptor()
        self.transports = (Transport(), Transport())
        self.protocols = tuple(
            BoundedProtocol(handler, settings, _h2_config(client), BYTES_MAX)
            for handler, settings, client in (
                (ClientHandler(), config.__for_client__(), True),
                (self.handler, config.__for_server__(), False),
            )
        )
        for protocol, transport in zip(self.protocols, self.transports, strict=True):
            protocol.connection_made(transport)

    async def open(self) -> tuple[BoundedStream, BoundedStream]:
        self.exchange()
        near = self.protocols[0].connection.create_stream()
        headers = [(":method", "POST"), (":path", "/x"), (":scheme", "http"), (":authority", "x")]
        await near.send_request(headers, _processor=self.protocols[0].processor)
        self.exchange()
        far = self.handler.stream
        assert isinstance(near, BoundedStream)
        assert isinstance(far, BoundedStream)
        return near, far

    def exchange(self) -> None:
        while any(transport.written for transport in self.transports):
            for index in (0, 1):
                data = self.transports[index].pull()
                if data:
                    self.protocols[1 - index].data_received(data)


class Holder:
    """As grpclib's client and server streams hold the protocol's."""

    def __init__(self, stream: BoundedStream) -> None:
        self._stream = stream


def _h2_config(client: bool) -> H2Configuration:
    return H2Configuration(client_side=client, header_encoding="ascii")


def lane_of(stream: BoundedStream, got: list[bytes]) -> Lane:
    lane = open_lane(Holder(stream), got.append)
    assert lane is not None, "the installed grpclib or h2 has other internals than the lane knows"
    return lane


def windows(stream: BoundedStream) -> list[int]:
    assert stream.id is not None
    connection: Any = stream._h2_connection
    return [
        connection.local_flow_control_window(stream.id),
        connection.outbound_flow_control_window,
        connection.remote_flow_control_window(stream.id),
        connection.inbound_flow_control_window,
        connection.streams[stream.id].outbound_flow_control_window,
        connection.streams[stream.id].inbound_flow_control_window,
    ]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 100, 16_000, 16_384, 40_000, 100_000])
def test_the_lane_writes_what_grpclib_writes(size: int) -> None:
    async def test() -> None:
        batch = b"b" * size
        quick, plain = Ends(), Ends()
        (near, _), (other, _) = await quick.open(), await plain.open()
        assert lane_of(near, []).write(batch) is None
        await other.send_data(encode_message(batch))
        assert quick.transports[0].pull() == plain.transports[0].pull()
        assert windows(near) == windows(other)

    run(test)


def test_what_exceeds_the_window_is_left_to_be_awaited() -> None:
    async def test() -> None:
        ends = Ends()
        near, far = await ends.open()
        batch = bytes((1 << 20) + 1)
        rest = lane_of(near, []).write(batch)
        assert rest is not None
        assert ends.transports[0].pull() == b""
        task = asyncio.ensure_future(rest)
        while not task.done():
            await asyncio.sleep(0)
            ends.exchange()
            far.connection.ack(far.id or 0, far.buffer.unacked_size())
        assert near.data_sent == len(encode_message(batch))

    run(test)


def test_nothing_is_written_on_a_stream_that_ended() -> None:
    async def test() -> None:
        ends = Ends()
        near, far = await ends.open()
        lane = lane_of(near, [])
        await far.reset()
        ends.exchange()
        assert lane.write(b"late") is None
        assert ends.transports[0].pull() == b""

    run(test)


@settings(deadline=None, max_examples=60)
@example(sizes=[5000], cuts=[15 + 14, 14 * 20], noise=[False] * 8)
@given(
    sizes=st.lists(st.integers(0, 40_000), max_size=8),
    cuts=st.lists(st.integers(1, 5000), min_size=1, max_size=30),
    noise=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_the_lane_reads_any_cutting_and_keeps_the_windows(
    sizes: list[int], cuts: list[int], noise: list[bool]
) -> None:
    async def test() -> None:
        got: list[bytes] = []
        quick, plain = Ends(), Ends()
        (near, far), (other_near, other_far) = await quick.open(), await plain.open()
        lane = lane_of(far, got)
        lane.start_reading()
        # What looks like a frame of this stream inside a frame must not be taken for one.
        lure = (5).to_bytes(3, "big") + lane._tail + PREFIX.pack(0, 0)
        sent = [bytes([index]) + lure * (size // len(lure)) for index, size in enumerate(sizes)]
        for ends, stream in ((quick, near), (plain, other_near)):
            for index, batch in enumerate(sent):
                if noise[index]:
                    ends.protocols[0].connection._connection.ping(b"12345678")
                    ends.protocols[0].connection.flush()
                await stream.send_data(encode_message(batch))
            _feed(ends, cuts)
        assert got == sent
        read = [await _read_plainly(other_far) for _ in sent]
        assert read == [encode_frame(batch) for batch in sent]
        for stream in (far, other_far):  # hand back what is acknowledged but not yet told
            stream.connection.ack(stream.id or 0, stream.buffer.unacked_size())
        quick.exchange()
        plain.exchange()
        assert windows(far) == windows(other_far)
        assert windows(near) == windows(other_near)

    run(test)


def test_what_came_before_the_lane_is_delivered_first() -> None:
    async def test() -> None:
        got: list[bytes] = []
        ends = Ends()
        near, far = await ends.open()
        await near.send_data(encode_message(b"first") + encode_message(b"second")[:7])
        ends.exchange()
        await near.send_data(encode_message(b"second")[7:])
        ends.exchange()
        lane = lane_of(far, got)
        assert got == []
        lane.start_reading()
        assert got == [b"first", b"second"]
        await near.send_data(encode_message(b"third"), end_stream=True)
        ends.exchange()
        assert got == [b"first", b"second", b"third"]
        assert await far.recv_data(5) == b""

    run(test)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (PREFIX.pack(1, 3) + b"abc", ProtocolError, "compressed"),
        (PREFIX.pack(0, 3) + b"\x0f\x00\x00", ProtocolError, "malformed"),
        (PREFIX.pack(0, BYTES_MAX + 1), GRPCError, "payload_bytes_max"),
    ],
    ids=["compressed", "malformed", "too-large"],
)
def test_what_no_link_sends_ends_the_stream(data: bytes, error: type, words: str) -> None:
    async def test() -> None:
        got: list[bytes] = []
        ends = Ends()
        near, far = await ends.open()
        lane_of(far, got).start_reading()
        await near.send_data(data + encode_message(b"after"))
        ends.exchange()
        with pytest.raises(error, match=words):
            await far.recv_data(5)
        assert got == []

    run(test)


def test_a_breach_of_the_window_is_left_to_h2() -> None:
    async def test() -> None:
        ends = Ends()
        near, far = await ends.open()
        lane_of(far, []).start_reading()
        near._h2_connection.outbound_flow_control_window = 1 << 30
        near._h2_connection.streams[near.id or 0].outbound_flow_control_window = 1 << 30
        await near.send_data(bytes((1 << 20) + 1))
        data = ends.transports[0].pull()
        for at in range(0, len(data), 16_393):  # a frame at a time, never acknowledged
            far.buffer.unacked_size()
            ends.protocols[1].data_received(data[at : at + 16_393])
        assert ends.transports[1].closing

    run(test)


def test_a_stream_of_a_plain_server_has_no_lane() -> None:
    class Plain:
        _stream = object()

    assert open_lane(Plain(), print) is None


def _feed(ends: Ends, cuts: list[int]) -> None:
    data, at, turn = ends.transports[0].pull(), 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        ends.protocols[1].data_received(data[at : at + size])
        at += size
        turn += 1


async def _read_plainly(stream: BoundedStream) -> bytes:
    _, length = PREFIX.unpack(await stream.recv_data(5))
    return await stream.recv_data(length)
