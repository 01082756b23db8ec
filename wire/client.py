"""The client for asyncio programs outside the cluster. An adapter.

async with wire.connect("host:50051") as client:
    await client.ask("Counter", "a", "add", n=1)
    async for token in client.stream("Writer", "w", "tokens", "a question"):
        ...
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from wire import hot_messages as hot
from wire._generated.roost import v1
from wire.bounds import PAYLOAD_BYTES_MAX
from wire.channels import Channels
from wire.client_codec import decode_result, encode_arguments
from wire.errors import ConfigError, InvalidArgument
from wire.ids import ActorId, actor_id
from wire.items import Content
from wire.ports import Described, HostInfo
from wire.tls import TlsConfig

TIMEOUT_S = 30.0


def connect(
    addresses: str | Sequence[str], *, token: str = "", tls: TlsConfig | None = None,
    timeout_s: float = TIMEOUT_S, payload_bytes_max: int = PAYLOAD_BYTES_MAX,
) -> Client:  # fmt: skip
    """A client of the cluster that has hosts at ``addresses`` (``host:port``; any host will do).

    Connects with the first call; when an address fails the next one is used. ``token``: the
    cluster's client token. ``tls``: how to verify the server; None speaks in the clear.
    ``timeout_s`` bounds each call. Raises ConfigError for a malformed address.
    """
    if isinstance(addresses, str):
        addresses = [addresses]
    return Client(Channels(addresses, token, tls, payload_bytes_max), timeout_s, payload_bytes_max)


class Client:
    """Calls actors by name; made by :func:`connect`. Calls may run side by side.

    Every call raises an error of ``wire.errors``: among them NotDelivered (it did not run; was
    retried within the deadline), OutcomeUnknown (it may have run), DeadlineExceeded, ActorError
    (the handler's own), InvalidArgument, UnknownKind, Unauthenticated.

    Arguments of a handler go by position or by name. All names are free for them, since the
    client's own settings are changed by :meth:`with_options` and never in a call.
    """

    def __init__(self, channels: Channels, timeout_s: float, payload_bytes_max: int) -> None:
        self._channels = channels
        self._timeout_s = _positive(timeout_s)
        self._stream_timeout_s: float | None = None
        self._headers: dict[str, str] = {}
        self._payload_bytes_max = payload_bytes_max
        self._session = f"client-{secrets.token_hex(12)}"

    def with_options(
        self, *, timeout_s: float | None = None, headers: Mapping[str, str] | None = None
    ) -> Self:
        """The same client (and connection) with another deadline in seconds for every call and
        every whole stream, and further headers for the handlers' interceptors."""
        other = copy.copy(self)
        if timeout_s is not None:
            other._timeout_s = other._stream_timeout_s = _positive(timeout_s)
        other._headers = {**self._headers, **(headers or {})}
        return other

    async def ask(self, kind: str, key: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """The handler's result. Calls awaited one after another arrive in that order."""
        request = self._request(hot.AskRequest, kind, key, method, args, kwargs)
        request.timeout_ms = _ms(self._timeout_s)
        return _result(await self._unary("Ask", request, hot.AskReply))

    async def tell(self, kind: str, key: str, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Returns once the actor's mailbox has taken the message."""
        request = self._request(hot.TellRequest, kind, key, method, args, kwargs)
        request.timeout_ms = _ms(self._timeout_s)
        await self._unary("Tell", request, hot.TellReply)

    def stream(self, kind: str, key: str, method: str, /, *args: Any, **kwargs: Any) -> Stream:
        """The items that the handler yields; see :class:`Stream`. It may last for ever: the host's
        default deadline bounds its start alone. ``timeout_s`` in :meth:`with_options` bounds all
        of it."""
        request = self._request(hot.AskRequest, kind, key, method, args, kwargs)
        if self._stream_timeout_s is not None:
            request.timeout_ms = _ms(self._stream_timeout_s)
        return Stream(self._items(request, self._stream_timeout_s))

    async def locate(self, kind: str, key: str) -> Described:
        """Where the actor is, without activating it; fields that only describe() knows are 0."""
        target = actor_id(kind, key)
        request = v1.LocateRequest(kind=kind, key=key)
        found = await self._unary("Locate", request, v1.LocateReply, safe=True)
        return Described(
            target, found.status, found.host_id, found.address, found.incarnation, found.epoch,
            mailbox=0, running=0, idle_s=0.0, reason="",
        )  # fmt: skip

    async def describe(self, kind: str, key: str) -> Described:
        """Where the actor is and how it does."""
        actor_id(kind, key)
        request = v1.DescribeRequest(kind=kind, key=key)
        return _described(await self._unary("Describe", request, v1.ActorInfo, safe=True))

    async def spawn(
        self, kind: str, key: str, arguments: Sequence[Any] | Mapping[str, Any] = (), *,
        durable: bool = False,
    ) -> Described:  # fmt: skip
        """Activate the actor now. A ``durable`` one comes back by itself after its host dies."""
        actor_id(kind, key)
        args, kwargs = ((), arguments) if isinstance(arguments, Mapping) else (arguments, {})
        payload = encode_arguments(args, kwargs, self._payload_bytes_max) if arguments else b""
        request = v1.SpawnRequest(kind=kind, key=key, payload=payload, durable=durable)
        return _described(await self._unary("Spawn", request, v1.ActorInfo))

    async def stop(self, kind: str, key: str) -> bool:
        """Stop the actor; False if it was not running."""
        actor_id(kind, key)
        request = v1.StopRequest(kind=kind, key=key)
        reply: v1.StopReply = await self._unary("Stop", request, v1.StopReply)
        return reply.stopped

    async def list(
        self, kind: str = "", *, limit: int = 100, cursor: str = ""
    ) -> tuple[tuple[Described, ...], str]:
        """A page of the cluster's actors and the cursor of the next page ("" at the end)."""
        request = v1.ListRequest(kind=kind, limit=limit, cursor=cursor)
        page = await self._unary("List", request, v1.ListReply, safe=True)
        return tuple(_described(info) for info in page.actors), page.cursor

    async def hosts(self) -> tuple[HostInfo, ...]:
        """The cluster's hosts."""
        reply = await self._unary("Hosts", v1.HostsRequest(), v1.HostsReply, safe=True)
        return tuple(
            HostInfo(**{field: getattr(host, field) for field in HostInfo._fields})
            for host in reply.hosts
        )

    async def drain(self, host_id: str) -> bool:
        """Ask a host to hand off everything and stop; False if there is no such host."""
        request = v1.DrainRequest(host_id=host_id)
        reply: v1.DrainReply = await self._unary("Drain", request, v1.DrainReply)
        return reply.accepted

    def check_open(self) -> None:
        """Raises InvalidArgument when the client has been closed."""
        self._channels.check_open()

    async def aclose(self) -> None:
        """Close the connection; calls that still run end in OutcomeUnknown."""
        self._channels.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.aclose()

    def _request(
        self, message: Any, kind: str, key: str, method: str,
        args: Sequence[Any], kwargs: Mapping[str, Any],
    ) -> Any:  # fmt: skip
        actor_id(kind, key)
        payload = encode_arguments(args, kwargs, self._payload_bytes_max)
        try:
            return message(
                kind=kind, key=key, method=method, payload=payload, session=self._session,
                headers=self._headers,
            )  # fmt: skip
        except (TypeError, ValueError) as exc:
            raise InvalidArgument(f"method or headers cannot travel: {exc}") from exc

    async def _unary(self, name: str, request: Any, reply: type[Any], *, safe: bool = False) -> Any:
        path = f"/roost.v1.Actors/{name}"
        return await self._channels.unary(path, request, reply, self._timeout_s, safe=safe)

    async def _items(self, request: Any, timeout_s: float | None) -> AsyncGenerator[Any, None]:
        path = "/roost.v1.Actors/AskStream"
        replies = self._channels.stream(path, request, hot.AskReply, timeout_s)
        async with aclosing(replies):
            async for reply in replies:
                yield _result(reply)


class Stream:
    """An async iterator of what a stream handler yields.

    The handler runs only a bounded number of items ahead. Leaving early cancels it: at once with
    ``async with`` or :meth:`aclose`, else when the iterator is garbage collected.
    """

    def __init__(self, items: AsyncGenerator[Any, None]) -> None:
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._items.__anext__()

    async def aclose(self) -> None:
        """End the stream; the handler is cancelled if it still runs."""
        await self._items.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.aclose()


def _result(reply: Any) -> Any:
    json = reply.content_type == "application/json"
    return decode_result(Content.JSON if json else Content.MSGPACK, reply.payload)


def _described(info: v1.ActorInfo) -> Described:
    fields = {name: getattr(info, name) for name in Described._fields if name != "actor"}
    return Described(actor=ActorId(info.kind, info.key), **fields)


def _positive(timeout_s: float) -> float:
    if not timeout_s > 0:
        raise ConfigError(f"timeout_s must be positive, not {timeout_s!r}")
    return timeout_s


def _ms(timeout_s: float) -> int:
    return min(max(1, int(timeout_s * 1000)), 2**32 - 1)
