"""Refs: location-transparent handles on actors, typed as the actor's own class.

``system.ref(Counter, "a")`` gives an object whose handlers are asks, tells and streams. It holds a
name and a system, nothing else, so it may travel, be kept, and outlive moves and restarts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import trio

from actors.calls import Call, Sender, StreamCall, TellNowait, WaitingCall
from actors.incoming import CURRENT
from actors.rows import TOLD_PER_LOOK
from wire.errors import ActorError, CallCycle, InvalidArgument, RoostError
from wire.ids import ActorId
from wire.items import Content, Mode

if TYPE_CHECKING:
    from types import TracebackType

    from actors.kinds import BoundSpec, Kind
    from actors.rows import Row
    from actors.system import System

A = TypeVar("A")

_ASK, _TELL = Mode.ASK, Mode.TELL
_MSGPACK = Content.MSGPACK
_NEVER = math.inf


class Ref:
    """A handle on one actor. Two refs to one actor are equal."""

    __slots__ = ("__dict__", "_id", "_kind", "_system", "_timeout_s")

    def __init__(
        self, system: System, kind: Kind, id: ActorId, timeout_s: float | None = None
    ) -> None:
        self._system = system
        self._kind = kind
        self._id = id
        self._timeout_s = timeout_s

    @property
    def id(self) -> ActorId:
        return self._id

    @property
    def key(self) -> str:
        return self._id.key

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what the type checker was told: isinstance(ref, Counter)
        return self._kind.cls

    @property
    def __roost_ref__(self) -> str:
        return str(self._id)

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":  # never a handler; and a half-made copy has no kind to ask
            raise AttributeError(name)
        spec = self._kind.handlers.get(name)
        if spec is None:
            raise AttributeError(self._no_handler(name))
        make: type[BoundAsk | BoundStream] = BoundStream if spec.mode is Mode.STREAM else BoundAsk
        bound = make(self._system, self._id, spec, self._timeout_s, None)
        self.__dict__[name] = bound  # found without this method from now on
        return bound

    def _no_handler(self, name: str) -> str:
        kind = self._kind
        if hasattr(kind.cls, name):
            return (
                f"{kind.name}.{name} is no handler, so only the actor itself may use it (mark a "
                f"method with @handler); {kind.name} has {kind.handler_names()}"
            )
        return f"{kind.name} has no handler {name!r}; it has {kind.handler_names()}"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is Ref and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<ref {self._id}>"


def with_timeout(ref: A, timeout_s: float) -> A:
    """The same ref with another deadline (seconds) for each of its calls."""
    inner = cast(Ref, ref)
    return cast(A, Ref(inner._system, inner._kind, inner._id, timeout_s))


def id_of(ref: object) -> ActorId:
    """The id behind a ref (or an actor); raises InvalidArgument for anything else."""
    found = getattr(ref, "id", None)
    if not isinstance(found, ActorId):
        raise InvalidArgument(f"{ref!r} is no ref")
    return found


class _Bound:
    """A handler of a ref, with its call options."""

    __slots__ = ("headers", "id", "row", "spec", "system", "timeout_s")

    def __init__(
        self,
        system: System,
        id: ActorId,
        spec: BoundSpec,
        timeout_s: float | None,
        headers: dict[str, str] | None,
    ) -> None:
        self.system = system
        self.id = id
        self.spec = spec
        self.timeout_s = timeout_s
        self.headers = headers
        self.row: Row | None = None  # of its tells, those that wait as one (see actors.rows)

    def with_options(
        self, *, timeout_s: float | None = None, headers: dict[str, str] | None = None
    ) -> Self:
        """See actors.handlers.Method.with_options."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        return type(self)(self.system, self.id, self.spec, timeout_s, headers or self.headers)

    def __repr__(self) -> str:
        return f"<{self.id}.{self.spec.name}>"

    def _payload(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        payload = self.spec.signature.encode(args, kwargs)
        if len(payload) > self.system.config.payload_bytes_max:
            check_size(self.system, self.spec.signature.where, payload)
        return payload

    def _make(self, make: Callable[..., Call], mode: Mode, payload: bytes) -> Any:
        call = prepare(
            self.system, make, self.id, self.spec.name, mode, _MSGPACK, payload,
            self.timeout_s, self.headers,
        )  # fmt: skip
        if self.spec.idempotent:
            call.idempotent = True
        return call


class BoundAsk(_Bound):
    """See actors.handlers.Method."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        interceptors = self.system.interceptors
        if interceptors is not None:
            return interceptors.around_call(self, args, kwargs)
        return self.ask(args, kwargs)

    async def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call itself, inside the interceptors."""
        system, spec = self.system, self.spec
        payload = spec.signature.encode(args, kwargs)
        if len(payload) > system.config.payload_bytes_max:
            check_size(system, spec.signature.where, payload)
        call: WaitingCall = prepare(
            system, WaitingCall, self.id, spec.name, _ASK, _MSGPACK, payload, self.timeout_s,
            self.headers,
        )  # fmt: skip
        if spec.idempotent:
            call.idempotent = True
        system.router.submit(call, True)
        if not call.done:
            await call.park()
        elif call.error is not None:
            await trio.lowlevel.checkpoint()
        elif system.router.is_pass_due(call.began):
            await trio.lowlevel.cancel_shielded_checkpoint()  # its result is not to be lost
        if call.error is not None:
            raise call.error
        try:
            return spec.signature.result.decode(call.result_content, call.result_payload)
        except (ValueError, RecursionError) as exc:
            raise _wrong(f"{spec.signature.where}: wrong result", exc) from exc

    async def tell(self, *args: Any, **kwargs: Any) -> None:
        """See actors.handlers.Method.tell."""
        system, spec = self.system, self.spec
        router = system.router
        payload = spec.signature.encode(args, kwargs)
        if len(payload) > system.config.payload_bytes_max:
            check_size(system, spec.signature.where, payload)
        row = self.row
        if row is not None and row.take(payload):
            router.told += 1
            if not router.told % TOLD_PER_LOOK and router.is_told_enough():
                await trio.lowlevel.checkpoint()
            return
        if self.timeout_s is None and router.tell_now(self, payload):
            if router.is_pass_due():
                await trio.lowlevel.checkpoint()
            return
        call: WaitingCall = self._make(WaitingCall, _TELL, payload)
        router.submit(call)
        await call.wait()

    def tell_nowait(self, *args: Any, **kwargs: Any) -> None:
        """See actors.handlers.Method.tell_nowait."""
        call: TellNowait = self._make(TellNowait, _TELL, self._payload(args, kwargs))
        self.system.router.submit(call)
        if call.error is not None:
            raise call.error


class BoundStream(_Bound):
    """See actors.handlers.StreamMethod."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> RefStream:
        payload = self._payload(args, kwargs)
        make = partial(
            StreamCall, decode=self.spec.signature.result.decode,
            window=self.system.config.stream_window, start_only=self.timeout_s is None,
        )  # fmt: skip

        def start() -> StreamCall:
            call: StreamCall = self._make(make, Mode.STREAM, payload)
            self.system.router.submit(call)
            return call

        return RefStream(start)


class RefStream:
    """See actors.handlers.Stream."""

    __slots__ = ("_call", "_ended", "_start")

    def __init__(self, start: Callable[[], StreamCall]) -> None:
        self._start = start
        self._call: StreamCall | None = None
        self._ended = False

    def __aiter__(self) -> RefStream:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        if self._call is None:
            self._call = self._start()
        try:
            return await self._call.next()
        except (StopAsyncIteration, RoostError):
            self._ended = True
            raise
        except (ValueError, RecursionError) as exc:
            await self.aclose()
            raise _wrong(f"{self._call.target}: wrong stream item", exc) from exc

    async def aclose(self) -> None:
        """End the stream and cancel its handler."""
        self._leave()
        await trio.lowlevel.checkpoint()

    def _leave(self) -> None:
        self._ended = True
        if self._call is not None:
            self._call.leave()

    async def __aenter__(self) -> RefStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        if not self._ended and self._call is not None:
            self._leave()  # a loop that was left by break: the producer must stop too


def _wrong(what: str, exc: Exception) -> ActorError:
    """The actor's mistake: what it returned is not what its handler declares."""
    return ActorError(f"{what}: {exc}", {"type": type(exc).__name__})


def check_size(system: System, where: str, payload: bytes) -> None:
    """Raises InvalidArgument when a payload is over the limit."""
    limit = system.config.payload_bytes_max
    if len(payload) > limit:
        raise InvalidArgument(
            f"{where}: payload of {len(payload)} bytes exceeds payload_bytes_max ({limit})"
        )


def prepare(
    system: System,
    make: Callable[..., Any],
    target: ActorId,
    method: str,
    mode: Mode,
    content: int,
    payload: bytes,
    timeout_s: float | None,
    headers: dict[str, str] | None,
) -> Any:
    """A call made with the current task's sender, chain and deadline.

    Raises CallCycle when its chain of calls is longer than chain_max.
    """
    current = CURRENT.get()
    sender: Sender = system.root
    chain: tuple[str, ...] = ()
    expires_at = _NEVER
    now = 0.0
    if timeout_s is not None or mode is not _TELL:
        now = system.now()
        expires_at = now + (system.config.ask_timeout_s if timeout_s is None else timeout_s)
    if current is not None and current.activation.system is system:
        sender = current.activation
        if current.worker is not None and mode is not _TELL:
            chain = (*current.chain, current.token)
            expires_at = min(expires_at, current.expires_at)
            if len(chain) > system.config.chain_max:
                raise CallCycle(
                    f"{target}.{method}: a chain of more than {system.config.chain_max} calls"
                )
    router = system.router
    call = make(router, sender, target, method, mode, content, payload, expires_at, chain, headers)
    if mode is _ASK:
        call.began = now
    if expires_at != _NEVER:
        router.wheel.add(call, expires_at)
    return call
