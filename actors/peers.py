"""Questions from host to host (list, describe, drain ...): one request, one response."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from wire.errors import NotDelivered, OutcomeUnknown, RoostError, UnknownKind, error_from_code
from wire.items import Request, Response
from wire.ports import Peer

if TYPE_CHECKING:
    from actors.router import Router

log = logging.getLogger("roost.actors")

#: Answers a question: gets the asking peer and the decoded body, returns what msgpack can write.
Operation = Callable[[Peer, Any], Awaitable[Any]]

OPEN_MAX = 1_000


class _Waiting:
    __slots__ = ("done", "incarnation", "response")

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.done = trio.Event()
        self.response: Response | None = None


class PeerRequests:
    """Asks other hosts, and answers them; at most OPEN_MAX answers are worked on at once."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._operations: dict[str, Operation] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._last_id = 0
        self._open = 0

    def register(self, op: str, operation: Operation) -> None:
        """Answer questions named ``op``."""
        self._operations[op] = operation

    async def ask(self, incarnation: str, op: str, body: object, timeout_s: float) -> Any:
        """The answer of that host; to ourselves it is a plain call.

        Raises NotDelivered when it is not a live host, OutcomeUnknown when it does not answer in
        time or is lost, and whatever error the operation raised there.
        """
        system = self._router.system
        if incarnation == system.me.incarnation:
            return await self._operations[op](system.me, body)
        if not self._router.is_live(incarnation):
            raise NotDelivered(f"host {incarnation!r} is not alive")
        self._last_id += 1
        waiting = self._waiting[self._last_id] = _Waiting(incarnation)
        request = Request(self._last_id, op, msgspec.msgpack.encode(body))
        try:
            self._router.transmit(incarnation, request)
            with trio.move_on_after(timeout_s):
                await waiting.done.wait()
        finally:
            del self._waiting[request.id]
        if waiting.response is None:
            raise OutcomeUnknown(f"host {incarnation!r} has not answered {op!r}")
        answer = msgspec.msgpack.decode(waiting.response.body)
        if waiting.response.code:
            raise error_from_code(waiting.response.code, str(answer))
        return answer

    def on_response(self, response: Response) -> None:
        waiting = self._waiting.get(response.id)
        if waiting is not None:
            waiting.response = response
            waiting.done.set()

    def on_request(self, peer: Peer, request: Request) -> None:
        if self._open >= OPEN_MAX:
            return  # the asker's deadline tells it
        self._open += 1
        self._router.system.nursery.start_soon(self._answer, peer, request)

    async def _answer(self, peer: Peer, request: Request) -> None:
        code, body = "", b""
        try:
            operation = self._operations.get(request.op)
            if operation is None:
                raise UnknownKind(f"this host knows no operation {request.op!r}")
            result = await operation(peer, msgspec.msgpack.decode(request.body))
            body = msgspec.msgpack.encode(result)
        except RoostError as exc:
            code, body = exc.code, msgspec.msgpack.encode(exc.message)
        except Exception as exc:
            log.exception("operation %r for %s failed", request.op, peer.host_id)
            code, body = "internal", msgspec.msgpack.encode(f"{type(exc).__name__}: {exc}")
        finally:
            self._open -= 1
        self._router.answer(peer.incarnation, Response(request.id, code, body))

    def lost(self, incarnation: str) -> None:
        """That host will not answer any more."""
        for waiting in self._waiting.values():
            if waiting.incarnation == incarnation:
                waiting.done.set()
