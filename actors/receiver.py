"""Receiver: envelopes from other hosts into mailboxes here, and the answers back.

Each envelope is accepted or refused, at once or after one look at the registry. What is refused
is not kept: the sender has it. A mailbox never stalls a link.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from actors.activation import Activation
from actors.inbox import Inbox, Incoming, StreamKey, Verdict
from actors.incoming import RemoteInCall
from actors.outbox import ANY, REPLACED_MAX
from actors.phase import Phase
from actors.routing import may_claim
from placement.ports import RegistryError
from placement.records import Location
from wire.errors import RoostError, UnknownKind
from wire.ids import ActorId, actor_id
from wire.items import (
    BLOCKED,
    Accepted,
    Cancel,
    Envelope,
    Grant,
    Moved,
    Refusal,
    Refused,
    Resume,
    Tells,
)
from wire.ports import Peer

if TYPE_CHECKING:
    from actors.router import Router

EARLY_CANCELS_MAX = 10_000
ACK_EVERY_S = 0.02
IDLE_STREAM_S = 300.0


_ACCEPT = Verdict.ACCEPT


class Receiver:
    """What other hosts' messages meet on this one."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._calls: dict[tuple[str, int], RemoteInCall] = {}
        self._early_cancels: dict[tuple[str, int], None] = {}
        self._unconfirmed: dict[StreamKey, Incoming] = {}
        self._owed = trio.Event()  # set when something is unconfirmed
        self._asking: dict[ActorId, dict[StreamKey, Envelope]] = {}
        self._ack_count = max(1, router.system.config.window // 4)

    def on_envelope(self, peer: Peer, envelope: Envelope) -> None:
        """Accept or refuse one message."""
        system = self._router.system
        activation = system.activations.get((envelope.kind, envelope.key))  # type: ignore[call-overload]
        if activation is None:
            activation = self._activation_for(peer, envelope)
            if activation is None:
                return
        inbox = activation.inbox
        if inbox is None:
            inbox = activation.inbox = Inbox()
        key = (peer.incarnation, envelope.stream)
        verdict = inbox.judge(key, envelope.seq, envelope.attempt)
        if verdict is not _ACCEPT:
            self._not_next(activation, key, envelope, verdict)
            return
        refusal = activation.refusal(envelope.method) if envelope.method else None
        if refusal is not None:
            self._refuse(activation, key, envelope, refusal)
            return
        now = self._router.now
        stream = inbox.accept(key, now, system.config.streams_max)
        for over in envelope.replaces[:REPLACED_MAX]:
            inbox.end((peer.incarnation, over), now, system.config.streams_max)
        if envelope.method:
            expires_at = now + envelope.budget_ms / 1000 if envelope.budget_ms >= 0 else math.inf
            call = RemoteInCall.of(activation, peer.incarnation, envelope, expires_at)
            if call.call:
                self.remember(call)
            activation.admit(call)
        self._note(activation, key, stream)

    def on_tells(self, peer: Peer, tells: Tells) -> None:
        """Accept what has been told in a row: all of it, if that is the plain case, else one by
        one."""
        activation = self._router.system.activations.get((tells.kind, tells.key))  # type: ignore[call-overload]
        key = (peer.incarnation, tells.stream)
        count = len(tells.payloads)
        spec = activation.for_tells(tells.method, count) if activation is not None else None
        if activation is not None and spec is not None:
            inbox = activation.inbox
            if inbox is None:
                inbox = activation.inbox = Inbox()
            if inbox.judge(key, tells.seq, tells.attempt) is _ACCEPT:
                streams_max = self._router.system.config.streams_max
                stream = inbox.accept(key, self._router.now, streams_max, count)
                activation.take_tells(peer.incarnation, spec, tells.payloads)
                self._note(activation, key, stream)
                return
        for envelope in tells.envelopes():
            self.on_envelope(peer, envelope)

    def remember(self, call: RemoteInCall) -> None:
        """Let cancels, grants and the deadline reach it; one that is cancelled already is done."""
        if not call.call:
            return
        key = (call.incarnation, call.call)
        if self._early_cancels and key in self._early_cancels:
            del self._early_cancels[key]
            call.done = True
            return
        self._calls[key] = call
        if call.expires_at != math.inf:
            self._router.wheel.add(call, call.expires_at)

    def moved(self, activation: Activation, location: str, epoch: int) -> None:
        """It lives at ``location`` now, with all that was accepted here: tell its callers."""
        inbox, activation.inbox = activation.inbox or Inbox(), None
        for key, stream in inbox.streams.items():
            self._unconfirmed.pop(key, None)
            self._confirm(key, stream)
        for key in inbox.streams | inbox.blocked:  # a blocked one's first message was refused
            self._router.answer(key[0], Moved(key[1], location, epoch))
        for call in activation.queue or ():
            if isinstance(call, RemoteInCall):
                call.abandoned()  # its answer comes from there

    # Refusing -----------------------------------------------------------------------------

    def _not_next(
        self, activation: Activation, key: StreamKey, envelope: Envelope, verdict: Verdict
    ) -> None:
        if verdict is Verdict.GAP:
            self._refuse(activation, key, envelope, Refusal.GAP)
        elif verdict is Verdict.UNKNOWN:
            self._refuse(activation, key, envelope, Refusal.UNKNOWN_STREAM)
        elif verdict is Verdict.DUPLICATE and activation.epoch and activation.inbox is not None:
            expected = activation.inbox.streams[key].expected
            self._answer(key, Accepted(key[1], expected - 1))  # it has not heard so, or not yet

    def _refuse(
        self, activation: Activation, key: StreamKey, envelope: Envelope, reason: Refusal
    ) -> None:
        inbox = activation.inbox
        assert inbox is not None
        stream = inbox.streams.get(key)
        taken = stream if activation.epoch else None
        taken = taken or self._unconfirmed.get(key)  # by an activation that is gone
        if taken is not None:
            self._confirm(key, taken)  # so that the sender knows the fate of all before it
        inbox.refuse(key, envelope.attempt, until_room=reason in BLOCKED)
        activation.end_row()  # each message that goes makes room, which a row does not look at
        expected = stream.expected if stream is not None else 0
        self._answer(key, Refused(
            envelope.stream, envelope.seq, envelope.attempt, reason, expected, "",
            activation.epoch,
        ))  # fmt: skip

    def _answer(self, key: StreamKey, item: Refused | Accepted | Resume) -> None:
        self._router.answer(key[0], item)

    def resume_blocked(self, activation: Activation) -> None:
        """Its mailbox has room: let those go on who were refused for it."""
        if activation.inbox is None:
            return
        blocked, activation.inbox.blocked = activation.inbox.blocked, {}
        for key in blocked:
            self._answer(key, Resume(key[1]))

    def turn_away(self, activation: Activation, location: str) -> None:
        """This host does not have the actor after all: refuse what was taken on trial."""
        inbox, activation.inbox = activation.inbox, None
        for key, stream in (inbox.streams if inbox is not None else {}).items():
            self._unconfirmed.pop(key, None)
            if not activation.epoch:
                self._answer(key, Refused(key[1], 0, ANY, Refusal.MOVED, 0, location))
            else:
                self._confirm(key, stream)
        for key in inbox.blocked if inbox is not None else ():
            self._answer(key, Resume(key[1]))

    # Actors that do not run here ----------------------------------------------------------

    def _activation_for(self, peer: Peer, envelope: Envelope) -> Activation | None:
        """Start the actor if it belongs here; else find out where, or say why not."""
        system = self._router.system
        key = (peer.incarnation, envelope.stream)
        if not system.is_serving():
            if system.is_joining():  # others may have seen it up before it has itself
                self._router.transmit(key[0], _moved(envelope, ""))
            return None  # else no answer: the sender hears of it when the session is lost
        try:
            target = actor_id(envelope.kind, envelope.key)
        except RoostError as exc:
            self._answer(key, _error(envelope, exc))
            return None
        if target in self._asking:
            first = self._asking[target].setdefault(key, envelope)
            if envelope.attempt > first.attempt:  # an answer to an older one would mean nothing
                self._asking[target][key] = envelope
        elif (
            envelope.version > system.view.version
            or not system.is_ready()
            or not may_claim(system.ring, system.me.incarnation, target, envelope.refused)
        ):
            self._ask(target, key, envelope)
        else:
            return self._start(target, key, envelope)
        return None

    def _start(self, target: ActorId, key: StreamKey, envelope: Envelope) -> Activation | None:
        system = self._router.system
        kind = system.kinds.hosted(target.kind)
        if kind is None:
            self._answer(key, _no_such_kind(envelope) if system.is_local else _moved(envelope, ""))
            return None
        if system.is_full(kind):
            self._answer(key, _refused(envelope, Refusal.NO_CAPACITY))
            return None
        return system.start(target, kind, is_spilled=bool(envelope.refused))

    def _ask(self, target: ActorId, key: StreamKey, envelope: Envelope) -> None:
        """Look in the registry once for all who ask; meanwhile nothing is kept but who asks."""
        waiting = {key: envelope}
        self._asking[target] = waiting

        def found(where: Location | None, error: RegistryError | None) -> None:
            del self._asking[target]
            self._found(target, waiting, where, error)

        self._router.resolver.ask(target, found)

    def _found(
        self, target: ActorId, waiting: dict[StreamKey, Envelope], where: Location | None,
        error: RegistryError | None,
    ) -> None:  # fmt: skip
        system = self._router.system
        me = system.me.incarnation
        alive = where is not None and error is None and self._router.is_live(where.incarnation)
        if alive and where is not None and where.incarnation != me:
            self._redirect(waiting, where.incarnation)
            return
        for key, envelope in waiting.items():
            mine = system.is_ready() and (
                alive or may_claim(system.ring, me, target, envelope.refused)
            )
            if error is None and mine and target not in system.activations:
                self._start(target, key, envelope)
            # Refused all the same, since what followed it was dropped: it comes again, in order.
            self._answer(key, _moved(envelope, me if target in system.activations else ""))

    def _redirect(self, waiting: dict[StreamKey, Envelope], incarnation: str) -> None:
        for key, envelope in waiting.items():
            self._answer(key, _moved(envelope, incarnation))

    # Confirming ---------------------------------------------------------------------------

    def _note(self, activation: Activation, key: StreamKey, stream: Incoming) -> None:
        """Confirm many at once; the replies of asks confirm by themselves.

        What is taken on trial is confirmed when the claim is won, and not before.
        """
        if not activation.epoch:
            return
        if stream.expected - stream.acknowledged >= self._ack_count:
            self._unconfirmed.pop(key, None)
            self._confirm(key, stream)
        else:
            if not self._unconfirmed:
                self._owed.set()
            self._unconfirmed[key] = stream

    def _confirm(self, key: StreamKey, stream: Incoming) -> None:
        if stream.acknowledged < stream.expected:
            stream.acknowledged = stream.expected
            self._answer(key, Accepted(key[1], stream.expected - 1))

    def confirm_all(self, activation: Activation) -> None:
        """Its claim is won: what was taken on trial is taken for good."""
        for key, stream in (activation.inbox.streams if activation.inbox else {}).items():
            self._confirm(key, stream)

    async def run(self) -> None:
        """Confirm, a little later, what nothing else has confirmed; for ever."""
        while True:
            await self._owed.wait()
            self._owed = trio.Event()
            await trio.sleep(ACK_EVERY_S)
            unconfirmed, self._unconfirmed = self._unconfirmed, {}
            for key, stream in unconfirmed.items():
                self._confirm(key, stream)

    # Calls under way ----------------------------------------------------------------------

    def on_cancel(self, peer: Peer, cancel: Cancel) -> None:
        """The caller waits no more. A cancel that overtakes its envelope is remembered."""
        key = (peer.incarnation, cancel.call)
        call = self._calls.get(key)
        if call is None:
            if len(self._early_cancels) >= EARLY_CANCELS_MAX:
                del self._early_cancels[next(iter(self._early_cancels))]
            self._early_cancels[key] = None
            return
        call.abandoned()
        call.activation.cancel(call)

    def on_grant(self, peer: Peer, grant: Grant) -> None:
        call = self._calls.get((peer.incarnation, grant.call))
        if call is not None:
            call.grant(grant.items)

    def forget(self, call: RemoteInCall) -> None:
        """It has ended."""
        self._calls.pop((call.incarnation, call.call), None)

    def lost(self, incarnation: str) -> None:
        """Nobody waits there any more: cancel what runs for it."""
        for (sender, _), call in list(self._calls.items()):
            if sender == incarnation:
                call.abandoned()
                call.activation.cancel(call)

    def sweep(self, activations: Iterable[Activation], now: float) -> None:
        """Forget streams to ``activations`` that have long been idle."""
        for activation in activations:
            if activation.inbox is not None and activation.phase is Phase.ACTIVE:
                activation.inbox.forget_idle(now - IDLE_STREAM_S)
                if not activation.inbox.streams and not activation.inbox.blocked:
                    activation.inbox = None


def _refused(envelope: Envelope, reason: Refusal) -> Refused:
    return Refused(envelope.stream, envelope.seq, envelope.attempt, reason)


def _moved(envelope: Envelope, location: str) -> Refused:
    return Refused(envelope.stream, envelope.seq, envelope.attempt, Refusal.MOVED, 0, location)


def _no_such_kind(envelope: Envelope) -> Refused:
    what = f"kind {envelope.kind!r} ({envelope.kind}/{envelope.key}) is not known to this system"
    return _error(envelope, UnknownKind(what))


def _error(envelope: Envelope, exc: RoostError) -> Refused:
    return Refused(
        envelope.stream, envelope.seq, envelope.attempt, Refusal.ERROR, 0, "", 0, exc.code,
        exc.message,
    )  # fmt: skip
