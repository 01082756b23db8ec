"""A grpclib server and channel with a bound on what they receive. An adapter.

grpclib gathers a message of any announced length before anyone sees it. Here a message whose
prefix announces more than ``bytes_max`` ends its call with RESOURCE_EXHAUSTED before its body
is gathered. This and wire.lane reach into grpclib's internals;
tests/unit/wire/test_wire_limits.py holds those that this module counts on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from ssl import SSLContext
from typing import Any

from grpclib.client import Channel
from grpclib.client import Handler as ClientHandler
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import AbstractHandler, H2Protocol, Stream
from grpclib.server import Server
from h2.events import ConnectionTerminated

from wire.bounds import OVERHEAD_BYTES, PAYLOAD_BYTES_MAX, message_bytes_max

MESSAGE_BYTES_MAX = message_bytes_max(PAYLOAD_BYTES_MAX)

_USER_TIMEOUT_MS = 10_000
_KEEPALIVE = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))


def too_large(size: int, limit: int) -> GRPCError:
    """The error for a message of ``size`` bytes where at most ``limit`` are taken."""
    return GRPCError(
        Status.RESOURCE_EXHAUSTED,
        f"message of {size} bytes exceeds the limit of {limit} "
        f"(payload_bytes_max plus {OVERHEAD_BYTES})",
    )


class BoundedStream(Stream):
    """An HTTP/2 stream that refuses to gather more than ``bytes_max`` at once."""

    bytes_max = MESSAGE_BYTES_MAX
    protocol: BoundedProtocol | None = None
    _has_sent_all = _has_received_all = False

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        await super().send_data(data, end_stream)
        self._has_sent_all |= end_stream

    async def end(self) -> None:
        await super().end()
        self._has_sent_all = True

    def __ended__(self) -> None:
        super().__ended__()
        self._has_received_all = True

    def __terminated__(self, reason: str) -> None:
        # An answer that is here, though its caller has not come to read it, would be dropped.
        if not (self._has_sent_all and self._has_received_all):
            super().__terminated__(reason)

    @property
    def was_ignored(self) -> bool:
        """Whether the server has said, in its GOAWAY, that it took no notice of this request."""
        last = self.protocol.goaway_after if self.protocol is not None else None
        return last is not None and self.id is not None and self.id > last

    async def recv_data(self, size: int) -> bytes:
        if size > self.bytes_max:
            raise too_large(size, self.bytes_max)
        return await super().recv_data(size)


class BoundedProtocol(H2Protocol):
    """One connection, whose streams are bounded. ``tap`` sees its bytes first (wire.lane).

    ``greeted``: the other side has sent something, as HTTP/2 has it do at once, or is gone.
    ``goaway_after``: the last request that the other side dealt with, once it has said goodbye.
    """

    tap: Callable[[bytes], bytes] | None = None
    goaway_after: int | None = None

    def __init__(
        self, handler: AbstractHandler, config: Configuration, h2_config: Any, bytes_max: int
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._bytes_max = bytes_max
        self.greeted = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        tune_socket(transport.get_extra_info("socket"))
        self.connection.create_stream = self._create_stream  # type: ignore[method-assign]
        self._ack = self.connection.ack
        self.connection.ack = self._ack_if_open  # type: ignore[method-assign]
        self.processor.processors[ConnectionTerminated] = self._on_goaway

    def _create_stream(self, *, stream_id: int | None = None, wrapper: Any = None) -> Stream:
        connection = self.connection
        stream = BoundedStream(
            connection, connection._connection, connection._transport,
            stream_id=stream_id, wrapper=wrapper,
        )  # fmt: skip
        stream.bytes_max = self._bytes_max
        stream.protocol = self
        return stream

    def _ack_if_open(self, stream_id: int, size: int) -> None:
        """Whole answers are read after the connection's end, too."""
        if not self.connection.is_closing():
            self._ack(stream_id, size)

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        self.goaway_after = event.last_stream_id
        self.processor.process_connection_terminated(event)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.greeted.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.greeted.set()
        if self.tap is not None:
            data = self.tap(data)
            if not data:
                return
        super().data_received(data)


class BoundedServer(Server):
    """grpclib's Server; no message it takes has more than ``bytes_max``."""

    def __init__(
        self,
        handlers: Collection[Any],
        *,
        bytes_max: int = MESSAGE_BYTES_MAX,
        config: Configuration | None = None,
    ) -> None:
        super().__init__(handlers, config=config)
        self._bytes_max = bytes_max

    def _protocol_factory(self) -> H2Protocol:
        plain = super()._protocol_factory()
        return BoundedProtocol(plain.handler, plain.config, plain.h2_config, self._bytes_max)


class BoundedChannel(Channel):
    """grpclib's Channel; no message it takes has more than ``bytes_max``."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        bytes_max: int = MESSAGE_BYTES_MAX,
        ssl: SSLContext | None = None,
        config: Configuration | None = None,
    ) -> None:
        super().__init__(host, port, ssl=ssl, config=config)
        self._bytes_max = bytes_max

    def _protocol_factory(self) -> H2Protocol:
        return BoundedProtocol(ClientHandler(), self._config, self._h2_config, self._bytes_max)


def tune_socket(sock: Any) -> None:
    """Send without delay; notice within about ten seconds (Linux) a peer that vanished without
    a word."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # asyncio and grpclib leave it off where the listener was made with protocol 0.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS), *_KEEPALIVE)
    for name, value in options:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
