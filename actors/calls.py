"""Outgoing calls: what the caller waits on. The callee's side of a call is in incoming.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from actors.resume import GO_ON
from wire.errors import DeadlineExceeded, OutcomeUnknown, RoostError
from wire.ids import ActorId
from wire.items import Content, Mode
from wire.ports import ClientCall

if TYPE_CHECKING:
    from actors.incoming import InCall
    from actors.outbox import Entry, Outbox
    from actors.router import Router


_TELL = Mode.TELL


class Sender:
    """Whoever calls: an activation, the system itself, a client's session.

    Messages of one sender to one actor keep their order. ``outs`` holds its numbered streams to
    actors on other hosts, made when first needed.
    """

    __slots__ = ("outs",)

    def __init__(self) -> None:
        self.outs: dict[ActorId, Outbox] | None = None

    def go_on_for(self, ended: Sender) -> None:
        """Send behind what ``ended`` has sent, with its numbers; nothing has been sent before."""
        self.outs, ended.outs = ended.outs, None
        for box in (self.outs or {}).values():
            box.sender = self

    def has_sent_all(self) -> bool:
        """Whether all that it sent to other hosts has been accepted there."""
        return all(box.is_idle for box in (self.outs or {}).values())


class Call:
    """One outgoing call. Ends in exactly one of ``finished`` and ``failed``."""

    # What most calls never change is the class's: a call that has less to set costs less.
    credit = 0
    idempotent = False
    nowait = False
    start_only = False  # the deadline bounds only the time until it starts
    id = 0
    tick = 0
    began = -1.0  # Trio's clock; -1: its time is not measured
    done = False
    local: InCall | None = None  # its other half, when the actor lives here
    entry: Entry | None = None  # its place in an outbox, when it lives elsewhere

    def __init__(
        self,
        router: Router,
        sender: Sender,
        target: ActorId,
        method: str,
        mode: Mode,
        content: int,
        payload: bytes,
        expires_at: float,
        chain: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        self.router = router
        self.sender = sender
        self.target = target
        self.method = method
        self.mode = mode
        self.content = content
        self.payload = payload
        self.expires_at = expires_at  # Trio's clock; inf: no deadline
        self.chain = chain
        self.headers = headers

    def expire(self) -> None:
        """The deadline has passed (called by the wheel)."""
        error = self.late()
        self.router.abandon(self)
        self.failed(error)

    def late(self) -> RoostError:
        """What passing the deadline means for this call, by how far it had come."""
        where = f"{self.target}.{self.method}"
        if self.entry is not None:
            return self.entry.late(where, self.router.is_reachable(self.entry.sent_to))
        if self.local is None:
            return self.router.late(self)
        return DeadlineExceeded(f"{where}: no answer before the deadline")

    # Called by the router; each subclass says what the caller sees.

    def accepted(self) -> None:
        """The target's window or mailbox has taken the message."""

    def chunk(self, content: int, payload: bytes) -> None:
        """One item of a stream."""

    def finished(self, content: int, payload: bytes) -> None:
        self._end()

    def failed(self, error: RoostError) -> None:
        self._end(error)

    def _end(self, error: RoostError | None = None) -> None:
        self.done = True
        if self.tick:
            self.router.wheel.discard(self)
        if self.began >= 0:
            system = self.router.system
            system.meter.took(system.now() - self.began)
        if error is not None:
            self.router.system.meter.failed(error)


class TaskCall(Call):
    """A call on which one Trio task waits."""

    error: RoostError | None = None  # what it failed with
    _task: trio.lowlevel.Task | None = None

    def failed(self, error: RoostError) -> None:
        if not self.done:
            self.error = error
            self._end(error)
            self._wake()

    def _wake(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task, GO_ON)

    def park(self) -> Awaitable[Any]:
        """Wait for news: what it returns must be awaited at once."""
        self._task = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def leave(self) -> None:
        """The caller waits no more: cancel the handler. Safe to call at any time, twice."""
        if not self.done:
            self.router.abandon(self)
            self._end()


