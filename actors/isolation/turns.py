"""Turns that run in the child, as its host sees them. An adapter."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import trio

from actors.foreign import Encoded, raised
from actors.incoming import InCall
from wire.errors import RoostError, error_from_code
from wire.items import Cancel, Chunk, Envelope, Failure, Grant, Mode, Reply

if TYPE_CHECKING:
    from actors.isolation.proxy import Proxy

log = logging.getLogger("roost.processes")

#: How long a cancelled turn may take to end before its child is killed (seconds).
CANCEL_S = 5.0
#: Items that a stream in the child may be ahead of its consumer here.
WINDOW = 16


class Turn:
    """One turn that runs in the child."""

    __slots__ = ("chunks", "ended", "failure", "reply", "wake")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.reply: bytes | None = None
        self.failure: RoostError | None = None
        self.ended = trio.Event()
        self.wake = trio.Event()

    def end(self, reply: bytes | None, failure: RoostError | None) -> None:
        self.reply, self.failure = reply, failure
        self.ended.set()
        self.wake.set()


class Turns:
    """Those of one actor."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._turns: dict[int, Turn] = {}
        self._last_id = 0

    def invoke(self, call: InCall) -> Any:
        """Run a handler over there: an awaitable of Encoded, or an iterator of them."""
        return self._stream(call) if call.spec.mode is Mode.STREAM else self._unary(call)

    async def _unary(self, call: InCall) -> Encoded:
        number, turn = self._begin(call)
        try:
            await turn.ended.wait()
        finally:
            await self._finish(number, turn)
        return self._result(call, turn)

    async def _stream(self, call: InCall) -> AsyncIterator[Encoded]:
        number, turn = self._begin(call)
        try:
            while True:
                for payload in turn.chunks:
                    yield Encoded(payload)
                    self._proxy.send(Grant(number, 1))
                turn.chunks.clear()
                if turn.ended.is_set():
                    break
                await turn.wake.wait()
                turn.wake = trio.Event()
        finally:
            await self._finish(number, turn)
        self._result(call, turn)

    def _begin(self, call: InCall) -> tuple[int, Turn]:
        self._proxy.check_running()
        self._last_id += 1
        turn = self._turns[self._last_id] = Turn()
        mode = Mode.STREAM if call.spec.mode is Mode.STREAM else Mode.ASK
        headers = {k: v for k, v in (call.headers or {}).items() if k[:6] != "roost-"}
        budget_ms = -1
        if call.expires_at != math.inf:
            budget_ms = max(0, int((call.expires_at - self._proxy.activation.system.now()) * 1000))
        target = self._proxy.id
        self._proxy.send(Envelope(
            0, 0, 0, self._last_id, target.kind, target.key, call.method, mode, call.content,
            call.payload, budget_ms, (*call.chain, call.token), headers or None, WINDOW,
        ))  # fmt: skip
        return self._last_id, turn

    async def _finish(self, number: int, turn: Turn) -> None:
        """The turn is over here only when it is over there."""
        if not turn.ended.is_set():
            self._proxy.send(Cancel(number))
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_S):
                await turn.ended.wait()
            if not turn.ended.is_set() and self._proxy.signal(9):
                log.error("%s: a cancelled turn does not end; its process dies", self._proxy.id)
                with trio.CancelScope(shield=True):
                    await turn.ended.wait()
        self._turns.pop(number, None)

    def _result(self, call: InCall, turn: Turn) -> Encoded:
        if turn.failure is None:
            return Encoded(turn.reply or b"")
        if turn.failure.code in ("actor_error", "internal"):
            raise raised(turn.failure)
        call.fail(turn.failure)
        return Encoded(b"")

    def on_answer(self, item: Reply | Failure | Chunk) -> None:
        """What a turn says."""
        turn = self._turns.get(item.call)
        if turn is None:
            return
        match item:
            case Reply():
                turn.end(item.payload, None)
            case Failure():
                turn.end(None, error_from_code(item.code, item.message, item.details))
            case Chunk():
                turn.chunks.append(item.payload)
                turn.wake.set()

    def lost(self, error: RoostError) -> None:
        """Their process is gone."""
        for turn in self._turns.values():
            turn.end(None, error)
