"""Outgoing: calls to actors on other hosts, through numbered outboxes over links."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import trio

from actors.calls import Call, Sender, lost
from actors.outbox import Entry, Outbox, State, Told
from actors.routing import Unroutable, choose
from placement.ports import RegistryError
from placement.records import Location, Member
from wire.errors import (
    NoCapacity,
    OutcomeUnknown,
    RoostError,
    Unavailable,
    UnknownKind,
    error_from_code,
)
from wire.ids import ActorId
from wire.items import (
    Accepted,
    Cancel,
    Chunk,
    Content,
    Envelope,
    Failure,
    Grant,
    Mode,
    Moved,
    Refusal,
    Refused,
    Reply,
    Resume,
    Tells,
)
from wire.ports import Peer

if TYPE_CHECKING:
    from actors.router import Router

REDIRECTS_AT_ONCE = 2
_TELL = Mode.TELL
_OPEN = State.OPEN

#: Tells that leave together, at most: so many, and about so many bytes.
RUN_MAX, RUN_BYTES_MAX = 64, 64 << 10

BACKOFF_S = 0.01
BACKOFF_MAX_S = 0.5
BLOCKED_RETRY_S = 1.0
IDLE_OUTBOX_S = 60.0


class Later:
    """Something to do once, at a time of the wheel."""

    __slots__ = ("_do", "tick")

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do
        self.tick = 0

    def expire(self) -> None:
        self._do()


class Outgoing:
    """All outboxes of one host, and the calls that wait for an answer from elsewhere."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.calls: dict[int, Call] = {}
        self._outboxes: dict[int, Outbox] = {}
        self._blocked: dict[str, dict[Outbox, None]] = {}  # by incarnation: its link is full
        self._with_runs: dict[Outbox, None] = {}
        self._last_id = 0
        self._last_call = 0

    # Sending ------------------------------------------------------------------------------

    def push(self, call: Call, incarnation: str = "") -> None:
        """Send ``call`` through its sender's outbox, to ``incarnation`` if that is known."""
        activation = self._router.system.activations.get(call.target)
        if activation is not None:
            activation.end_row()  # what its sender tells next goes behind it
        sender = call.sender
        if sender.outs is None:
            sender.outs = {}
        box = sender.outs.get(call.target)
        if box is None:
            box = self._new_outbox(sender, call.target)
            sender.outs[call.target] = box
        elif incarnation and box.is_idle and box.incarnation != incarnation:
            box.state = State.ROUTING
        if call.nowait and len(box.waiting) + len(box.flight) >= box.window:
            call.failed(self._router.full(call))
            return
        call.local = None
        if box.has_room() and self.may_send(box.incarnation):
            self.transmit_now(box, call)
            return
        call.entry = box.push(call)
        if box.state is not State.ROUTING:
            self._pump(box)
        elif len(box.waiting) == 1:
            self._route(box, incarnation)

    def tell(self, box: Outbox, method: str, payload: bytes) -> bool:
        """Send a tell on which nobody waits, if it need not wait either; those in a row to one
        method leave together, at the latest before the loop waits. False: it must wait."""
        router, incarnation = self._router, box.incarnation
        if (
            box.state is not _OPEN  # has_room(), whose call would be a tenth of a tell
            or box.waiting
            or not box.next_seq  # a stream's first message says more than a tell in a row can
            or len(box.flight) >= box.window
            or incarnation in self._blocked
            # A lease that lapses is looked at when the row leaves, and then fails all of it.
            or not (router.is_live(incarnation) and router.system.serving)
            or router.system.is_leaving
            or router.links is None
        ):
            return False
        run = box.run
        if run and (
            len(run) >= RUN_MAX or box.run_bytes >= RUN_BYTES_MAX or run[-1].method != method
        ):
            self._send_run(box)
            if box.run:
                return False  # the lease has just ended
        box.tell(method, payload)
        if len(box.run) == 1:
            if not self._with_runs:
                router.links.soon(self._send_runs)
            self._with_runs[box] = None
        return True

    def _send_runs(self) -> None:
        boxes, self._with_runs = self._with_runs, {}
        for box in boxes:
            if box.run:
                self._send_run(box)

    def _send_run(self, box: Outbox) -> None:
        """Transmit what has been told and waits for company."""
        system = self._router.system
        if not system.is_serving():
            return  # its end is on the way, and fails whatever waits
        blocked = self._blocked.get(box.incarnation)
        if blocked is not None:
            blocked[box] = None
            return
        run = box.take_run()
        item = Tells(
            box.id, run[0].seq, box.attempt, box.target.kind, box.target.key, run[0].method,
            [told.payload for told in run], system.view.version, box.refused,
        )  # fmt: skip
        if not self._router.transmit(box.incarnation, item):
            self._blocked[box.incarnation] = {box: None}

    def transmit_now(self, box: Outbox, call: Call) -> None:
        """Like ``push``, for a box that has room and whose host may be sent to."""
        if box.run:
            self._send_run(box)
        call.entry = entry = box.push_out(call)
        envelope = self._envelope(box, entry, call.began)
        if not self._router.transmit(box.incarnation, envelope):
            self._blocked[box.incarnation] = {box: None}

    def may_send(self, incarnation: str) -> bool:
        """Whether envelopes may go to that host now."""
        return (
            incarnation not in self._blocked
            and self._router.is_live(incarnation)
            and self._router.system.is_serving()
        )

    def _new_outbox(self, sender: Sender, target: ActorId) -> Outbox:
        self._last_id += 1
        box = Outbox(self._last_id, sender, target, self._router.system.config.window)
        self._outboxes[box.id] = box
        return box

    def _renumber(self, box: Outbox) -> None:
        del self._outboxes[box.id]
        self._last_id += 1
        box.renumber(self._last_id)
        self._outboxes[box.id] = box

    def _pump(self, box: Outbox) -> None:
        """Transmit what the window and the link allow, and nothing without a lease."""
        if not self._router.system.is_serving():
            return  # its end is on the way, and fails whatever waits
        incarnation = box.incarnation
        if box.run:
            self._send_run(box)  # it is under way, even to a host that takes its leave
        if not self._router.is_live(incarnation):
            if not box.flight:  # else what is under way is answered first
                self._ask_registry(box)
            return
        blocked = self._blocked.get(incarnation)
        if blocked is not None:
            blocked[box] = None
            return
        while (entry := box.take()) is not None:
            envelope = self._envelope(box, entry)
            if not self._router.transmit(incarnation, envelope):
                self._blocked[incarnation] = {box: None}
                return

    def _envelope(self, box: Outbox, entry: Entry, now: float = -1.0) -> Envelope:
        """``now``: the time of the wheel, if that is known."""
        call = entry.call
        if call is None:
            return _envelope_of(box, entry, self._router.system.view.version)
        if call.mode is _TELL:
            call.accepted()
        elif not call.id:
            self._last_call += 1
            call.id = self._last_call
            self.calls[call.id] = call
        budget_ms = -1
        if call.expires_at != math.inf and call.tick and not call.start_only:
            if now < 0:
                now = self._router.system.now()
            budget_ms = max(0, int((call.expires_at - now) * 1000))
        return Envelope(
            box.id, entry.seq, box.attempt, call.id, call.target.kind, call.target.key,
            call.method, call.mode, call.content, call.payload, budget_ms, call.chain,
            call.headers, call.credit, self._router.system.view.version, box.refused,
            box.replaces if entry.seq == 0 else (),
        )  # fmt: skip

    def room(self, incarnation: str) -> None:
        """The link has room again."""
        for box in self._blocked.pop(incarnation, ()):
            if box.incarnation == incarnation:
                self._pump(box)

    # Routing ------------------------------------------------------------------------------

    def _route(self, box: Outbox, hint: str = "") -> None:
        """Find out where the actor lives, without asking Redis if that can be avoided."""
        router = self._router
        incarnation = hint or router.ways.get(box.target)
        if incarnation and router.is_live(incarnation):
            self._open(box, incarnation)
            return
        chosen = choose(router.system.ring, box.target, box.refused)
        if isinstance(chosen, Member) and not hint:
            self._open(box, chosen.incarnation)
        else:
            self._ask_registry(box)

    def _open(self, box: Outbox, incarnation: str) -> None:
        box.incarnation = incarnation
        box.state = State.OPEN
        self._pump(box)

    def _ask_registry(self, box: Outbox, *, with_view: bool = False) -> None:
        box.state = State.ROUTING

        def told(where: Location | None, error: RegistryError | None) -> None:
            self._told(box, where, error, is_view_new=with_view)

        self._router.resolver.ask(box.target, told, with_view=with_view)

    def _told(
        self, box: Outbox, where: Location | None, error: RegistryError | None, is_view_new: bool
    ) -> None:
        """The registry has said where the actor is, or could not."""
        if box.state is not State.ROUTING or box.is_idle:
            return
        router = self._router
        if error is not None:
            self._retry_later(box)
            return
        if where is not None and router.is_live(where.incarnation):
            router.ways.learn(box.target, where.incarnation)
            self._open(box, where.incarnation)
            return
        chosen = choose(router.system.ring, box.target, box.refused)
        match chosen:
            case Member() if router.is_live(chosen.incarnation):
                self._open(box, chosen.incarnation)
            case Member():
                self._retry_later(box)  # it takes its leave, and soon the view will say so
            case Unroutable.UNKNOWN_KIND | Unroutable.NO_HOST if router.system.expects_hosts():
                self._retry_later(box)
            case Unroutable.UNKNOWN_KIND:
                what = (
                    f"kind {box.target.kind!r} ({box.target}) is known to no host of the cluster: "
                    "give its class to open_host(), or to `roost host` in an --app"
                )
                self._fail_all(box, UnknownKind(what))
            case Unroutable.ALL_FULL if not is_view_new:
                self._ask_registry(box, with_view=True)
            case Unroutable.ALL_FULL:
                self._fail_all(box, NoCapacity(f"every host that may run {box.target} is full"))
            case Unroutable.NO_HOST:
                self._fail_all(box, Unavailable(f"no host takes new actors ({box.target})"))

    def _retry_later(self, box: Outbox) -> None:
        """Route again after a pause that grows; the calls' deadlines bound it."""
        box.redirects += 1
        pause_s = min(BACKOFF_S * 2 ** min(box.redirects, 10), BACKOFF_MAX_S)
        box.state = State.ROUTING

        def again() -> None:
            if box.state is State.ROUTING and not box.is_idle:
                self._ask_registry(box)

        self._router.wheel.add(Later(again), trio.current_time() + pause_s)

    def _fail_all(self, box: Outbox, error: RoostError) -> None:
        """Nothing of it can be delivered: every call that waits ends in ``error``."""
        flight, waiting = list(box.flight), list(box.waiting)
        self._renumber(box)
        box.waiting.clear()
        box.refused = ()
        box.redirects = 0
        box.state = State.ROUTING
        for entry in (*flight, *waiting):
            if entry.call is not None and not entry.call.done:
                self._forget(entry.call)
                sent = entry in flight  # nobody has said yet what became of it
                entry.call.failed(lost(entry.call, str(error)) if sent else error)
            elif isinstance(entry, Told):
                self._router.system.meter.failed(error)

    # Answers ------------------------------------------------------------------------------

    def on_reply(self, peer: Peer, reply: Reply) -> None:
        call = self.calls.pop(reply.call, None)
        if call is not None:
            self._confirm(call)
            call.entry = None  # no ring of the two is left for the garbage collector
            call.finished(reply.content, reply.payload)

    def on_failure(self, failure: Failure) -> None:
        call = self.calls.pop(failure.call, None)
        if call is None:
            return
        self._confirm(call)
        error = error_from_code(failure.code, failure.message, failure.details)
        if not error.may_have_run and failure.code == "not_delivered" and self.again(call):
            return
        call.failed(error)

    def again(self, call: Call) -> bool:
        """Send a call that certainly did not run once more, inside its deadline."""
        if call.done or call.mode == Mode.STREAM:
            return False
        call.id = 0
        call.entry = None
        self._router.ways.forget(call.target)
        self._router.submit(call)
        return True

    def on_chunk(self, chunk: Chunk) -> None:
        call = self.calls.get(chunk.call)
        if call is not None:
            self._confirm(call)
            call.chunk(chunk.content, chunk.payload)

    def _confirm(self, call: Call) -> None:
        """An answer proves that the message, and all before it, was accepted."""
        entry = call.entry
        if entry is not None and not entry.accepted:
            self._accept(entry.outbox, entry.seq)

    def on_accepted(self, accepted: Accepted) -> None:
        box = self._outboxes.get(accepted.stream)
        if box is not None:
            self._accept(box, accepted.seq)

    def _accept(self, box: Outbox, seq: int) -> None:
        taken = box.accept(seq)
        for entry in taken:
            call = entry.call
            if call is None:
                continue
            if call.mode is _TELL:
                call.entry = entry.call = None
            elif call.mode is Mode.STREAM:
                call.accepted()
        if taken:
            self._router.ways.learn(box.target, box.incarnation)
        if box.waiting:
            self._pump(box)

    def on_resume(self, resume: Resume) -> None:
        box = self._outboxes.get(resume.stream)
        if box is not None and box.is_blocked:
            self._open(box, box.incarnation)

    def on_moved(self, moved: Moved, incarnation: str) -> None:
        """The actor went on with its memory of the stream: answers will come from there."""
        box = self._outboxes.get(moved.stream)
        if box is None:
            return
        for call in self.calls.values():
            entry = call.entry
            if entry is not None and entry.outbox is box and entry.accepted:
                entry.sent_to = moved.location
        self._router.ways.learn(box.target, moved.location)
        if box.incarnation != incarnation or not self._router.is_live(moved.location):
            return
        if box.is_blocked or (box.state is State.OPEN and not box.flight):
            self._open(box, moved.location)  # others follow once their flight is refused

    def on_refused(self, refused: Refused, incarnation: str) -> None:
        """An answer to one transmission: it, and what followed it, was not accepted."""
        box = self._outboxes.get(refused.stream)
        if box is None or box.incarnation != incarnation:
            return
        if not box.go_back(refused.seq, refused.attempt):
            return
        match refused.reason:
            case Refusal.FULL:
                self._block(box, State.FULL)
            case Refusal.MOVING:
                self._block(box, State.MOVING)
            case Refusal.MOVED if box.flight:
                self._block(box, State.MOVING)  # what was taken on trial there may yet run there
            case Refusal.MOVED:
                self._follow(box, refused.location)
            case Refusal.GAP:
                self._resend(box, refused.expected)
            case Refusal.UNKNOWN_STREAM:
                self._renumber(box)
                self._open(box, box.incarnation)
            case Refusal.NO_CAPACITY:
                box.refused = (*box.refused, incarnation)
                self._router.ways.forget(box.target)
                self._ask_registry(box)
            case _:
                error = error_from_code(refused.code, refused.message, refused.details)
                self._fail_all(box, error)

    def _block(self, box: Outbox, state: State) -> None:
        """Send nothing until word comes of room, or of where the actor is."""
        box.state = state
        attempt = box.attempt

        def again() -> None:  # in case that word is lost with its host
            if box.is_blocked and box.attempt == attempt:
                self._open(box, box.incarnation)

        self._router.wheel.add(Later(again), trio.current_time() + BLOCKED_RETRY_S)

    def _resend(self, box: Outbox, expected: int) -> None:
        oldest = box.waiting[0].seq if box.waiting else box.next_seq
        if box.flight:
            oldest = min(oldest, box.flight[0].seq)
        if expected < oldest:
            self._renumber(box)  # what is expected has been accepted elsewhere, long ago
        else:
            box.rewind(expected)
        self._open(box, box.incarnation)

    def _follow(self, box: Outbox, location: str) -> None:
        """The actor is elsewhere: go there, ask Redis, or wait a little for it to settle."""
        self._router.ways.forget(box.target)
        box.redirects += 1
        if location and box.redirects <= REDIRECTS_AT_ONCE and self._router.is_live(location):
            self._router.ways.learn(box.target, location)
            self._open(box, location)
        else:
            self._retry_later(box)

    # Ends ---------------------------------------------------------------------------------

    def abandon(self, call: Call) -> None:
        """The caller waits no more: forget the call and cancel its handler."""
        entry = call.entry
        if entry is None:
            return
        self._forget(call)
        if entry.sent_to and call.id:
            self._router.transmit(entry.sent_to, Cancel(call.id))
        if not entry.accepted:
            entry.outbox.drop(entry)

    def grant(self, call: Call, items: int) -> None:
        """The consumer of a stream can take more."""
        if call.entry is not None and call.entry.sent_to:
            self._router.transmit(call.entry.sent_to, Grant(call.id, items))

    def _forget(self, call: Call) -> None:
        if call.id:
            self.calls.pop(call.id, None)

    def lost(self, incarnation: str, why: str, unsent: Collection[tuple[int, int]]) -> None:
        """The session with ``incarnation`` is over; ``unsent`` holds the (stream, number) of
        envelopes that certainly never left."""
        self._blocked.pop(incarnation, None)
        gone: list[Call] = []
        for box in [b for b in self._outboxes.values() if b.incarnation == incarnation]:
            for entry in box.lose(seq for stream, seq in unsent if stream == box.id):
                if entry.call is not None and not entry.call.done:
                    gone.append(entry.call)
            self._renumber(box)
            if not box.is_idle:
                self._retry_later(box)
        gone += [
            c for c in self.calls.values()
            if c.entry is not None and c.entry.accepted and c.entry.sent_to == incarnation
        ]  # fmt: skip
        for call in gone:
            self._forget(call)
            if call.mode != Mode.TELL and not (call.idempotent and self.again(call)):
                call.failed(lost(call, why))

    def avoid(self, incarnation: str) -> None:
        """Send nothing more there; what is under way will be answered."""
        for box in [b for b in self._outboxes.values() if b.incarnation == incarnation]:
            if box.state is not State.ROUTING and not box.flight:
                box.state = State.ROUTING
                if box.waiting:
                    self._ask_registry(box)

    def has_flight(self, incarnation: str) -> bool:
        """Whether a message to that host is still without an answer."""
        return any(b.flight for b in self._outboxes.values() if b.incarnation == incarnation)

    def has_unaccepted(self) -> bool:
        """Whether any message of this host has not been accepted where it goes."""
        return any(not box.is_idle for box in self._outboxes.values())

    def boxes(self) -> list[Outbox]:
        """All outboxes of this host, for ``sweep``."""
        return list(self._outboxes.values())

    def sweep(self, boxes: Iterable[Outbox], now: float) -> None:
        """Forget those of ``boxes`` that have long been idle."""
        for box in boxes:
            if self._outboxes.get(box.id) is not box:
                continue
            if not box.is_idle:
                box.touched_at = now
            elif now - box.touched_at > IDLE_OUTBOX_S:
                del self._outboxes[box.id]
                box.state = State.ROUTING
                if box.sender.outs is not None:
                    box.sender.outs.pop(box.target, None)

    def fail_everything(self, error: RoostError) -> None:
        """This host serves no more: no call of its own can be answered."""
        for box in list(self._outboxes.values()):
            self._fail_all(box, error)
        for call in list(self.calls.values()):
            self._forget(call)
            call.failed(OutcomeUnknown(str(error)))


def _envelope_of(box: Outbox, entry: Entry, version: int) -> Envelope:
    """A message on which nobody waits: a tell; or, where its caller has gone, an empty one that
    fills its number, and runs nothing."""
    target = box.target
    method, payload = (entry.method, entry.payload) if isinstance(entry, Told) else ("", b"")
    return Envelope(
        box.id, entry.seq, box.attempt, 0, target.kind, target.key, method, Mode.TELL,
        Content.MSGPACK, payload, version=version, refused=box.refused,
        replaces=box.replaces if entry.seq == 0 else (),
    )  # fmt: skip
