"""Calls that the child makes, on their way to whom they are for. An adapter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from actors.calls import Call
from wire.errors import RoostError
from wire.ids import ActorId
from wire.items import Accepted, Chunk, Envelope, Failure, Mode, Reply

if TYPE_CHECKING:
    from actors.isolation.proxy import Proxy


class RelayedCall(Call):
    """A call that the child makes, on its way to whom it is for."""

    __slots__ = ("child_call", "proxy")

    proxy: Proxy
    child_call: int

    def accepted(self) -> None:
        if not self.done:
            self.proxy.send(Accepted(self.child_call, 0))
            if self.mode == Mode.TELL:
                self._end()

    def chunk(self, content: int, payload: bytes) -> None:
        if not self.done:
            self.proxy.send(Chunk(self.child_call, content, payload))

    def finished(self, content: int, payload: bytes) -> None:
        if not self.done:
            self._end()
            self.proxy.send(Reply(self.child_call, 0, 0, content, payload))

    def failed(self, error: RoostError) -> None:
        if not self.done:
            self._end()
            self.proxy.send(failure_of(self.child_call, error))

    def leave(self) -> None:
        """Nobody waits for it any more."""
        if not self.done:
            self.router.abandon(self)
            self._end()

    def _end(self, error: RoostError | None = None) -> None:
        super()._end(error)
        self.proxy.calls.pop(self.child_call, None)


def relay(proxy: Proxy, item: Envelope) -> None:
    """Send on what the child calls, as its actor."""
    activation = proxy.activation
    system = activation.system
    expires_at = math.inf if item.budget_ms < 0 else system.now() + item.budget_ms / 1000
    call = RelayedCall(
        system.router, activation, ActorId(item.kind, item.key), item.method,
        Mode(item.mode), item.content, item.payload, expires_at, item.chain, item.headers,
    )  # fmt: skip
    call.proxy, call.child_call, call.credit = proxy, item.call, item.credit
    proxy.calls[item.call] = call
    kind = system.kinds.hosted(item.kind)
    spec = kind.handlers.get(item.method) if kind is not None else None
    call.idempotent = spec is not None and spec.idempotent
    if expires_at != math.inf:
        system.router.wheel.add(call, expires_at)
    system.router.submit(call)


def failure_of(call: int, error: RoostError) -> Failure:
    return Failure(call, 0, 0, error.code, error.message, error.details or None)
