"""Mover: live moves of activations to other hosts, the old owner's half. An adapter.

Design rules 7, 13 and 14: quiesce, offer, and go on only with a raised epoch, or not at all.
The plan is placement.handoff; the new owner's half is adopter.py.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from actors.activation import Activation
from actors.calls import Sender
from actors.incoming import InCall, LocalInCall, RemoteInCall
from actors.offers import Answer, Offer, Outcome, TimerLeft, Waiting, decode_answers, encode
from actors.phase import Phase
from actors.reasons import Reason
from actors.statistics import Moves
from placement.ports import Claim, Fenced, RegistryError
from placement.records import Claimed, Held, Location
from wire.errors import OutcomeUnknown, RoostError

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.moves")

#: Actors of one offer. Making and taking it holds up either host for 0.1 ms each, which callers
#: feel; a drain is in more of a hurry.
BATCH_MAX, DRAIN_BATCH_MAX = 16, 128
#: Between two of a rebalance's offers to a host others have as long as the offer took, within
#: these bounds (seconds): a host that is busy is given less.
PAUSE_MIN_S, PAUSE_MAX_S = 0.002, 0.1
BATCH_BYTES_MAX = 1 << 20
ANSWER_S = 5.0
RETRY_S = 0.1
OFFER_S = 1.0
POLL_S = 0.005


class Mover:
    """Hands activations to other hosts."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.moved_total = 0
        self.given_up_total = 0
        self.refused_total = 0
        self._since: dict[Activation, float] = {}  # under way, and from when (Trio's clock)
        self._told: dict[Activation, list[InCall]] = {}  # tells from here that an offer names

    def statistics(self) -> Moves:
        """What has become of the moves so far, and what is under way."""
        since = min(self._since.values(), default=math.inf)
        return Moves(
            moved=self.moved_total, given_up=self.given_up_total, refused=self.refused_total,
            running=len(self._since), oldest_s=max(0.0, self._system.now() - since),
        )  # fmt: skip

    @property
    def is_moving(self) -> bool:
        """Whether a move is under way."""
        return bool(self._since)

    async def move(
        self, moves: Sequence[tuple[Activation, str]], deadline: float, *, is_drain: bool
    ) -> int:
        """Move each activation to the incarnation named with it; returns how many moved.

        Those that are not quiet at ``deadline`` (Trio's clock) stay and go on; a drain cancels
        their handlers instead. Those that are refused stay, with a raised epoch.
        """
        before = self.moved_total
        by_host: dict[str, list[Activation]] = defaultdict(list)
        for activation, to in moves:
            by_host[to].append(activation)
        async with trio.open_nursery() as nursery:
            for to, activations in by_host.items():
                nursery.start_soon(self._move_to, to, activations, deadline, is_drain)
        return self.moved_total - before

    async def _move_to(
        self, to: str, activations: list[Activation], deadline: float, is_drain: bool
    ) -> None:
        """Those at rest go in batches; each of the others when it has come to rest."""
        async with trio.open_nursery() as nursery:
            resting = [a for a in activations if self._is_at_rest(a)]
            known = set(map(id, resting))
            for activation in activations:
                if id(activation) not in known:
                    nursery.start_soon(self._move_busy, to, activation, deadline, is_drain)
            step = DRAIN_BATCH_MAX if is_drain else BATCH_MAX
            for start in range(0, len(resting), step):
                batch = [a for a in resting[start : start + step] if self._is_at_rest(a)]
                began = trio.current_time()
                with self._under_way(batch):
                    await self._move_resting(to, batch, is_drain)
                if not is_drain:
                    took_s = trio.current_time() - began
                    await trio.sleep(min(max(took_s, PAUSE_MIN_S), PAUSE_MAX_S))

    @contextmanager
    def _under_way(self, activations: Sequence[Activation]) -> Iterator[None]:
        self._since.update(dict.fromkeys(activations, self._system.now()))
        try:
            yield
        finally:
            for activation in activations:
                self._since.pop(activation, None)
                self._told.pop(activation, None)

    def _is_at_rest(self, activation: Activation) -> bool:
        """Whether it can leave without waiting for its own code: most actors, most of the time."""
        return (
            activation.phase is Phase.ACTIVE
            and not activation.running
            and not activation.active
            and activation.is_bare
            and not self._system.lifecycle.has_hook(activation)
            and activation.has_sent_all()
        )

    async def _move_resting(self, to: str, batch: list[Activation], is_drain: bool) -> None:
        lifecycle = self._system.lifecycle
        async with trio.open_nursery() as nursery:
            for activation in batch:
                activation.phase = Phase.QUIESCING
                if lifecycle.is_dirty(activation):
                    nursery.start_soon(lifecycle.save_before_leaving, activation)
        await self._hand_over(to, [a for a in batch if a.is_in(Phase.QUIESCING)], is_drain)

    async def _move_busy(
        self, to: str, activation: Activation, deadline: float, is_drain: bool
    ) -> None:
        if activation.is_in(Phase.ACTIVE):
            with self._under_way([activation]):
                await self._move_one(to, activation, deadline, is_drain)

    async def _move_one(
        self, to: str, activation: Activation, deadline: float, is_drain: bool
    ) -> None:
        activation.phase = Phase.QUIESCING
        timers = activation.take_timers()
        at_rest = await self._quiesce(activation, deadline, is_drain)
        if not activation.is_in(Phase.QUIESCING):
            return
        if at_rest:
            await self._hand_over(to, [activation], is_drain, {activation: timers})
        else:
            self.given_up_total += 1
            activation.keep_timers(timers)
            self._system.lifecycle.started(activation)  # never offered: its epoch is still good

    async def _quiesce(self, activation: Activation, deadline: float, is_drain: bool) -> bool:
        """Let it come to rest; whether it did by the deadline. A drain cancels what runs on."""
        lifecycle = self._system.lifecycle
        await activation.close_nursery()
        with trio.CancelScope(deadline=deadline):
            await lifecycle.wait_quiet(activation)
        if activation.running or activation.active:
            if not is_drain:
                return False
            lifecycle.cancel_turns(activation)
            with trio.move_on_after(self._system.config.deactivate_timeout_s):
                await lifecycle.wait_quiet(activation)
        await activation.close_nursery()  # a handler may have opened it again
        if not await self._wait_sent(activation, deadline) and not is_drain:
            return False
        if activation.is_in(Phase.QUIESCING):
            await lifecycle.deactivate(activation, Reason.MOVED)
            await lifecycle.save_before_leaving(activation)
            await self._wait_sent(activation, deadline)  # what on_deactivate sent, too
        return not (activation.running or activation.active)

    async def _wait_sent(self, activation: Activation, deadline: float) -> bool:
        """Wait until all that it sent has been accepted: what it sends from its new place is
        numbered anew, and would overtake the rest. A little before ``deadline`` order gives way.
        """
        with trio.CancelScope(deadline=deadline - OFFER_S):
            while not activation.has_sent_all():
                await trio.sleep(POLL_S)
        return activation.has_sent_all()

    # Offering -----------------------------------------------------------------------------

    async def _hand_over(
        self, to: str, activations: list[Activation], is_drain: bool,
        timers: dict[Activation, list[TimerLeft]] | None = None,
    ) -> None:  # fmt: skip
        left = deque(activations)
        while batch := self._next_batch(left, is_drain, timers or {}):
            answers = await self._ask(to, [offer for _, offer in batch])
            async with trio.open_nursery() as nursery:
                for (activation, offer), answer in zip(batch, answers, strict=True):
                    if activation.phase is not Phase.OFFERED:
                        continue  # this host lost its lease meanwhile
                    if answer is not None and answer.outcome is Outcome.TAKEN:
                        self._taken(activation, to, answer.epoch)
                    else:
                        nursery.start_soon(self._take_back, activation, to, offer, answer)

    def _next_batch(
        self, left: deque[Activation], is_drain: bool, timers: dict[Activation, list[TimerLeft]]
    ) -> list[tuple[Activation, Offer]]:
        """Offers for the first of ``left``: bounded in count and bytes; one larger goes alone.

        They are made only now: whoever waits for an earlier batch still takes messages.
        """
        batch: list[tuple[Activation, Offer]] = []
        size = 0
        most = DRAIN_BATCH_MAX if is_drain else BATCH_MAX
        while left and len(batch) < most:
            activation = left[0]
            if activation.is_in(Phase.QUIESCING):  # else it was killed while it waited
                offer = self._offer(activation, is_drain, timers)
                size += _bytes_of(offer)
                if batch and size > BATCH_BYTES_MAX:
                    break
                activation.phase = Phase.OFFERED
                batch.append((activation, offer))
            left.popleft()
        return batch

    def _offer(
        self, activation: Activation, is_drain: bool, timers: dict[Activation, list[TimerLeft]]
    ) -> Offer:
        activation.requeue_watchers()
        streams = activation.inbox.streams if activation.inbox is not None else {}
        now = trio.current_time()
        along = list(_that_go_along(activation.queue or ()))
        self._told[activation] = [c for c in along if not isinstance(c, RemoteInCall)]
        me = self._system.me.incarnation
        return Offer(
            activation.id.kind, activation.id.key, me,
            activation.epoch, self._system.view.generation,
            self._system.lifecycle.snapshot(activation) or b"",
            [(*key, stream.next_or_ended) for key, stream in streams.items()],
            [_waiting(call, me, now) for call in along],
            timers.get(activation, []), activation.is_durable, is_drain,
            str(activation.spawner or ""), self._system.failures.get(activation.id, ("", 0.0))[0],
        )  # fmt: skip

    async def _ask(self, to: str, offers: list[Offer]) -> Sequence[Answer | None]:
        """The new owner's answers; None for each that is not known."""
        try:
            body = await self._system.router.requests.ask(to, "offer", encode(offers), ANSWER_S)
            answers = decode_answers(body)
        except (RoostError, ValueError) as exc:
            log.warning("offer to %s: %s", self._system.name_of(to), exc)
            return [None] * len(offers)
        return answers if len(answers) == len(offers) else [None] * len(offers)

    def _taken(self, activation: Activation, to: str, epoch: int) -> None:
        """It lives there now: tell its callers, and let go."""
        self.moved_total += 1
        system = self._system
        activation.phase = Phase.ENDED
        activation.is_closing = True
        system.gone(activation)
        system.failures.pop(activation.id, None)  # it went along
        system.router.ways.learn(activation.id, to)
        for told in self._told.pop(activation, ()):
            told.abandoned()  # it went along
        system.router.receiver.moved(activation, to, epoch)
        system.router.turn_away(activation, to)
        system.lifecycle.end_watches(activation)
        activation.let_go()

    async def _take_back(
        self, activation: Activation, to: str, offer: Offer, answer: Answer | None
    ) -> None:
        """Go on here with a raised epoch, or learn that it moved after all."""
        self.refused_total += 1
        if answer is not None and answer.why:
            log.warning("%s stays: %s (%s)", activation.id, answer.outcome, answer.why)
            self._system.record_failure(activation.id, answer.why)
        while self._system.is_serving() and activation.phase is Phase.OFFERED:
            try:
                won = await self._claim_back(activation, to, answer)
            except Fenced:
                return
            except RegistryError as exc:
                log.warning("%s cannot go on yet: %s", activation.id, exc)
                await trio.sleep(RETRY_S)
                continue
            if activation.phase is not Phase.OFFERED or not self._system.is_serving():
                return
            if isinstance(won, Claimed):
                activation.epoch = won.epoch
                self._resume(activation, offer.timers)
            elif won.location.incarnation == to:
                self._taken(activation, to, won.location.epoch)
            else:
                self._went_along(activation)
                self._system.lifecycle.lost_ownership(activation)

    def _went_along(self, activation: Activation) -> None:
        """It was taken, and has moved on since: what went along may have run, so it is not sent
        again."""
        for told in self._told.pop(activation, ()):
            told.abandoned()
        for call in activation.queue or ():
            if isinstance(call, RemoteInCall) and not call.done:
                why = f"{activation.id}.{call.method} may or may not have run: its actor moved on"
                call.fail(OutcomeUnknown(why))

    async def _claim_back(
        self, activation: Activation, to: str, answer: Answer | None
    ) -> Claimed | Held:
        registry, me = self._system.registry, self._system.me.incarnation
        actor, where = str(activation.id), Location(me, activation.epoch)
        if answer is not None and answer.outcome is Outcome.HANDED_BACK:
            where = Location(to, answer.epoch)
        # Named in any case: a free location means that it ran there, and may have saved.
        (won,) = await registry.claim(me, [Claim(actor, where)])
        if isinstance(won, Held) and won.location.incarnation == me:
            # Nobody else here claims it meanwhile: an earlier try was granted, its reply lost.
            (won,) = await registry.claim(me, [Claim(actor, won.location)])
        return won

    def _resume(self, activation: Activation, timers: list[TimerLeft]) -> None:
        activation.keep_timers(timers)
        activation.take_system_messages()
        self._system.lifecycle.resumed(activation)
        self._system.router.resume_blocked(activation)
        activation.admit_waiters()


def _that_go_along(queue: Iterable[InCall]) -> Iterator[InCall]:
    """What is accepted for good: messages from other hosts, and tells from this one, whose senders
    may have moved on. An ask from here comes after with its caller, who is still here; so does
    what the same sender told behind it."""
    asking: set[Sender] = set()
    for call in queue:
        sender = call.told_by()
        if isinstance(call, RemoteInCall) or (sender is not None and sender not in asking):
            yield call
        elif isinstance(call, LocalInCall):
            asking.add(call.out.sender)


def _waiting(call: InCall, me: str, now: float) -> Waiting:
    budget_ms = -1
    if call.expires_at != math.inf:
        budget_ms = max(0, int((call.expires_at - now) * 1000))
    whose = (me, 0, 0)  # of a tell nobody waits for an answer
    if isinstance(call, RemoteInCall):
        whose = call.incarnation, call.call, call.attempt
    return Waiting(
        *whose, call.method, call.mode, call.content, call.payload, budget_ms, call.chain,
        call.headers, call.credit,
    )  # fmt: skip


def _bytes_of(offer: Offer) -> int:
    return len(offer.snapshot) + sum(len(waiting.payload) + 100 for waiting in offer.waiting)
