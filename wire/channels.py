"""gRPC calls of an outside client over several addresses, with errors and retries. An adapter."""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.metadata import Deadline, decode_grpc_message, decode_metadata
from h2.exceptions import H2Error

from wire.bounds import message_bytes_max
from wire.errors import (
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    NotDelivered,
    OutcomeUnknown,
    ProtocolError,
    RoostError,
    Unauthenticated,
    Unavailable,
)
from wire.limits import BoundedChannel, BoundedProtocol
from wire.status import error_from
from wire.tls import TlsConfig

R = TypeVar("R")

CONNECT_TIMEOUT_S = 3.0
BACKOFF_START_S = 0.02
BACKOFF_MAX_S = 1.0

_UNDELIVERED = (NotDelivered, Unavailable)
#: How a call ends when its connection does (grpclib asserts on a message cut short).
_BROKEN = (OSError, StreamTerminatedError, H2Error, AssertionError)


def backoff_s(attempt: int, addresses: int, chance: float) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (the first is 1): none until each
    address was tried, then doubling, with jitter from ``chance`` in [0, 1)."""
    rounds = attempt - addresses
    if rounds < 0:
        return 0.0
    longest_s = min(BACKOFF_MAX_S, BACKOFF_START_S * 2.0 ** min(rounds, 16))
    return longest_s * (0.5 + chance / 2)


def parse_address(address: str) -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[IPv6]:port``; raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"address {address!r} is not of the form host:port")
    return host.strip("[]"), int(port)


class Channels:
    """A connection to one of ``addresses`` at a time; a failing one makes way for the next."""

    def __init__(
        self, addresses: Sequence[str], token: str, tls: TlsConfig | None, payload_bytes_max: int
    ) -> None:
        if not addresses:
            raise ConfigError("no address to connect to")
        self._addresses = [parse_address(address) for address in addresses]
        self._tls = tls
        self._ssl = tls.client_context() if tls else None
        self._bytes_max = message_bytes_max(payload_bytes_max)
        self._metadata = {"authorization": f"Bearer {token}"} if token else None
        self._channel: _Channel | None = None
        self._index = 0
        self._is_closed = False

    def check_open(self) -> None:
        """Raises InvalidArgument after :meth:`close`."""
        if self._is_closed:
            raise InvalidArgument("this client is closed: call inside its `async with` block")

    def close(self) -> None:
        """Close the connection for good; calls that still run end in OutcomeUnknown."""
        self._is_closed = True
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def unary(
        self, path: str, request: Any, reply_type: type[R], timeout_s: float, *, safe: bool = False
    ) -> R:
        """The reply, within ``timeout_s`` seconds. What was not delivered is sent again, to the
        next address; so is, where that is ``safe``, what may have run."""
        retried = (*_UNDELIVERED, OutcomeUnknown) if safe else _UNDELIVERED
        until = time.monotonic() + timeout_s
        for attempt in itertools.count(1):
            channel = self._current()
            try:
                return await channel.unary(path, request, reply_type, self._metadata, until)
            except retried as exc:
                await self._next(channel, attempt, until, exc)
        raise AssertionError

    async def stream(
        self, path: str, request: Any, reply_type: type[R], timeout_s: float | None
    ) -> AsyncGenerator[R, None]:
        """The replies; closing the iterator cancels the call. Sent again only before the first
        reply. ``timeout_s`` bounds the whole stream; with None only the connecting is bounded."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        patience = until or time.monotonic() + CONNECT_TIMEOUT_S
        for attempt in itertools.count(1):
            channel = self._current()
            began = False
            try:
                replies = channel.stream(path, request, reply_type, self._metadata, until)
                async with aclosing(replies):
                    async for reply in replies:
                        began = True
                        yield reply
                return
            except _UNDELIVERED as exc:
                if began:
                    raise
                await self._next(channel, attempt, patience, exc)

    def _current(self) -> _Channel:
        if self._channel is None:
            self.check_open()
            host, port = self._addresses[self._index]
            config = Configuration(ssl_target_name_override=(self._tls and self._tls.name) or None)
            self._channel = _Channel(
                host, port, bytes_max=self._bytes_max, ssl=self._ssl, config=config
            )
        return self._channel

    async def _next(self, failed: _Channel, attempt: int, until: float, error: RoostError) -> None:
        """Turn to the next address and wait a little, or raise ``error`` if time is over."""
        if self._channel is failed:  # others may have turned already
            self._channel = None
            self._index = (self._index + 1) % len(self._addresses)
            failed.retire()
        pause_s = backoff_s(attempt, len(self._addresses), random.random())
        if time.monotonic() + pause_s >= until:
            raise error
        await asyncio.sleep(pause_s)


