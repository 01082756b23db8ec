"""Incoming calls: one message as an activation sees it, and the way back to its caller."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import msgspec
import trio

from actors.resume import GO_ON
from wire.errors import DeadlineExceeded, NotDelivered, RoostError
from wire.items import Chunk, Content, Envelope, Failure, Item, Mode, Reply

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.calls import Call, Sender
    from actors.kinds import BoundSpec
    from actors.offers import Waiting

#: The call that the current task runs for; background tasks inherit it and may outlive it.
CURRENT: ContextVar[InCall | None] = ContextVar("roost_current_call", default=None)


class Cancellable(Protocol):
    """What runs a turn: a worker, or the scope of a hook."""

    def cancel(self) -> None: ...


class InCall(msgspec.Struct, eq=False):
    """One message for an activation. Its caller hears exactly one end, unless it went away.

    A struct, though it never travels: these are made at a third of what other objects cost.
    """

    activation: Activation
    method: str
    payload: bytes
    mode: int = Mode.TELL
    content: int = Content.MSGPACK
    expires_at: float = math.inf
    chain: tuple[str, ...] = ()
    headers: dict[str, str] | None = None
    credit: int = 0
    spec: BoundSpec = cast(Any, None)  # known once it is admitted
    is_plain: bool = False  # its handler needs nothing around it (see BoundSpec)
    is_reentrant: bool = False  # it may run beside others of its actor
    tick: int = 0
    done: bool = False
    worker: Cancellable | None = None  # what runs its turn now
    task: trio.lowlevel.Task | None = None  # a stream's turn that waits for credit
    known_as: str = ""  # its token, once anybody has asked for it

    @property
    def token(self) -> str:
        """Names this running call in the chains of the calls that it makes."""
        if not self.known_as:
            self.known_as = self.activation.system.new_token()
        return self.known_as

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


class LocalInCall(InCall):
    """A message from this very host: its caller's half is an object at hand."""

    out: Call = cast(Any, None)

    @classmethod
    def of(cls, activation: Activation, out: Call) -> Self:
        """The half of ``out`` that its actor sees."""
        call = out.local = cls(
            activation, out.method, out.payload, out.mode, out.content, out.expires_at, out.chain,
            out.headers, out.credit, out=out,
        )  # fmt: skip
        return call

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

    sender: Sender = cast(Any, None)

    @classmethod
    def told(cls, activation: Activation, spec: BoundSpec, payload: bytes, sender: Sender) -> Self:
        """One without headers, for a handler that is known."""
        return cls(activation, spec.name, payload, spec=spec, is_plain=spec.is_plain, sender=sender)

    def reply(self, content: int, payload: bytes) -> None:
        self.done = True  # nobody waits, and no deadline is to be forgotten

    def told_by(self) -> Sender | None:
        return self.sender


class RemoteInCall(InCall):
    """A message from another host: answers go back to the incarnation that sent it."""

    incarnation: str = ""
    call: int = 0
    attempt: int = 0

    @classmethod
    def of(
        cls, activation: Activation, incarnation: str, message: Envelope | Waiting,
        expires_at: float,
    ) -> Self:  # fmt: skip
        """The message, as one for an actor that runs here."""
        return cls(
            activation, message.method, message.payload, message.mode, message.content,
            expires_at, message.chain, message.headers, message.credit,
            incarnation=incarnation, call=message.call, attempt=message.attempt,
        )  # fmt: skip

    def _send(self, item: Item) -> None:
        self.activation.system.router.answer(self.incarnation, item)

    def _end(self) -> None:
        self.done = True
        router = self.activation.system.router
        if self.tick:
            router.wheel.discard(self)
        if self.call:
            router.receiver.forget(self)

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
    """A tell from another host that came in a row: nothing is sent back for it."""

    @classmethod
    def told(
        cls, activation: Activation, spec: BoundSpec, payload: bytes, incarnation: str
    ) -> Self:
        """One for a handler that is known."""
        return cls(
            activation, spec.name, payload, spec=spec, is_plain=spec.is_plain,
            incarnation=incarnation,
        )  # fmt: skip

    def reply(self, content: int, payload: bytes) -> None:
        self.done = True

    def _end(self) -> None:
        self.done = True


class RowInCall(InCall):
    """What the turns of a row share, until something has got hold of it (see actors.rows)."""


class Internal(InCall):
    """A turn that the actor gave itself (a timer): nobody waits for its result."""

    function: Callable[[], Any] = cast(Any, None)
