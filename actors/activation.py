"""Activation: one running instance of an actor, from its claim to its release.

It owns the mailbox and runs the turns; what happens around the turns (start, restart, stop, save)
is in lifecycle.py.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from actors.calls import Call, Sender
from actors.incoming import InCall, Internal, LocalInCall, LocalTell, RemoteTell
from actors.kinds import REMIND, SPAWN, SPAWNER
from actors.nursery import ActorNursery
from actors.offers import TimerLeft
from actors.phase import Phase
from actors.reasons import Reason
from actors.rows import Row
from actors.timers import Timer, Timers
from actors.turns import makes_durable, mistaken
from placement.ports import RegistryError
from wire.errors import (
    ActorError,
    CallCycle,
    InvalidArgument,
    NotDelivered,
    RoostError,
    Unavailable,
)
from wire.ids import ActorId, parse_actor_id
from wire.items import BLOCKED, Mode, Refusal

if TYPE_CHECKING:
    from actors.actor import Actor
    from actors.inbox import Inbox
    from actors.isolation.proxy import Proxy
    from actors.kinds import BoundSpec, Kind
    from actors.system import System

WATCH = "$watch"
STOP = "$stop"
CRASH = "$crash"

log = logging.getLogger("roost.actors")


_ACTIVE = Phase.ACTIVE
_ASK, _STREAM = Mode.ASK, Mode.STREAM


class Activation(Sender):
    """Mailbox, turns and state of one actor on this host."""

    __slots__ = (
        "_nursery", "_queue", "_timers", "active", "actor", "child", "crashes", "epoch",
        "has_overtakers", "id", "idle_since", "inbox", "is_closing", "is_durable", "is_spilled",
        "kind", "life", "must_close", "phase", "row", "running", "spawner", "stop_reason",
        "system", "threads", "tick", "waiters", "watchers",
    )  # fmt: skip

    actor: Actor

    def __init__(self, system: System, id: ActorId, kind: Kind) -> None:
        super().__init__()
        self.system = system
        self.id = id
        self.kind = kind
        self.phase = Phase.CLAIMING
        self.epoch = 0
        self._queue: deque[InCall] | None = None
        self.row: Row | None = None  # what has been told in a row, behind the queue
        self.has_overtakers = False  # reentrant messages may be among those that wait
        self.waiters: deque[Call] | None = None  # local callers that wait for room
        self.running = 0  # workers that have been handed to it
        self.active: list[InCall] = []  # calls whose handlers run
        self.inbox: Inbox | None = None  # streams from other hosts; made when first needed
        self.spawner: ActorId | None = None  # the actor that spawned it, as far as is known
        self.stop_reason: Reason | None = None
        self.is_closing = False  # takes no new messages: they belong elsewhere
        self.must_close = False  # will be closing once what waits is sure to run here
        self.is_durable = False  # it comes back when its host is gone, and is never idle
        self.is_spilled = False  # here because another host was full
        self.watchers: list[InCall] | None = None
        self.crashes: list[float] | None = None
        self.threads = 0
        self.idle_since = 0.0
        self.tick = 0
        self.child: Proxy | None = None  # the actor, where it is the half of one in a process
        self.life: Any = None  # what lifecycle.py keeps: lock, digest, save number
        self._nursery: ActorNursery | None = None
        self._timers: Timers | None = None  # made when first needed

    def __repr__(self) -> str:
        return (
            f"<Activation {self.id} {self.phase.value} epoch={self.epoch} "
            f"mailbox={self.depth} running={self.running}>"
        )

    def is_in(self, phase: Phase) -> bool:
        """Whether it is in that phase now; it may have changed while the caller waited."""
        return self.phase is phase

    # Mailbox ------------------------------------------------------------------------------

    @property
    def queue(self) -> deque[InCall] | None:
        """The messages that wait, in their order."""
        if self.row is not None:
            self.end_row()
        return self._queue

    @queue.setter
    def queue(self, queue: deque[InCall] | None) -> None:
        self.end_row()
        self._queue = queue

    def end_row(self) -> None:
        """What has been told in a row are messages like others now: something comes behind."""
        row, self.row = self.row, None
        if row is not None and (waiting := row.end()):
            self._queue = self._queue or deque()
            self._queue += waiting

    def row_due(self) -> Row | None:
        """What has been told in a row, if the next message is one of it."""
        return self.row if not self._queue else None

    @property
    def depth(self) -> int:
        """Messages that wait."""
        if self.row is None:
            return len(self._queue or ())
        return len(self._queue or ()) + len(self.row.payloads)

    @property
    def begins_anew(self) -> bool:
        """Whether what waits next is for another life, once this one has been stopped."""
        return bool(self._queue) and self._is_for_next_life(self._queue[0])  # type: ignore[index]

    def _is_for_next_life(self, call: InCall) -> bool:
        """A spawn that makes the actor durable would be undone by the stop that is ahead of it."""
        return self.stop_reason is Reason.STOPPED and not call.done and makes_durable(call)

    def refusal(self, method: str = "") -> Refusal | None:
        """Why a message (for ``method``) would not be taken now; None when it would."""
        phase = self.phase
        if phase is not _ACTIVE:
            if phase is Phase.OFFERED:
                return Refusal.MOVING  # wait: it goes on here or there
            if phase is Phase.ENDED:
                return Refusal.MOVED
        if self.is_closing:
            return Refusal.MOVED
        if (
            (self._queue or self.row is not None)
            and self.depth >= self.kind.mailbox_max
            and not self._overtakes(method)
        ):
            return Refusal.FULL
        if self.running > 1 and self.running >= self.kind.turns_max:
            return Refusal.FULL
        return None

    @property
    def _has_turns(self) -> bool:
        """Whether a turn runs, or a worker is about to begin one."""
        return bool(self.running or self.active)

    def _overtakes(self, method: str) -> bool:
        """Whether a message for ``method`` runs beside what runs now: it may be what that waits
        for, so a full mailbox must not keep it out."""
        if not self._has_turns:
            return False
        spec = self.kind.handlers.get(method)
        return spec is not None and spec.reentrant

    def _waits_behind(self, call: Call) -> bool:
        """Whether a local message must wait behind those that wait for room."""
        if not self._overtakes(call.method):
            return bool(self.waiters)
        return any(waiter.sender is call.sender for waiter in self.waiters or ())

    def offer_local(self, call: Call, at_once: bool = False) -> None:
        """Take a message from this host, or let its caller wait for room.

        ``at_once``: its caller is a task that can wait until its turn has begun.
        """
        if (self.waiters and self._waits_behind(call)) or (self.refusal(call.method) in BLOCKED):
            if call.nowait:
                call.failed(self.system.router.full(call))
                return
            if self.waiters is None:
                self.waiters = deque()
            self.waiters.append(call)
            self.end_row()  # each message that goes makes room, which a row does not look at
            return
        self.admit(LocalInCall.of(self, call), at_once)

    def admit(self, call: InCall, at_once: bool = False) -> None:
        """Put a message that ``refusal`` does not refuse into the mailbox."""
        spec = self.kind.handlers.get(call.method)
        if spec is None or (call.mode == _STREAM) is not spec.is_stream:
            if not self._waits_for_claim(call):
                return
        else:
            call.spec = spec
            call.is_plain = spec.is_plain
            if spec.reentrant:
                call.is_reentrant = self.has_overtakers = True
            if call.headers is not None:
                self._note_spawner(call)
            if call.chain and self._would_wait_for_itself(call):
                where = f"{self.id}.{call.method}"
                call.fail(CallCycle(f"{where} waits for a call that waits for it"))
                return
        self._append(call)
        if self.epoch and call.mode != _ASK:  # an ask hears of its end alone
            call.is_admitted()
        self.dispatch(at_once)

    def _new_row(self, sender: Sender | str, spec: BoundSpec) -> Row | None:
        """A row for such tells, unless they may run beside each other, or somebody waits for
        room: each message that goes makes some, which a row does not look at."""
        self.end_row()
        if self.kind.max_concurrency == 1 and not self._is_awaited:
            self.row = Row(self, sender, spec)
        return self.row

    @property
    def _is_awaited(self) -> bool:
        """Whether anybody waits for room."""
        return bool(self.waiters or (self.inbox is not None and self.inbox.blocked))

    def _append(self, call: InCall) -> None:
        if self.row is not None:
            self.end_row()
        if self._queue is None:
            self._queue = deque()
        self._queue.append(call)

    def for_tells(self, method: str, count: int) -> BoundSpec | None:
        """The handler of so many tells, if all can be taken now, and nothing about them is
        special."""
        spec = self.kind.handlers.get(method)
        if (
            spec is None
            or spec.is_stream
            or spec.reentrant
            or self.phase is not _ACTIVE
            or self.is_closing
            or self.running > 1
            or self.depth + count > self.kind.mailbox_max
        ):
            return None
        return spec

    def take_tells(self, incarnation: str, spec: BoundSpec, payloads: Sequence[bytes]) -> None:
        """Take tells of another host, which ``for_tells`` allows."""
        row = self.row
        if row is None or row.sender != incarnation or row.spec is not spec:
            row = self._new_row(incarnation, spec) if len(payloads) > 1 else None
        if row is not None:
            row.payloads += payloads
        else:
            for payload in payloads:
                self._append(RemoteTell.told(self, spec, payload, incarnation))
        for _ in payloads[: self.kind.max_concurrency]:
            self.dispatch()  # as many at once as may run at once

    def tell(
        self, sender: Sender, method: str, payload: bytes, headers: dict[str, str] | None
    ) -> bool:
        """Take a tell from this host, if it need not wait."""
        if self.waiters:
            return False
        spec = self.for_tells(method, 1) if headers is None else None
        if spec is None:
            if self.refusal() is not None:
                return False
            self.admit(LocalTell(self, method, payload, headers=headers, sender=sender))
            return True
        row, queue = self.row, self._queue
        if row is None and queue and queue[-1].spec is spec and queue[-1].told_by() is sender:
            row = self._new_row(sender, spec)
        if row is not None and row.sender is sender and row.spec is spec:
            row.go_on(payload)
        else:
            # LocalTell.told() in place: its call would be 7 % of a tell that is in no row.
            self._append(LocalTell(
                self, method, payload, spec=spec, is_plain=spec.is_plain, sender=sender
            ))  # fmt: skip
        if self.running < self.kind.max_concurrency:
            self.dispatch()
        return True

    def _waits_for_claim(self, call: InCall) -> bool:
        """What no handler is for: the system's own, which may yet have to go where the actor is,
        and mistakes. False when the message has been dealt with."""
        if _is_systems(call):
            if self.phase is Phase.CLAIMING:
                return True
            self._system_message(call)
            return False
        try:
            spec = self.kind.method(call.method)
            raise InvalidArgument(_wrong_mode(self.id, call, spec.mode))
        except RoostError as exc:
            call.is_admitted()
            mistaken(call, exc)
        return False

    def _note_spawner(self, call: InCall) -> None:
        if call.method == SPAWN and call.headers is not None and SPAWNER in call.headers:
            self.spawner = parse_actor_id(call.headers[SPAWNER])

    def _system_message(self, call: InCall) -> None:
        call.is_admitted()
        if call.method == WATCH:
            self.watchers = [*(self.watchers or ()), call]
        elif call.method == STOP:
            self.watchers = [*(self.watchers or ()), call]
            self.system.lifecycle.stop(self, Reason.STOPPED)
        elif call.method == CRASH:
            self.crashed(
                ActorError(str(self.system.kinds.anything.decode(call.content, call.payload)))
            )
        else:
            call.fail(InvalidArgument(f"{call.method!r} is no message that actors know"))

    def take_system_messages(self) -> None:
        """The actor is this host's: do what the system's own messages ask that came on trial."""
        queue, self.queue = self.queue, None
        for call in queue or ():
            if _is_systems(call):
                self._system_message(call)
            else:
                self.queue = self.queue or deque()
                self.queue.append(call)

    def requeue_watchers(self) -> None:
        """Watches and stops are messages again, to go with the actor or to be taken anew; so is a
        stop that nobody waits for: ``end`` sent none."""
        if self.stop_reason is Reason.STOPPED and not self._has_stop_message:
            stop = LocalTell(self, STOP, b"", sender=self.system.root)
            self.watchers = [*(self.watchers or ()), stop]
        if self.watchers:
            self.queue = deque([*self.watchers, *(self.queue or ())])
            self.watchers = None

    @property
    def _has_stop_message(self) -> bool:
        return any(call.method == STOP and not call.done for call in self.watchers or ())

    def take_waiting(self) -> deque[InCall]:
        """The messages that wait, in their order; they are the caller's."""
        waiting, self.queue = self.queue or deque(), None
        return waiting

    def _would_wait_for_itself(self, call: InCall) -> bool:
        is_free = call.is_reentrant or self.running < self.kind.max_concurrency
        if is_free and self.phase is Phase.ACTIVE:  # else it waits for a hook to end, as all do
            return False
        return any(c.known_as and c.known_as in call.chain for c in self.active)

    def fire(self, call: Internal) -> None:
        """A turn that the actor gave itself."""
        if self.phase in (Phase.STARTING, Phase.ACTIVE) and self.refusal() is None:
            self._append(call)
            self.dispatch()

    def cancel(self, call: InCall) -> None:
        """The caller waits no more, or the deadline has passed: drop it, or cancel its turn."""
        if call.worker is not None:
            call.worker.cancel()
            return
        if self.queue is not None and call in self.queue:
            self.queue.remove(call)
            self._make_room()
            return
        if self.watchers and call in self.watchers:
            self.watchers.remove(call)

    def abandon_waiter(self, call: Call) -> None:
        """A local caller that waited for room waits no more."""
        if self.waiters and call in self.waiters:
            self.waiters.remove(call)

    def admit_waiters(self) -> None:
        """Take local callers that waited, as far as there is room."""
        while self.waiters and self.refusal(self.waiters[0].method) is None:
            self.admit(LocalInCall.of(self, self.waiters.popleft()))

    def _make_room(self) -> None:
        self.admit_waiters()
        if (
            self.inbox is not None
            and self.inbox.blocked
            and self.depth * 2 <= self.kind.mailbox_max
        ):
            self.system.router.resume_blocked(self)

    # Turns --------------------------------------------------------------------------------

    def dispatch(self, at_once: bool = False) -> None:
        """Hand a worker to this actor if it may run one more turn."""
        if not self._queue and (self.row is None or not self.row.payloads):
            return
        is_active = self.phase is _ACTIVE
        if not is_active and not self._finishes_calls():
            return
        if (is_active and self.running < self.kind.max_concurrency) or (
            self.has_overtakers and self.running < self.kind.turns_max
        ):
            self.running += 1
            self.system.pool.run(self, at_once)

    def _finishes_calls(self) -> bool:
        """Whether it quiesces, and reentrant messages may be what a running handler waits for."""
        return self.phase is Phase.QUIESCING and bool(self.active)

    def next_turn(self) -> InCall | None:
        """The next message to run, or None when the worker has nothing more to do here.

        Messages start in their order. Only a reentrant one may overtake others, and only those
        that wait for a turn to end.
        """
        queue, row = self._queue, self.row
        if not (queue or (row is not None and row.payloads)) or not self.system.is_serving():
            return None
        is_active = self.phase is _ACTIVE
        if is_active and len(self.active) < self.kind.max_concurrency:
            while queue and not (self.stop_reason is not None and self.begins_anew):
                call = queue.popleft()
                if self.waiters or (self.inbox is not None and self.inbox.blocked):
                    self._make_room()
                if not call.done:
                    if self.has_overtakers:
                        self.dispatch()  # a worker that looks for them once this turn has to wait
                    return call
            if not queue and row is not None and row.payloads:
                return row.next()
            if not self.active:
                return None
        if is_active or self._finishes_calls():
            return self._first_overtaker()
        return None

    def _first_overtaker(self) -> InCall | None:
        for index, call in enumerate(self._queue or ()):  # none is told in a row
            if call.is_reentrant and not call.done and not self._is_for_next_life(call):
                del self._queue[index]  # type: ignore[union-attr]
                self.dispatch()  # there may be more
                return call
        self.has_overtakers = False
        return None

    def turns_done(self) -> None:
        """A worker has left."""
        self.running -= 1
        if self._is_awaited:
            self._make_room()
        if (
            self.phase is Phase.ACTIVE
            and (self._queue or self.row is not None)
            and self.depth
            and not self.begins_anew
            and self.system.is_serving()
        ):
            self.dispatch()
            return
        if self.running == 0:
            self.idle_since = self.system.now()
            if self.row is not None and not self.row.payloads:
                self.end_row()
            if self._queue is not None and not self._queue:
                self._queue = None
            self.system.lifecycle.quiet(self)

    # What the actor uses ------------------------------------------------------------------

    def open_nursery(self) -> ActorNursery:
        """The nursery of background tasks, opened at its first use."""
        if self._nursery is None or self._nursery.is_over:
            if self.phase not in (Phase.STARTING, Phase.ACTIVE, Phase.QUIESCING):
                raise NotDelivered(f"{self.id} is {self.phase.value}: it can start no tasks")
            self._nursery = ActorNursery(self, self.system.nursery)
        return self._nursery

    async def close_nursery(self) -> None:
        """Cancel timers and background tasks, and wait for the latter."""
        self.cancel_timers()
        if self._nursery is not None:
            await self._nursery.aclose()
            self._nursery = None

    def cancel_timers(self) -> None:
        if self._timers is not None:
            self._timers.cancel()

    @property
    def pid(self) -> int:
        """The process of its own that it runs in; 0: it has none."""
        return self.child.pid if self.child is not None else 0

    @property
    def has_tasks(self) -> bool:
        """Whether anything of it runs: turns, hooks, a nursery."""
        return bool(self.running or self.active or self._nursery is not None or self.pid)

    @property
    def has_background(self) -> bool:
        """Whether something besides messages keeps it busy."""
        return bool(
            self.is_durable
            or self._timers
            or self.watchers
            or (self.child is not None and self.child.is_busy)
            or (self._nursery is not None and self._nursery.is_busy)
        )

    @property
    def is_bare(self) -> bool:
        """Whether it has neither timers nor a nursery."""
        return not self._timers and self._nursery is None

    def take_timers(self) -> list[TimerLeft]:
        """Its timers, as far as they can move; they are cancelled here."""
        return self._timers.take() if self._timers is not None else []

    def keep_timers(self, timers: list[TimerLeft]) -> None:
        """Set timers again, here or after a move."""
        if timers:
            self._own_timers().keep(timers)

    def set_timer(
        self, method: Callable[[], Awaitable[None]], after_s: float, every_s: float
    ) -> Timer:
        if self.phase in (Phase.STOPPING, Phase.ENDED):
            raise NotDelivered(f"{self.id} is {self.phase.value}: it can set no timers")
        return self._own_timers().set(method, after_s, every_s)

    def _own_timers(self) -> Timers:
        if self._timers is None:
            self._timers = Timers(self)
        return self._timers

    async def run_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        self.threads += 1
        try:
            return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=False)
        finally:
            self.threads -= 1

    async def save(self) -> None:
        await self.system.lifecycle.save(self)

    async def set_reminder(self, name: str, after_s: float, every_s: float) -> None:
        try:
            await self.system.reminders.set(self.id, name, after_s, every_s)
        except RegistryError as exc:
            raise Unavailable(f"reminder {name!r} of {self.id} is not stored: {exc}") from exc

    async def cancel_reminder(self, name: str) -> bool:
        try:
            return await self.system.reminders.drop(self.id, name)
        except RegistryError as exc:
            raise Unavailable(f"reminder {name!r} of {self.id} may still be: {exc}") from exc

    def passivate(self) -> None:
        self.system.lifecycle.stop(self, Reason.IDLE)

    def end(self) -> None:
        """Stop for good, once the messages that wait have run."""
        self.system.lifecycle.stop(self, Reason.STOPPED)

    def let_go(self) -> None:
        """It is over. The actor knows its activation; without the way back both go at once, and
        no garbage collector has to find them."""
        self._timers = None
        if hasattr(self, "actor"):
            del self.actor

    def crashed(self, error: BaseException) -> None:
        """A background task or ``run()`` raised."""
        self.system.lifecycle.crashed(self, error)

    def expire(self) -> None:
        """Time to look whether it is idle (called by the wheel)."""
        self.system.lifecycle.idle_check(self)


def _is_systems(call: InCall) -> bool:
    """Whether the message is one of the system's own, which no handler sees."""
    return call.method[:1] == "$" and call.method not in (SPAWN, REMIND)


def _wrong_mode(id: ActorId, call: InCall, has: Mode) -> str:
    if has is Mode.STREAM:
        return f"{id}.{call.method} yields items: iterate over it (a stream, `roost ask --stream`)"
    return f"{id}.{call.method} returns one result: ask or tell it, it is no stream"