class WaitingCall(TaskCall):
    """An ask, or a tell that waits to be taken."""

    result_content: int = Content.MSGPACK
    result_payload = b""

    def accepted(self) -> None:
        if self.mode is _TELL and not self.done:
            self._end()
            self._wake()

    def finished(self, content: int, payload: bytes) -> None:
        if not self.done:
            self.result_content, self.result_payload = content, payload
            self._end()
            self._wake()

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self.leave()
        return super()._abort(_)

    async def wait(self) -> None:
        """Wait for the end; raises what the call failed with. A cancelled wait cancels the
        handler, wherever it runs."""
        if self.done:
            await trio.lowlevel.checkpoint()
        else:
            await self.park()
        if self.error is not None:
            raise self.error


class TellNowait(Call):
    """A tell on which nobody waits: a refusal at once is kept, a later one is reported."""

    nowait = True
    error: RoostError | None = None  # why it was refused at once

    def failed(self, error: RoostError) -> None:
        super().failed(error)
        self.error = error


class StreamCall(TaskCall):
    """A stream call whose items one Trio task takes in turn."""

    def __init__(
        self, *args: Any, decode: Callable[[int, bytes], Any], window: int, start_only: bool
    ) -> None:
        super().__init__(*args)
        self._decode = decode
        self._items: deque[tuple[int, bytes]] = deque()
        self.start_only = start_only
        self._window = self.credit = window
        self._owed = 0

    def accepted(self) -> None:
        if self.start_only and self.tick:
            self.router.wheel.discard(self)

    def chunk(self, content: int, payload: bytes) -> None:
        if not self.done:
            self._items.append((content, payload))
            self._wake()

    def finished(self, content: int, payload: bytes) -> None:
        if not self.done:
            self._end()
            self._wake()

    async def next(self) -> Any:
        """The next item; StopAsyncIteration at the end, or what the stream failed with."""
        if self._items:
            await trio.lowlevel.checkpoint()
        elif not self.done:
            await self.park()
        if self._items:
            content, payload = self._items.popleft()
            self._owe()
            return self._decode(content, payload)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        raise StopAsyncIteration

    def _owe(self) -> None:
        self._owed += 1
        if self._owed * 2 >= self._window and not self.done:
            owed, self._owed = self._owed, 0
            self.router.grant(self, owed)

    def leave(self) -> None:
        self._items.clear()
        super().leave()


class GatewayCall(Call):
    """A call from outside: hands everything on to the gRPC service's own call object."""

    def __init__(
        self, *args: Any, client: ClientCall, window: int, start_only: bool,
        ended: Callable[[ClientCall], None],
    ) -> None:  # fmt: skip
        super().__init__(*args)
        self._client = client
        self._ended = ended
        self.start_only = start_only
        self._granted = 0
        self._held: deque[tuple[int, bytes]] = deque()
        self._last: Callable[[], None] | None = None
        if self.mode == Mode.STREAM:
            self.credit = window

    def accepted(self) -> None:
        if self.mode == Mode.TELL and not self.done:
            self._end()
            self._last = lambda: self._client.finished(Content.MSGPACK, b"")
            self._pass_on()
        elif self.mode == Mode.STREAM and self.start_only and self.tick:
            self.router.wheel.discard(self)

    def chunk(self, content: int, payload: bytes) -> None:
        if not self.done:
            self._held.append((content, payload))
            self._pass_on()

    def grant(self, items: int) -> None:
        """The client can take ``items`` more."""
        self._granted += items
        self._pass_on()

    def _pass_on(self) -> None:
        passed = 0
        while self._held and self._granted:
            self._granted -= 1
            passed += 1
            self._client.chunk(*self._held.popleft())
        if passed and not self.done:
            self.router.grant(self, passed)
        if not self._held and self._last is not None:
            last, self._last = self._last, None
            self._ended(self._client)
            last()

    def finished(self, content: int, payload: bytes) -> None:
        if not self.done:
            self._end()
            self._last = lambda: self._client.finished(content, payload)
            self._pass_on()

    def failed(self, error: RoostError) -> None:
        if not self.done:
            self._end(error)
            self._last = lambda: self._client.failed(error)
            self._pass_on()

    def leave(self) -> None:
        """The client is gone: cancel the handler."""
        self._held.clear()
        self._last = None
        if not self.done:
            self.router.abandon(self)
            self._end()


def lost(call: Call, why: str) -> RoostError:
    """The error of a call whose host was lost before it answered."""
    return OutcomeUnknown(f"{call.target}.{call.method} may or may not have run: {why}")
