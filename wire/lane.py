"""The quick way for one link's DATA frames past h2's state machines. An adapter.

grpclib and h2 cost some 35 us for each message on its way (a round trip of 98 us on one loop
took 26 us with lanes). A lane leaves everything but the link's DATA frames to h2, whose
flow-control windows it keeps exact. It counts on internals of grpclib and h2 that
tests/unit/wire/test_wire_lane.py holds; where one is missing :func:`open_lane` returns None, and
the link goes the public way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from h2.stream import StreamState

from wire.errors import ProtocolError
from wire.frames import PREFIX, decode_frame, encode_message
from wire.limits import BoundedProtocol, BoundedStream, too_large

_HEADER_BYTES = 9
_PREFIX_BYTES = PREFIX.size
_ACK_BYTES = 64 << 10  # received bytes after which h2 is asked whether to open the window


def open_lane(stream: Any, on_batch: Callable[[bytes], None]) -> Lane | None:
    """A lane for the grpclib stream ``stream``, or None if its internals are unfamiliar."""
    try:
        return Lane(stream._stream, on_batch)
    except (AttributeError, KeyError, TypeError):
        return None


class Lane:
    """Batches of one HTTP/2 stream, written and read without awaiting. See the module."""

    def __init__(self, stream: BoundedStream, on_batch: Callable[[bytes], None]) -> None:
        protocol = stream.protocol
        if not isinstance(protocol, BoundedProtocol) or stream.id is None:
            raise TypeError("not a stream of wire.limits")
        self._stream = stream
        self._protocol = protocol
        self._write_ready = stream.connection.write_ready
        self._transport = stream._transport
        self._h2 = stream._h2_connection
        self._h2_stream = self._h2.streams[stream.id]
        if self._transport.get_extra_info("sslcontext") is None:
            # What is written leaves now, and not at the end of the loop's turn.
            self._transport.set_write_buffer_limits(high=0)
        self._tail = b"\0\0" + stream.id.to_bytes(4, "big")  # type DATA, no flags, stream id
        self._inbox = _Inbox(stream, on_batch)
        self._incoming = self._h2.incoming_buffer
        self._windows = (
            self._h2._inbound_flow_control_window_manager,
            self._h2_stream._inbound_window_manager,
        )
        for manager in self._windows:
            manager.current_window_size, manager.window_consumed  # noqa: B018
        self._incoming._data, self._incoming._headers_buffer, self._incoming._preamble_len  # noqa: B018
        self._h2.outbound_flow_control_window, self._h2_stream.outbound_flow_control_window  # noqa: B018
        self._h2_stream.state_machine.state, self._h2.max_outbound_frame_size  # noqa: B018

    @property
    def clear(self) -> bool:
        """Whether the transport takes more at this moment."""
        return self._write_ready.is_set()

    async def wait_clear(self) -> None:
        await self._write_ready.wait()

    def write(self, batch: bytes) -> Coroutine[Any, Any, None] | None:
        """Send ``batch`` at once; when the other side's window is too small for it, returns
        what must be awaited to send it."""
        message = encode_message(batch)
        size = len(message)
        h2, stream = self._h2, self._h2_stream
        if size > min(h2.outbound_flow_control_window, stream.outbound_flow_control_window):
            return self._stream.send_data(message)
        if stream.state_machine.state is not StreamState.OPEN or self._transport.is_closing():
            return None  # the reader learns why
        h2.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        self._transport.write(self._data_frames(message))
        return None

    def _data_frames(self, message: bytes) -> bytes:
        size, most, tail = len(message), self._h2.max_outbound_frame_size, self._tail
        if size <= most:
            return b"".join((size.to_bytes(3, "big"), tail, message))
        parts: list[bytes] = []
        for at in range(0, size, most):
            part = message[at : at + most]
            parts += (len(part).to_bytes(3, "big"), tail, part)
        return b"".join(parts)

    def start_reading(self) -> None:
        """Deliver what grpclib has buffered, then take the stream's data as it comes.

        ``stream.recv_message`` then returns only at the end of the stream, or raises what
        ended it.
        """
        self._inbox.take_over()
        self._protocol.tap = self._tap

    def close(self) -> None:
        """Hand the connection back to h2."""
        self._protocol.tap = None
        self._inbox.on_batch = None

    def _tap(self, data: bytes) -> bytes:
        """Take the whole DATA frames at the front of ``data``; returns what is h2's."""
        incoming = self._incoming
        if incoming._data or incoming._headers_buffer or incoming._preamble_len:
            return data
        at, total = 0, len(data)
        while total - at >= _HEADER_BYTES and data[at + 3 : at + _HEADER_BYTES] == self._tail:
            start = at + _HEADER_BYTES
            end = start + int.from_bytes(data[at : at + 3], "big")
            if end > total or not self._consume(end - start):
                break
            self._inbox.add(data[start:end], end - start)
            at = end
        return data[at:] if at else data

    def _consume(self, size: int) -> bool:
        """Take ``size`` bytes off both windows; False leaves a breach to h2 to punish."""
        connection, stream = self._windows
        if (
            size > connection.current_window_size
            or size > stream.current_window_size
            or size > self._h2.max_inbound_frame_size
        ):
            return False
        connection.window_consumed(size)
        stream.window_consumed(size)
        return True


