"""Adopter: takes actors that other hosts hand over, the new owner's half of a move. An adapter.

Design rule 7: check one's own view, decode the snapshot, claim naming the offer, activate.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from actors.activation import Activation
from actors.inbox import Inbox, Incoming
from actors.incoming import RemoteInCall
from actors.offers import Answer, Offer, Outcome, Waiting, decode_offers, encode
from actors.phase import Phase
from actors.reasons import Reason
from actors.routing import may_claim
from placement.ports import Claim, Fenced, RegistryError
from placement.records import Claimed, Held, Location
from wire.ids import ActorId, parse_actor_id
from wire.ports import Peer

if TYPE_CHECKING:
    from actors.kinds import Kind
    from actors.system import System

log = logging.getLogger("roost.moves")

RETRY_S = 0.1


class Adopter:
    """Answers the operation "offer"."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.adopted_total = 0
        system.router.requests.register("offer", self._on_offers)

    async def _on_offers(self, peer: Peer, body: Any) -> bytes:
        offers = decode_offers(body)
        answers: list[Answer] = [Answer(Outcome.DECLINED)] * len(offers)
        wanted: list[tuple[int, Offer, Activation]] = []
        for index, offer in enumerate(offers):
            why, kind = self._objection(offer)
            if why or kind is None:
                answers[index] = Answer(Outcome.DECLINED, 0, why)
            else:
                activation = Activation(self._system, ActorId(offer.kind, offer.key), kind)
                self._system.hold(activation)
                wanted.append((index, offer, activation))
        if wanted:
            won = await self._transfer([offer for _, offer, _ in wanted])
            for (index, offer, activation), claim in zip(wanted, won, strict=True):
                answers[index] = self._settle(offer, activation, claim)
        return encode(answers)

    def _objection(self, offer: Offer) -> tuple[str, Kind | None]:
        """Why the offer is declined, "" when it is not."""
        system = self._system
        target = ActorId(offer.kind, offer.key)
        kind = system.kinds.hosted(offer.kind)
        if not system.is_ready():
            return "", None  # this host leaves too, and would only offer it again
        if kind is None:
            return f"host {system.me.host_id} does not take {offer.kind}", None
        if offer.generation != system.view.generation:
            return "the offer is of another generation", None
        if not offer.is_urgent and not may_claim(system.ring, system.me.incarnation, target, ()):
            return "", None  # our views differ: one of them is old, and the next plan knows better
        if target in system.activations or system.is_full(kind):
            return "", None
        try:
            system.lifecycle.check_snapshot(kind, offer.snapshot)
        except Exception as exc:
            return f"the snapshot of {target} does not decode on {system.me.host_id}: {exc}", None
        return "", kind

    async def _transfer(self, offers: list[Offer]) -> list[Claimed | Held | None]:
        """Claim what is offered; again while the registry is away. None: the lease is lost."""
        system = self._system
        me = system.me.incarnation
        claims = [Claim(f"{o.kind}/{o.key}", Location(o.incarnation, o.epoch)) for o in offers]
        level = logging.WARNING  # once, however long the registry is away
        while system.is_serving() and system.me.incarnation == me:
            try:
                won = list(await system.registry.claim(me, claims))
                return [await self._mine_anyway(w, c) for w, c in zip(won, claims, strict=True)]
            except Fenced as exc:
                system.fenced(str(exc), me)
            except RegistryError as exc:
                log.log(level, "transfers wait: %s", exc)
                level = logging.DEBUG
                await trio.sleep(RETRY_S)
        return [None] * len(offers)

    async def _mine_anyway(self, won: Claimed | Held, claim: Claim) -> Claimed | Held:
        """An earlier attempt whose reply was lost may have made it ours. What is stored by now
        may be newer than the offer: only in this case ``stored`` is set in the answer."""
        me = self._system.me.incarnation
        if isinstance(won, Claimed):
            return Claimed(won.epoch, None)
        if won.location.incarnation == me:
            (won,) = await self._system.registry.claim(me, [Claim(claim.actor, won.location)])
        return won

    def _settle(self, offer: Offer, activation: Activation, won: Claimed | Held | None) -> Answer:
        if not self._system.is_serving() and activation.phase is Phase.CLAIMING:
            self._system.lifecycle.kill(activation, Reason.FENCED)
        if activation.phase is not Phase.CLAIMING or won is None:
            return Answer(Outcome.DECLINED, 0, "the host lost its lease")
        if isinstance(won, Held):
            self._let_go(activation, won.location.incarnation)
            return Answer(Outcome.DECLINED)
        snapshot = offer.snapshot if won.stored is None else won.stored.data
        try:
            self._system.lifecycle.adopt(activation, won.epoch, snapshot)
        except Exception as exc:
            log.error("%s could not be restored", activation.id, exc_info=exc)
            self._let_go(activation, offer.incarnation)
            why = f"{activation.id}: restore raised {type(exc).__name__}: {exc}"
            return Answer(Outcome.HANDED_BACK, won.epoch, why)
        self.adopted_total += 1
        self._system.failures.pop(activation.id, None)
        if offer.trouble:
            self._system.record_failure(activation.id, offer.trouble)
        self._continue(activation, offer)
        return Answer(Outcome.TAKEN, won.epoch)

    def _let_go(self, activation: Activation, location: str) -> None:
        """Not ours after all: what was taken on trial goes where it lives."""
        activation.epoch = 0
        activation.phase = Phase.ENDED
        activation.is_closing = True
        self._system.gone(activation)
        self._system.router.turn_away(activation, location)

    def _continue(self, activation: Activation, offer: Offer) -> None:
        """Take over streams, waiting messages and timers; then let it run."""
        activation.spawner = parse_actor_id(offer.spawner) if offer.spawner else None
        inbox = activation.inbox = activation.inbox or Inbox()
        now = trio.current_time()
        for incarnation, number, expected in offer.streams:
            stream = inbox.streams[incarnation, number] = Incoming()
            stream.take_over(expected, now)
        activation.is_durable = offer.is_durable
        trial, activation.queue = activation.queue, deque()
        for waiting in offer.waiting:
            self._admit(activation, waiting, now)
        activation.queue = (activation.queue or deque()) + (trial or deque())
        activation.take_system_messages()
        self._system.lifecycle.resumed(activation)
        activation.keep_timers(offer.timers)

    def _admit(self, activation: Activation, waiting: Waiting, now: float) -> None:
        expires_at = math.inf if waiting.budget_ms < 0 else now + waiting.budget_ms / 1000
        call = RemoteInCall.of(activation, waiting.incarnation, waiting, expires_at)
        self._system.router.receiver.remember(call)
        activation.admit(call)
