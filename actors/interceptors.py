"""Interceptors: code around every call and every turn; tracing and metrics are done with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.turns import invoke
from wire.ids import ActorId

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.incoming import InCall
    from actors.ref import BoundAsk

Proceed = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class CallInfo:
    """What an interceptor sees. ``headers`` set in ``call`` travel to ``turn``."""

    actor: ActorId
    method: str
    headers: dict[str, str]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Interceptor:
    """Override one or both. Await ``proceed()`` and return what it returned, or something else.

    What is returned is the call's result; around a stream it is None and means nothing.
    """

    async def call(self, info: CallInfo, proceed: Proceed) -> Any:
        """Around an ask, on the caller's side."""
        return await proceed()

    async def turn(self, info: CallInfo, proceed: Proceed) -> Any:
        """Around a handler, on the actor's side. Its exceptions go to the caller."""
        return await proceed()


class Interceptors:
    """The interceptors of one system, the first outermost."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._all = tuple(interceptors)

    async def around_turn(
        self, activation: Activation, call: InCall, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        info = CallInfo(activation.id, call.method, dict(call.headers or {}), args, kwargs)

        async def innermost() -> Any:
            return await invoke(activation, call, info.args, info.kwargs)

        return await self._nest([i.turn for i in self._all], info, innermost)()

    async def around_call(
        self, bound: BoundAsk, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        info = CallInfo(bound.id, bound.spec.name, dict(bound.headers or {}), args, kwargs)

        async def innermost() -> Any:
            inner = bound.with_options(headers=info.headers or None)
            return await inner.ask(info.args, info.kwargs)

        return await self._nest([i.call for i in self._all], info, innermost)()

    @staticmethod
    def _nest(
        layers: Sequence[Callable[[CallInfo, Proceed], Awaitable[Any]]], info: CallInfo,
        innermost: Proceed,
    ) -> Proceed:  # fmt: skip
        proceed = innermost
        for layer in reversed(layers):

            def wrapped(layer: Any = layer, inner: Proceed = proceed) -> Awaitable[Any]:
                result: Awaitable[Any] = layer(info, inner)
                return result

            proceed = wrapped
        return proceed
