"""roost.v1.Actors: calls from outside, handed to the host's gateway. An adapter."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from wire import hot_messages as hot
from wire._generated.roost import v1
from wire.client_calls import SingleCall, StreamCall
from wire.errors import DeadlineExceeded, InvalidArgument
from wire.grants import GrantWindow
from wire.ids import ActorId, actor_id
from wire.items import Content, Mode
from wire.loops import Crossing
from wire.ports import Described, Gateway

HEADERS_MAX = 64
HEADERS_BYTES_MAX = 8192
METHOD_CHARS_MAX = 128
SESSION_CHARS_MAX = 128
LIST_LIMIT = 100
LIST_LIMIT_MAX = 1000

CONTENT_TYPES = {Content.MSGPACK: "application/msgpack", Content.JSON: "application/json"}
_CONTENTS = {
    "": Content.MSGPACK,
    "application/msgpack": Content.MSGPACK,
    "application/x-msgpack": Content.MSGPACK,
    "application/json": Content.JSON,
}

#: The host gives up this share of a call's time before its caller does (at most LEAD_S), so
#: that the caller hears why and not only that time is over.
_LEAD_SHARE, _LEAD_S = 0.1, 0.1


class ActorsService:
    """Serves ``roost.v1.Actors`` for a grpclib server.

    ``payload_bytes_max`` bounds arguments; ``control_timeout_s`` bounds locate, list and the
    like where the caller set no deadline.
    """

    def __init__(
        self, gateway: Gateway, crossing: Crossing, *, payload_bytes_max: int,
        control_timeout_s: float = 30.0,
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._crossing = crossing
        self._payload_bytes_max = payload_bytes_max
        self._control_timeout_s = control_timeout_s
        self._sessions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._session_numbers = itertools.count()
        self._session_prefix = f"connection-{secrets.token_hex(6)}-"

    def __mapping__(self) -> dict[str, Handler]:
        def unary(fn: Any, request: type, reply: type) -> Handler:
            return Handler(fn, Cardinality.UNARY_UNARY, request, reply)

        methods = {
            "Ask": unary(self._ask, hot.AskRequest, hot.AskReply),
            "AskStream": Handler(
                self._ask_stream, Cardinality.UNARY_STREAM, hot.AskRequest, hot.AskReply
            ),
            "Tell": unary(self._tell, hot.TellRequest, hot.TellReply),
            "Locate": unary(self._locate, v1.LocateRequest, v1.LocateReply),
            "Spawn": unary(self._spawn, v1.SpawnRequest, v1.ActorInfo),
            "Stop": unary(self._stop, v1.StopRequest, v1.StopReply),
            "List": unary(self._list, v1.ListRequest, v1.ListReply),
            "Describe": unary(self._describe, v1.DescribeRequest, v1.ActorInfo),
            "Hosts": unary(self._hosts, v1.HostsRequest, v1.HostsReply),
            "Drain": unary(self._drain, v1.DrainRequest, v1.DrainReply),
        }
        return {f"/roost.v1.Actors/{name}": handler for name, handler in methods.items()}

    # -- calls to actors --------------------------------------------------------------------

    async def _ask(self, stream: Any) -> None:
        request = await receive(stream)
        call = self._call(SingleCall, stream, request, Mode.ASK)
        content, payload = await self._single(call)
        await stream.send_message(_reply(request, content, payload))

    async def _tell(self, stream: Any) -> None:
        call = self._call(SingleCall, stream, await receive(stream), Mode.TELL)
        await self._single(call)
        await stream.send_message(hot.TellReply())

    async def _single(self, call: SingleCall) -> tuple[int, bytes]:
        call.result = asyncio.get_running_loop().create_future()
        self._gateway.submit(call)
        try:
            return await call.result
        finally:
            self._cancel_unless_done(call)

    async def _ask_stream(self, stream: Any) -> None:
        request = await receive(stream)
        call = self._call(StreamCall, stream, request, Mode.STREAM)
        window = GrantWindow()
        self._gateway.submit(call)
        try:
            self._gateway.grant(call, window.start())
            while (item := await call.next()) is not None:
                # Waits while the client is slow: nothing more is granted meanwhile.
                await stream.send_message(_reply(request, *item))
                more = window.taken(len(item[1]))
                if more:
                    # Sending suspends only while buffers are full: others must get their turn.
                    await asyncio.sleep(0)
                    if not call.done:
                        self._gateway.grant(call, more)
        finally:
            self._cancel_unless_done(call)

    def _cancel_unless_done(self, call: SingleCall | StreamCall) -> None:
        if not call.done:
            call.done = True
            self._gateway.cancel(call)

    def _call(self, kind_of_call: Any, stream: Any, request: Any, mode: Mode) -> Any:
        if not 0 < len(request.method) <= METHOD_CHARS_MAX:
            raise InvalidArgument(f"method must have 1 to {METHOD_CHARS_MAX} characters")
        if len(request.session) > SESSION_CHARS_MAX:
            raise InvalidArgument(f"session must have at most {SESSION_CHARS_MAX} characters")
        content, payload = self._arguments(request)
        return kind_of_call(
            request.session or self._connection_session(stream),
            actor_id(request.kind, request.key),
            request.method, mode, content, payload, _timeout_s(stream, request),
            _headers(request.headers),
        )  # fmt: skip

    def _arguments(self, request: Any) -> tuple[Content, bytes]:
        if request.json:
            if request.payload or request.content_type:
                raise InvalidArgument("give either json, or payload and content_type")
            content, payload = Content.JSON, request.json.encode()
        else:
            content, payload = _content(request.content_type), request.payload
        if len(payload) > self._payload_bytes_max:
            raise InvalidArgument(
                f"payload of {len(payload)} bytes is over the limit of "
                f"{self._payload_bytes_max} bytes"
            )
        return content, payload

    def _connection_session(self, stream: Any) -> str:
        connection = stream._stream.connection
        session = self._sessions.get(connection)
        if session is None:
            session = f"{self._session_prefix}{next(self._session_numbers)}"
            self._sessions[connection] = session
        return session

    # -- the rest crosses over to Trio ------------------------------------------------------

    async def _locate(self, stream: Any) -> None:
        found = await self._found(await receive(stream))
        where = found._asdict()
        fields = ("host_id", "address", "incarnation", "epoch", "status")
        await stream.send_message(v1.LocateReply(**{name: where[name] for name in fields}))

    async def _describe(self, stream: Any) -> None:
        found = await self._found(await receive(stream))
        await stream.send_message(_actor_info(found))

    async def _found(self, request: Any) -> Described:
        target = actor_id(request.kind, request.key)
        found: Described = await self._trio(self._gateway.locate, target)
        return found

    async def _spawn(self, stream: Any) -> None:
        request = await receive(stream)
        target = actor_id(request.kind, request.key)
        content, payload = self._arguments(request)
        spawn = self._gateway.spawn
        found = await self._trio(spawn, target, content, payload, request.durable)
        await stream.send_message(_actor_info(found))

    async def _stop(self, stream: Any) -> None:
        request = await receive(stream)
        stopped = await self._trio(self._gateway.stop, actor_id(request.kind, request.key))
        await stream.send_message(v1.StopReply(stopped=stopped))

    async def _list(self, stream: Any) -> None:
        request = await receive(stream)
        limit = min(request.limit or LIST_LIMIT, LIST_LIMIT_MAX)
        list_actors = self._gateway.list_actors
        found, cursor = await self._trio(list_actors, request.kind, limit, request.cursor)
        await stream.send_message(
            v1.ListReply(actors=[_actor_info(actor) for actor in found], cursor=cursor)
        )

    async def _hosts(self, stream: Any) -> None:
        await receive(stream)
        hosts = await self._trio(self._gateway.list_hosts)
        await stream.send_message(
            v1.HostsReply(hosts=[v1.HostInfo(**host._asdict()) for host in hosts])
        )

    async def _drain(self, stream: Any) -> None:
        request = await receive(stream)
        if not request.host_id:
            raise InvalidArgument("host_id is empty")
        accepted = await self._trio(self._gateway.drain, request.host_id)
        await stream.send_message(v1.DrainReply(accepted=accepted))

    async def _trio(self, fn: Callable[..., Awaitable[Any]], *args: object) -> Any:
        try:
            async with asyncio.timeout(self._control_timeout_s):
                return await self._crossing.from_asyncio(fn, *args)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {self._control_timeout_s} s") from exc


async def receive(stream: Any) -> Any:
    """The request; what is malformed or too large is the caller's InvalidArgument."""
    try:
        request = await stream.recv_message()
    except GRPCError as exc:
        if exc.status is Status.RESOURCE_EXHAUSTED:
            raise InvalidArgument(exc.message or "message too large") from exc
        raise
    except (StreamTerminatedError, H2Error):
        raise
    except NotImplementedError as exc:
        raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not taken") from exc
    except Exception as exc:  # whatever a decoder makes of foreign bytes
        raise InvalidArgument(f"malformed request message: {exc}") from exc
    if request is None:
        raise InvalidArgument("the request has no message")
    return request


