"""Router: every call starts here, and every item from a link arrives here.

A call goes straight into a mailbox when its actor runs on this host, else through an outbox.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import trio

from actors.activation import Activation
from actors.calls import Call, Sender
from actors.deadlines import DeadlineWheel
from actors.incoming import CURRENT, LocalInCall
from actors.outgoing import Outgoing
from actors.parts import in_parts
from actors.peers import PeerRequests
from actors.receiver import Receiver
from actors.resolver import Resolver
from actors.routing import Ways, may_claim
from actors.rows import PASS_S, TOLD_PER_PASS
from wire.errors import MailboxFull, NotDelivered, RoostError, Unavailable
from wire.ids import ActorId
from wire.items import (
    Accepted,
    Cancel,
    Chunk,
    Content,
    Envelope,
    Failure,
    Goaway,
    Grant,
    Item,
    Mode,
    Moved,
    Refusal,
    Refused,
    Reply,
    Request,
    Response,
    Resume,
    Tells,
)
from wire.ports import Links, Peer

if TYPE_CHECKING:
    from actors.ref import BoundAsk
    from actors.system import System

log = logging.getLogger("roost.actors")

SWEEP_S = 30.0
GOODBYE_POLL_S = 0.005
#: Callers that need not wait let others run after so many calls, or so long (seconds).
CALLS_PER_PASS = 32


class Router:
    """Implements wire.ports.LinkHandler for one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.wheel = DeadlineWheel()
        self.now = 0.0  # when the items came that are dealt with now
        self._passed = 0  # calls whose callers did not have to wait
        self.told = 0  # tells in a row whose callers did not have to wait
        self._pass_due = 0.0  # when the next one lets others run (Trio's clock)
        self.links: Links | None = None
        self.ways = Ways(system.config.locations_max, self.is_live)
        self.resolver = Resolver(system)
        self.outgoing = Outgoing(self)
        self.receiver = Receiver(self)
        self.requests = PeerRequests(self)
        self._peers: dict[str, Peer] = {}  # every incarnation that lives or has spoken to us
        self._leaving: set[str] = set()  # they have said goodbye: nothing new goes there
        self._to_self: list[Item] = []
        self._self_wake = trio.Event()
        self.requests.register("goodbye", self._goodbye)
        self._on: dict[type, Callable[[Peer, Any], None]] = {
            Envelope: self.receiver.on_envelope,
            Tells: self.receiver.on_tells,
            Reply: self.outgoing.on_reply,
            Failure: lambda peer, item: self.outgoing.on_failure(item),
            Accepted: lambda peer, item: self.outgoing.on_accepted(item),
            Refused: lambda peer, item: self.outgoing.on_refused(item, peer.incarnation),
            Moved: lambda peer, item: self.outgoing.on_moved(item, peer.incarnation),
            Resume: lambda peer, item: self.outgoing.on_resume(item),
            Cancel: self.receiver.on_cancel,
            Chunk: lambda peer, item: self.outgoing.on_chunk(item),
            Grant: self.receiver.on_grant,
            Goaway: lambda peer, item: None,  # the view says the same, to everyone
            Request: self.requests.on_request,
            Response: lambda peer, item: self.requests.on_response(item),
        }

    # Calls of this host -------------------------------------------------------------------

    def submit(self, call: Call, at_once: bool = False) -> None:
        """Send ``call`` on its way; what becomes of it is told to the call itself.

        ``at_once``: an actor on this host that has nothing else to do begins before this returns.
        """
        if not self.system.serving or self.system.is_leaving:
            call.failed(Unavailable(f"{call.target}.{call.method}: this host serves nothing now"))
            return
        outs = call.sender.outs
        box = outs.get(call.target) if outs is not None else None
        activation = self.system.activations.get(call.target)
        if box is not None and (activation is None or not box.is_idle):
            if box.has_room() and self.outgoing.may_send(box.incarnation):
                self.outgoing.transmit_now(box, call)
            elif not box.is_idle:
                self.outgoing.push(call)  # behind what it has sent before
            else:
                self._start_or_send(call)
        elif activation is None or activation.is_closing:
            self._start_or_send(call)
        else:
            activation.offer_local(call, at_once)

    def tell_now(self, bound: BoundAsk, payload: bytes) -> bool:
        """Send a tell if it need not wait: its actor runs here and has room, or the window to
        where it runs is open."""
        target, method, headers = bound.id, bound.spec.name, bound.headers
        current = CURRENT.get()
        is_ours = current is not None and current.activation.system is self.system
        sender = current.activation if current is not None and is_ours else self.system.root
        box = sender.outs.get(target) if sender.outs is not None else None
        activation = self.system.activations.get(target)
        if box is None or (activation is not None and box.is_idle):
            if activation is None or not activation.tell(sender, method, payload, headers):
                return False
            row = activation.row
            bound.row = row if row is not None and row.spec is bound.spec else None
            return True
        if headers is None:
            return self.outgoing.tell(box, method, payload)
        if not (box.has_room() and self.outgoing.may_send(box.incarnation)):
            return False
        self.outgoing.transmit_now(box, self._tell(sender, target, method, payload, headers))
        return True

    def is_pass_due(self, now: float = 0.0) -> bool:
        """Whether a caller that did not have to wait lets others run first: after so many of
        them, or so much time.

        A call takes a few microseconds; to let others run after each would take as many.
        """
        self._passed += 1
        if self._passed < CALLS_PER_PASS and now < self._pass_due:
            return False
        self._passed = 0
        self._pass_due = max(self._pass_due, now + PASS_S)  # tells do not tell the time
        return True

    def is_told_enough(self) -> bool:
        """The same for tells in a row, whose callers ask after each TOLD_PER_LOOK only: a look at
        the clock costs a fifth of a tell."""
        now = self.system.now()
        if self.told < TOLD_PER_PASS and now < self._pass_due:
            return False
        self.told = 0
        self._pass_due = now + PASS_S
        return True

    def _tell(
        self, sender: Sender, target: ActorId, method: str, payload: bytes,
        headers: dict[str, str] | None,
    ) -> Call:  # fmt: skip
        return Call(
            self, sender, target, method, Mode.TELL, Content.MSGPACK, payload, math.inf, (), headers
        )

    def _start_or_send(self, call: Call) -> None:
        system = self.system
        target = call.target
        if (
            target not in system.activations
            and not self.ways.get(target)
            and system.is_ready()
            and may_claim(system.ring, system.me.incarnation, target, ())
        ):
            kind = system.kinds.hosted(target.kind)
            if kind is not None and not system.is_full(kind):
                system.start(target, kind).offer_local(call)
                return
        self.outgoing.push(call)

    def abandon(self, call: Call) -> None:
        """The caller waits no more, wherever the call is: cancel its handler."""
        inner = call.local
        if inner is not None:
            inner.abandoned()
            inner.activation.cancel(inner)
        elif call.entry is not None:
            self.outgoing.abandon(call)
        else:
            activation = self.system.activations.get(call.target)
            if activation is not None:
                activation.abandon_waiter(call)

    def grant(self, call: Call, items: int) -> None:
        """The consumer of a stream can take ``items`` more."""
        if call.local is not None:
            call.local.grant(items)
        else:
            self.outgoing.grant(call, items)

    def late(self, call: Call) -> RoostError:
        """The error of a call that waited for its actor until the deadline."""
        where = f"{call.target}.{call.method}"
        activation = self.system.activations.get(call.target)
        reason = activation.refusal(call.method) if activation is not None else None
        if reason is Refusal.FULL:
            return MailboxFull(f"{where}: the mailbox stayed full until the deadline")
        if reason is Refusal.MOVING:
            return NotDelivered(f"{where}: not delivered, as its actor moves, before the deadline")
        return NotDelivered(f"{where}: not delivered before the deadline")

    def full(self, call: Call) -> RoostError:
        return MailboxFull(f"{call.target}.{call.method}: the mailbox is full")

    def turn_away(self, activation: Activation, location: str) -> None:
        """The actor is not here (any more): its waiting messages go where it is."""
        if location and self.is_live(location):
            self.ways.learn(activation.id, location)
        self.receiver.turn_away(activation, location)
        calls: list[Call] = []
        for waiting in activation.take_waiting():
            if waiting.done:
                continue
            sender = waiting.told_by()
            if sender is not None:
                calls.append(
                    self._tell(
                        sender, activation.id, waiting.method, waiting.payload, waiting.headers
                    )
                )
            elif isinstance(waiting, LocalInCall):
                calls.append(waiting.out)
            elif activation.epoch:
                waiting.fail(NotDelivered(f"{activation.id} has left this host"))
            else:
                waiting.abandoned()  # refused with its stream: it comes again, elsewhere
        for call in calls:
            if not call.done:
                call.local = None
                self.outgoing.push(call, location)
        self.send_waiters(activation, location)

    def send_waiters(self, activation: Activation, location: str = "") -> None:
        """Who waits for room goes where the actor will be, before what is sent from now on."""
        waiters, activation.waiters = activation.waiters, None
        for call in waiters or ():
            if not call.done:
                self.outgoing.push(call, location)

    # Links --------------------------------------------------------------------------------

    def is_live(self, incarnation: str) -> bool:
        """Whether the view takes that incarnation for alive."""
        return incarnation in self.system.members and incarnation not in self._leaving

    def is_reachable(self, incarnation: str) -> bool:
        """Whether a connection to that host stands at this moment."""
        if self.links is None or incarnation == self.system.me.incarnation:
            return True
        return self.links.connected(incarnation)

    def transmit(self, incarnation: str, item: Item) -> bool:
        """Queue ``item`` to a host; False: send no envelopes there until there is room."""
        if incarnation == self.system.me.incarnation:
            self._to_self.append(item)
            self._self_wake.set()
            return True
        peer = self._peers.get(incarnation)
        if peer is None or self.links is None:
            return True  # it is gone: the view's next change ends what was sent there
        return self.links.send(peer, item)

    def answer(self, incarnation: str, item: Item) -> None:
        """Send what answers a host's message; a host without its lease says nothing."""
        if self.system.is_serving():
            self.transmit(incarnation, item)

    def set_peers(self, peers: dict[str, Peer]) -> None:
        """The live hosts of a new view; those that are gone lose their sessions."""
        gone = [incarnation for incarnation in self._peers if incarnation not in peers]
        self._peers = peers
        self._leaving &= peers.keys()
        for incarnation in gone:
            if self.links is not None:
                self.links.drop(incarnation, "the cluster takes it for dead")
            self._lost(incarnation, "its host is dead", frozenset())

    def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
        """See wire.ports.LinkHandler."""
        if peer.incarnation not in self._peers:
            self._peers[peer.incarnation] = peer
        on = self._on
        self.now = self.system.now()
        for item in items:
            try:
                on[type(item)](peer, item)
            except Exception:  # a fault of ours must not take the link down with it
                log.exception("an item from %s was not handled: %r", peer.host_id, type(item))

    def on_lost(self, peer: Peer, reason: str) -> None:
        """See wire.ports.LinkHandler."""
        unsent = self.links.unsent(peer.incarnation) if self.links is not None else frozenset()
        self._lost(peer.incarnation, reason, unsent)

    def on_room(self, peer: Peer) -> None:
        """See wire.ports.LinkHandler."""
        self.outgoing.room(peer.incarnation)

    async def wait_accepted(self, timeout_s: float) -> None:
        """Wait until all that this host has sent is accepted: its senders were told that it was
        taken (rule 14), and nobody else will send it."""
        with trio.move_on_after(timeout_s):
            while self.outgoing.has_unaccepted():
                await trio.sleep(GOODBYE_POLL_S)

    async def take_leave(self, timeout_s: float) -> None:
        """Ask every other host to send nothing more here, and answer what is under way until
        each has said that it has all its answers (rule 15)."""
        system = self.system

        async def part(incarnation: str) -> None:
            try:
                await self.requests.ask(incarnation, "goodbye", None, timeout_s)
            except RoostError as exc:
                log.info("no goodbye from %s: %s", system.name_of(incarnation), exc)

        async with trio.open_nursery() as nursery:
            for incarnation in list(system.members):
                if incarnation != system.me.incarnation:
                    nursery.start_soon(part, incarnation)

    async def _goodbye(self, peer: Peer, body: object) -> bool:
        """A host leaves: route around it, and answer once nothing is under way to it."""
        self._leaving.add(peer.incarnation)
        self.outgoing.avoid(peer.incarnation)
        while peer.incarnation in self._leaving and self.outgoing.has_flight(peer.incarnation):
            await trio.sleep(GOODBYE_POLL_S)
        return True

    def _lost(self, incarnation: str, why: str, unsent: Collection[tuple[int, int]]) -> None:
        self.outgoing.lost(incarnation, why, unsent)
        self.receiver.lost(incarnation)
        self.requests.lost(incarnation)

    # For the parts ------------------------------------------------------------------------

    def resume_blocked(self, activation: Activation) -> None:
        self.receiver.resume_blocked(activation)

    def confirm_all(self, activation: Activation) -> None:
        self.receiver.confirm_all(activation)

    async def run(self) -> None:
        """Deadlines, look-ups, late confirmations; for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.wheel.run)
            nursery.start_soon(self.resolver.run)
            nursery.start_soon(self._deliver_to_self)
            nursery.start_soon(self._sweep)
            if self.links is not None:
                nursery.start_soon(self.receiver.run)

    async def _deliver_to_self(self) -> None:
        while True:
            await self._self_wake.wait()
            self._self_wake = trio.Event()
            while self._to_self:
                items, self._to_self = self._to_self, []
                self.on_items(self.system.me, items)
                await trio.lowlevel.checkpoint()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_S)
            async for boxes in in_parts(self.outgoing.boxes()):
                self.outgoing.sweep(boxes, trio.current_time())
            async for activations in in_parts(list(self.system.activations.values())):
                self.receiver.sweep(activations, trio.current_time())