class _Inbox:
    """Stands in for grpclib's buffer of a stream: cuts its bytes into batches as they come."""

    def __init__(self, stream: BoundedStream, on_batch: Callable[[bytes], None]) -> None:
        self.on_batch: Callable[[bytes], None] | None = on_batch
        self._stream = stream
        self._partial = bytearray()
        self._unacked = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream.buffer._acked, stream.buffer._unacked, stream.buffer._eof  # noqa: B018

    def take_over(self) -> None:
        old: Any = self._stream.buffer
        self._stream.buffer = self  # type: ignore[assignment]
        for piece in old._acked:
            self.add(bytes(piece.data), 0)
        while not old._unacked.empty():
            piece = old._unacked.get_nowait()
            self.add(piece.data, piece.ack_size)
        if old._eof:
            self.eof()

    def add(self, data: bytes, ack_size: int) -> None:
        self._unacked += ack_size
        if self._unacked >= _ACK_BYTES:
            assert self._stream.id is not None
            self._stream.connection.ack(self._stream.id, self.unacked_size())
        if self.on_batch is None:
            return
        try:
            self._cut(data)
        except Exception as exc:
            self._fail(exc)

    def eof(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def unacked_size(self) -> int:
        size, self._unacked = self._unacked, 0
        return size

    async def read(self, size: int) -> bytes:
        await asyncio.shield(self._ended)
        return b""

    def _fail(self, exc: Exception) -> None:
        self.on_batch = None
        self._partial.clear()
        if not self._ended.done():
            self._ended.set_exception(exc)
            self._ended.exception()  # it may end before anyone reads

    def _cut(self, data: bytes) -> None:
        if not self._partial:
            length = self._announced(data)
            if length == len(data) - _PREFIX_BYTES:  # the usual case: one frame, one message
                self._deliver(data[_PREFIX_BYTES:])
                return
        self._partial += data
        at = 0
        while (length := self._announced(self._partial, at)) >= 0:
            start = at + _PREFIX_BYTES
            if start + length > len(self._partial):
                break
            self._deliver(bytes(self._partial[start : start + length]))
            at = start + length
        del self._partial[:at]

    def _announced(self, data: bytes | bytearray, at: int = 0) -> int:
        """The length that the prefix at ``at`` announces; -1 when it is not whole yet."""
        if len(data) - at < _PREFIX_BYTES:
            return -1
        compressed, length = PREFIX.unpack_from(data, at)
        if compressed:
            raise ProtocolError("compressed messages are not taken on a link")
        if length > self._stream.bytes_max:
            raise too_large(length, self._stream.bytes_max)
        return int(length)

    def _deliver(self, message: bytes) -> None:
        if self.on_batch is not None:
            self.on_batch(decode_frame(message))
