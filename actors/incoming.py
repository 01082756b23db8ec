"""Incoming calls: one message as an activation sees it, and the way back to its caller."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import trio

from actors.resume import GO_ON
from wire.errors import DeadlineExceeded, NotDelivered, RoostError
from wire.items import Chunk, Content, Envelope, Failure, Item, Mode, Reply

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.calls import Call, Sender
    from actors.kinds import BoundSpec
    from actors.offers import Waiting
    from actors.router import Router

#: The call that the current task runs for; background tasks inherit it and may outlive it.
CURRENT: ContextVar[InCall | None] = ContextVar("roost_current_call", default=None)


class Cancellable(Protocol):
    """What runs a turn: a worker, or the scope of a hook."""

    def cancel(self) -> None: ...


class InCall:
    """One message for an activation. Its caller hears exactly one end, unless it went away."""

    # What most messages never change is the class's: one that has less to set costs less.
    spec: BoundSpec
    is_plain = False  # its handler needs nothing around it (see BoundSpec)
    is_reentrant = False  # it may run beside others of its actor
    mode: int = Mode.TELL
    content: int = Content.MSGPACK
    expires_at = math.inf
    chain: tuple[str, ...] = ()
    headers: dict[str, str] | None = None
    credit = 0
    tick = 0
    done = False
    running = False
    worker: Cancellable | None = None
    task: trio.lowlevel.Task | None = None  # a stream's turn that waits for credit
    _token = ""

    def __init__(self, activation: Activation, method: str, payload: bytes) -> None:
        self.activation = activation
        self.method = method
        self.payload = payload

    @property
    def token(self) -> str:
        """Names this running call in the chains of the calls that it makes."""
        if not self._token:
            self._token = self.activation.system.new_token()
        return self._token

    def expire(self) -> None:
        """The deadline has passed (called by the wheel): drop it, or cancel its handler."""
        where = f"{self.activation.id}.{self.method}"
        self.fail(DeadlineExceeded(f"{where}: no answer before the deadline"))
        self.activation.cancel(self)

    def grant(self, items: int) -> None:
        """The consumer of this stream can take ``items`` more."""
        self.credit += items
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, GO_ON)

    async def wait_credit(self) -> None:
        """Wait until the consumer can take an item."""
        if self.credit > 0:
            return

        def abort(_: object) -> trio.lowlevel.Abort:
            self.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def reply(self, content: int, payload: bytes) -> None:
        """The handler's result, or the end of its stream."""
        if not self.done:
            self._end()
            self._reply(content, payload)

    def fail(self, error: RoostError) -> None:
        """The call's error."""
        if not self.done:
            self._end()
            self._fail(error)

    def abandoned(self) -> None:
        """The caller waits no more: nothing goes back to it."""
        if not self.done:
            self._end()

    def chunk(self, content: int, payload: bytes) -> None:
        """One item of the stream; the turn has waited for credit."""
        self.credit -= 1
        if not self.done:
            self._chunk(content, payload)

    def _end(self) -> None:
        self.done = True
        if self.tick:
            self.activation.system.router.wheel.discard(self)

    def _reply(self, content: int, payload: bytes) -> None: ...

    def _fail(self, error: RoostError) -> None: ...

    def _chunk(self, content: int, payload: bytes) -> None: ...

    def is_admitted(self) -> None:
        """The mailbox has taken the message, and the actor is this host's."""

    def told_by(self) -> Sender | None:
        """Who sent it from this host, if nobody waits for it any more: a tell that was taken."""
        return None


def fill(call: InCall, message: Envelope | Waiting, expires_at: float) -> None:
    """Take over what a message from another process says."""
    call.method = message.method
    call.mode = message.mode
    call.content = message.content
    call.payload = message.payload
    call.expires_at = expires_at
    if message.chain:
        call.chain = message.chain
    if message.headers is not None:
        call.headers = message.headers
    if message.credit:
        call.credit = message.credit


class LocalInCall(InCall):
    """A message from this very host: its caller's half is an object at hand."""

    def __init__(self, activation: Activation, out: Call) -> None:
        self.activation = activation
        self.method = out.method
        self.mode = out.mode
        self.content = out.content
        self.payload = out.payload
        self.expires_at = out.expires_at
        if out.chain:
            self.chain = out.chain
        if out.headers is not None:
            self.headers = out.headers
        if out.credit:
            self.credit = out.credit
        self.out = out
        out.local = self

    def is_admitted(self) -> None:
        self.out.accepted()

    def told_by(self) -> Sender | None:
        return self.out.sender if self.mode == Mode.TELL and self.out.done else None

    def _reply(self, content: int, payload: bytes) -> None:
        out = self.out
        out.local = None  # no ring of the two is left for the garbage collector
        out.finished(content, payload)

    def _fail(self, error: RoostError) -> None:
        out, self.out.local = self.out, None
        if not (isinstance(error, NotDelivered) and out.router.outgoing.again(out)):
            out.failed(error)

    def _chunk(self, content: int, payload: bytes) -> None:
        self.out.chunk(content, payload)


class LocalTell(InCall):
    """A tell from this very host that did not wait: its caller has gone on long since."""

    def __init__(
        self, activation: Activation, sender: Sender, method: str, payload: bytes,
        headers: dict[str, str] | None,
    ) -> None:  # fmt: skip
        self.activation = activation
        self.sender = sender
        self.method = method
        self.payload = payload
        if headers is not None:
            self.headers = headers

    def reply(self, content: int, payload: bytes) -> None:
        self.done = True  # nobody waits, and no deadline is to be forgotten

    def told_by(self) -> Sender | None:
        return self.sender


class RemoteInCall(InCall):
    """A message from another host: answers go back to the incarnation that sent it."""

    def __init__(
        self, router: Router, incarnation: str, activation: Activation,
        message: Envelope | Waiting, expires_at: float,
    ) -> None:  # fmt: skip
        self.router = router
        self.incarnation = incarnation
        self.activation = activation
        self.call = message.call
        self.attempt = message.attempt
        fill(self, message, expires_at)

    def _send(self, item: Item) -> None:
        self.router.answer(self.incarnation, item)

    def _end(self) -> None:
        self.done = True
        if self.tick:
            self.router.wheel.discard(self)
        if self.call:
            self.router.receiver.forget(self)

    def _reply(self, content: int, payload: bytes) -> None:
        if self.call:
            epoch = self.activation.epoch
            self._send(Reply(self.call, self.attempt, epoch, content, payload))

    def _fail(self, error: RoostError) -> None:
        if self.call:
            epoch = self.activation.epoch
            self._send(
                Failure(
                    self.call, self.attempt, epoch, error.code, error.message,
                    error.details or None,
                )
            )  # fmt: skip

    def _chunk(self, content: int, payload: bytes) -> None:
        self._send(Chunk(self.call, content, payload))


class RemoteTell(RemoteInCall):
    """A tell from another host, which nobody waits for and nothing is sent back for."""

    call = attempt = 0

    def __init__(
        self, activation: Activation, incarnation: str, spec: BoundSpec, payload: bytes
    ) -> None:
        self.activation = activation
        self.incarnation = incarnation
        self.spec = spec
        self.method = spec.name
        self.is_plain = spec.is_plain
        self.payload = payload

    def reply(self, content: int, payload: bytes) -> None:
        self.done = True

    def _end(self) -> None:
        self.done = True


class Internal(InCall):
    """A turn that the actor gave itself (a timer): nobody waits for its result."""

    def __init__(self, activation: Activation, name: str, function: Callable[[], Any]) -> None:
        super().__init__(activation, name, b"")
        self.function = function
