"""Turns and calls as the child sees them: answers and calls go to the parent. An adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from actors.calls import Call
from actors.incoming import InCall
from actors.router import Router
from actors.system import System
from wire.errors import DeadlineExceeded, NotDelivered, RoostError, error_from_code
from wire.items import Accepted, Cancel, Chunk, Envelope, Failure, Grant, Mode, Reply

if TYPE_CHECKING:
    from actors.isolation.child import ParentLink


class ChildInCall(InCall):
    """A turn as the child sees it; answers go to the parent, deadlines are the parent's."""

    link: ParentLink = cast(Any, None)
    call: int = 0

    def cancelled(self) -> None:
        """The parent's turn was cancelled."""
        was_running = self.worker is not None
        self.activation.cancel(self)
        if not was_running:
            self.fail(NotDelivered("cancelled before it began"))

    def _end(self) -> None:
        super()._end()
        self.link.turns.pop(self.call, None)

    def _reply(self, content: int, payload: bytes) -> None:
        self.link.pipe.send(Reply(self.call, 0, 0, content, payload))

    def _fail(self, error: RoostError) -> None:
        self.link.pipe.send(
            Failure(self.call, 0, 0, error.code, error.message, error.details or None)
        )

    def _chunk(self, content: int, payload: bytes) -> None:
        self.link.pipe.send(Chunk(self.call, content, payload))


class _Sent:
    """Where a call is that the parent has."""

    sent_to = ""

    def late(self, where: str, reachable: bool) -> RoostError:
        return DeadlineExceeded(f"{where}: no answer before the deadline")


_SENT: Any = _Sent()


class ChildRouter(Router):
    """Hands every call to the parent."""

    def __init__(self, system: System, link: ParentLink) -> None:
        super().__init__(system)
        self._link = link
        self._calls: dict[int, Call] = {}
        self._last_id = 0

    def tell_now(self, *args: Any) -> bool:
        return False

    def submit(self, call: Call, at_once: bool = False) -> None:
        self._last_id += 1
        call.id, call.entry = self._last_id, _SENT
        budget_ms = -1
        if call.expires_at != float("inf"):
            budget_ms = max(0, int((call.expires_at - self.system.now()) * 1000))
        target = call.target
        envelope = Envelope(
            0, 0, 0, call.id, target.kind, target.key, call.method, call.mode, call.content,
            call.payload, budget_ms, call.chain, call.headers, call.credit,
        )  # fmt: skip
        try:
            self._link.pipe.send(envelope)
        except RoostError as exc:
            call.failed(exc)
        else:
            self._calls[call.id] = call

    def abandon(self, call: Call) -> None:
        if self._calls.pop(call.id, None) is not None:
            self._link.pipe.send(Cancel(call.id))

    def grant(self, call: Call, items: int) -> None:
        self._link.pipe.send(Grant(call.id, items))

    def on_answer(self, item: Reply | Failure | Chunk | Accepted) -> None:
        """What became of a call."""
        number = item.stream if isinstance(item, Accepted) else item.call
        call = self._calls.get(number)
        if call is None:
            return
        match item:
            case Reply():
                call.finished(item.content, item.payload)
            case Failure():
                call.failed(error_from_code(item.code, item.message, item.details))
            case Chunk():
                call.chunk(item.content, item.payload)
            case Accepted():
                call.accepted()
        if call.done or (isinstance(item, Accepted) and call.mode == Mode.TELL):
            self._calls.pop(number, None)