class _Channel(BoundedChannel):
    """One address: its calls end in a reply or in an error of wire.errors."""

    _calls = 0
    _retired = False

    async def unary(
        self, path: str, request: Any, reply_type: type[R],
        metadata: Mapping[str, str] | None, until: float,
    ) -> R:  # fmt: skip
        await self._connect(until)
        stream: Any = self.request(
            path, Cardinality.UNARY_UNARY, type(request), reply_type,
            deadline=Deadline(_timestamp=until), metadata=metadata,
        )  # fmt: skip
        self._calls += 1
        try:
            async with stream:
                await stream.send_message(request, end=True)
                reply = await stream.recv_message()
        except (GRPCError, TimeoutError, *_BROKEN) as exc:
            raise self._translate(exc, stream) from exc
        finally:
            self._ended()
        if reply is None:
            raise ProtocolError(f"{path} ended well, but without a reply")
        return cast("R", reply)

    async def stream(
        self, path: str, request: Any, reply_type: type[R],
        metadata: Mapping[str, str] | None, until: float | None,
    ) -> AsyncGenerator[R, None]:  # fmt: skip
        await self._connect(until)
        deadline = None if until is None else Deadline(_timestamp=until)
        stream: Any = self.request(
            path, Cardinality.UNARY_STREAM, type(request), reply_type,
            deadline=deadline, metadata=metadata,
        )  # fmt: skip
        self._calls += 1
        try:
            async with stream:
                await stream.send_message(request, end=True)
                while (reply := await stream.recv_message()) is not None:
                    yield reply
        except (GRPCError, TimeoutError, *_BROKEN) as exc:
            raise self._translate(exc, stream) from exc
        finally:
            self._ended()

    def retire(self) -> None:
        """Close once the last call has ended: another address has taken over."""
        self._retired = True
        self._ended(0)

    def _ended(self, calls: int = 1) -> None:
        self._calls -= calls
        if self._retired and not self._calls:
            self.close()

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    async def _connect(self, until: float | None) -> None:
        """Connect, and hear of the server before anything is sent: a connection that it never
        took from its queue breaks in the same way as one on which a call ran."""
        if self._connected and cast(BoundedProtocol, self._protocol).greeted.is_set():
            return
        left_s = CONNECT_TIMEOUT_S if until is None else until - time.monotonic()
        try:
            async with asyncio.timeout(min(CONNECT_TIMEOUT_S, left_s)):
                protocol = await self.__connect__()
                await cast(BoundedProtocol, protocol).greeted.wait()
            if not self._connected:
                raise ConnectionResetError("closed before it said anything")
        except ssl.SSLCertVerificationError as exc:
            raise Unauthenticated(f"the certificate of {self._where} is refused: {exc}") from exc
        except TimeoutError as exc:
            raise NotDelivered(f"no connection to {self._where} in time") from exc
        except OSError as exc:
            raise NotDelivered(f"no connection to {self._where}: {exc}") from exc

    def _translate(self, exc: Exception, stream: Any) -> RoostError:
        if isinstance(exc, GRPCError):
            return _from_status(exc, stream._stream.trailers or stream._stream.headers or [])
        if isinstance(exc, TimeoutError):
            return DeadlineExceeded(f"no answer from {self._where} within the deadline")
        what = f"the connection to {self._where} broke: {exc or type(exc).__name__}"
        if not stream._send_request_done or stream._stream.was_ignored:
            return NotDelivered(what)
        return OutcomeUnknown(what)


def _from_status(exc: GRPCError, ended: Sequence[tuple[str, str]]) -> RoostError:
    """From the trailers themselves: grpclib does not parse them when the server reset the stream
    right after, nor reads the status of an answer without content-type (its own "not found")."""
    told = dict(ended)
    status, message = exc.status, exc.message
    try:
        if status is Status.UNKNOWN and "grpc-status" in told:
            status = Status(int(told["grpc-status"]))
            message = decode_grpc_message(told.get("grpc-message", ""))
        return error_from(status, message, decode_metadata(ended))
    except ValueError:  # no status, or no base64: whoever answered speaks no gRPC
        return error_from(status, message, {})