def _reply(request: Any, content: int, payload: bytes) -> Any:
    if request.json and content == Content.JSON:
        return hot.AskReply(json=payload.decode())
    return hot.AskReply(payload=payload, content_type=CONTENT_TYPES[Content(content)])


def _content(content_type: str) -> Content:
    content = _CONTENTS.get(content_type.partition(";")[0].strip().lower())
    if content is None:
        raise InvalidArgument(
            f"content_type {content_type[:80]!r} is neither application/msgpack "
            "nor application/json"
        )
    return content


def _timeout_s(stream: Any, request: Any) -> float | None:
    if stream.deadline is not None:
        left_s: float = stream.deadline.time_remaining()
    elif request.timeout_ms:
        left_s = request.timeout_ms / 1000
    else:
        return None
    return left_s - min(_LEAD_S, left_s * _LEAD_SHARE)


def _headers(headers: Mapping[str, str]) -> dict[str, str] | None:
    if not headers:
        return None
    size = sum(len(key) + len(value) for key, value in headers.items())
    if len(headers) > HEADERS_MAX or size > HEADERS_BYTES_MAX:
        raise InvalidArgument(
            f"{len(headers)} headers of {size} characters: at most {HEADERS_MAX} "
            f"of {HEADERS_BYTES_MAX} together"
        )
    return dict(headers)


def _actor_info(found: Described) -> v1.ActorInfo:
    fields = found._asdict()
    target: ActorId = fields.pop("actor")
    return v1.ActorInfo(kind=target.kind, key=target.key, **fields)
