"""Rebalancer: after a view change, hand over what the ring now gives to others. An adapter.

Design rule 13: coalesced views, capped rounds, idle actors first, never a barrier. What a cap or
a busy actor put off is planned again from where things are then.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import trio

from actors.activation import Activation
from actors.mover import Mover
from actors.parts import in_parts
from actors.phase import Phase
from actors.routing import choose
from placement.handoff import Caps, Move, Owned, Plan, misplaced
from placement.records import Member, MemberState
from wire.ids import ActorId

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.moves")

COALESCE_S = 1.0
MOVE_DEADLINE_S = 5.0
RETRY_S = 1.0
#: Trying to move an actor keeps its messages waiting; one whose handlers go on and on, such as
#: streams of a chat room, is tried again after this long, doubled each time up to the most (s).
PUT_OFF_S, PUT_OFF_MAX_S = 10.0, 600.0
#: One that is idle, and was refused by its new owner (which is full, has another view, or cannot
#: restore it) costs a claim at each try: the same for it (seconds).
REFUSED_S, REFUSED_MAX_S = 1.0, 60.0
#: Actors looked at before the loop gets a turn: about a millisecond.
SCAN_CHUNK = 200
#: Idle actors whose moves begin together. Beginning one takes 10 us of the loop, at one go.
IDLE_AT_ONCE = 128

_STARTS = (Phase.CLAIMING, Phase.STARTING, Phase.RESTARTING)


class Pauses:
    """Until when moves are not tried again: after each try for twice as long as before."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._until: dict[str, tuple[float, float]] = {}  # by actor; and the pause after that

    def is_due(self, move: Move) -> bool:
        until, _ = self._until.get(move.actor, (0.0, 0.0))
        return trio.current_time() >= until

    def put_off(self, moves: list[Move]) -> None:
        now = trio.current_time()
        for move in moves:
            _, pause_s = self._until.get(move.actor, (0.0, self._first_s))
            self._until[move.actor] = now + pause_s, min(pause_s * 2, self._most_s)

    def clear(self) -> None:
        self._until.clear()


class Rebalancer:
    """Plans and runs the moves of one host."""

    def __init__(self, system: System, caps: Caps | None = None) -> None:
        self._system = system
        self._caps = caps or Caps()
        self._changed = trio.Event()
        self._progress = trio.Event()
        self._under_way = 0
        self._idle_under_way = 0
        self._is_one_to_come = False
        self._busy = Pauses(PUT_OFF_S, PUT_OFF_MAX_S)
        self._refused = Pauses(REFUSED_S, REFUSED_MAX_S)
        self.mover = Mover(system)

    def view_changed(self) -> None:
        """A newer view has been taken over."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the views, for ever."""
        while True:
            await self._changed.wait()
            await trio.sleep(COALESCE_S)
            self._changed = trio.Event()
            await self._balance()

    async def _balance(self) -> None:
        """Move until nothing is misplaced; an actor that is busy holds up only itself."""
        self._refused.clear()  # what one view refused, the next may take
        while not self._changed.is_set() and self._may_move():
            plan = Plan()
            async for part in self._misplaced():
                plan.add(part)
            if plan.is_empty and not self._under_way and not self._is_one_to_come:
                self._busy.clear()
                return
            begun = 0
            while not plan.is_empty or self._under_way:
                if self._changed.is_set() or not self._may_move():
                    return
                begun += self._begin_next(plan)
                await self._wait_progress()
            if not begun:
                await self._wait_progress()

    async def _wait_progress(self) -> None:
        with trio.move_on_after(RETRY_S):
            await self._progress.wait()
        self._progress = trio.Event()

    def _begin_next(self, plan: Plan) -> int:
        """Begin as many of the plan's moves as may be under way: idle actors go together, some of
        them at a time, and each busy one on its own. Returns how many."""
        room = self._caps.allowed(len(self._system.activations)) - self._under_way
        idle: list[Move] = []
        count = 0
        most_idle = IDLE_AT_ONCE - self._idle_under_way
        while count < room and len(idle) < most_idle and (move := plan.take()) is not None:
            activation = self._system.activations.get(_id_of(move.actor))
            if activation is None or activation.phase is not Phase.ACTIVE:
                continue
            is_busy = bool(activation.running or activation.depth)
            if (self._busy if is_busy else self._refused).is_due(move):
                count += 1
                if is_busy:
                    self._begin([move], self._busy)
                else:
                    idle.append(move)
        if idle:
            self._idle_under_way += len(idle)
            self._begin(idle, self._refused)
        return count

    def _begin(self, moves: list[Move], pauses: Pauses) -> None:
        self._under_way += len(moves)
        self._system.nursery.start_soon(self._move, moves, pauses)

    async def _move(self, moves: list[Move], pauses: Pauses) -> None:
        chosen = self._activations([(m.actor, m.to) for m in moves])
        deadline = trio.current_time() + MOVE_DEADLINE_S
        try:
            moved = await self.mover.move(chosen, deadline, is_drain=False)
            log.debug("moved %d of %d actors", moved, len(moves))
            stayed = [m for m in moves if _id_of(m.actor) in self._system.activations]
            pauses.put_off(stayed)
            if moved == 0:
                await trio.sleep(RETRY_S)
        finally:
            self._under_way -= len(moves)
            if pauses is self._refused:
                self._idle_under_way -= len(moves)
            self._progress.set()

    def _may_move(self) -> bool:
        """A host that is merely not ready keeps what it has (rule 16)."""
        system = self._system
        member = system.members.get(system.me.incarnation)
        is_up = member is not None and member.ready and member.state is MemberState.UP
        return is_up and system.is_serving()

    async def _misplaced(
        self, *, spilled_too: bool = False
    ) -> AsyncIterator[list[tuple[Owned, str]]]:
        """What runs here now and belongs to others, in parts."""
        self._is_one_to_come = False
        async for activations in in_parts(list(self._system.activations.values()), SCAN_CHUNK):
            owned, me = self._owned(activations), self._system.me.incarnation
            yield misplaced(owned, self._owner, me, spilled_too=spilled_too)

    def _owned(self, activations: list[Activation]) -> list[Owned]:
        """Those of them that run, but for the many whose place on the ring is plainly here.

        One that belongs elsewhere and still starts here moves once it runs, and is noted.
        """
        now, me, ring = trio.current_time(), self._system.me.incarnation, self._system.ring
        owned: list[Owned] = []
        for activation in activations:
            phase = activation.phase
            if phase is not Phase.ACTIVE and phase not in _STARTS:
                continue
            name = str(activation.id)
            first = ring.owner(name)
            if first is not None and first.incarnation == me:
                continue
            if phase is Phase.ACTIVE:
                busy = activation.running or activation.depth
                idle_s = 0.0 if busy else max(0.001, now - activation.idle_since)
                owned.append(Owned(name, idle_s, activation.is_spilled))
            elif not activation.is_spilled and self._owner(name) not in ("", me):
                self._is_one_to_come = True
        return owned

    def _owner(self, actor: str) -> str:
        chosen = choose(self._system.ring, _id_of(actor))
        return chosen.incarnation if isinstance(chosen, Member) else ""

    def _activations(self, moves: list[tuple[str, str]]) -> list[tuple[Activation, str]]:
        activations = self._system.activations
        found = ((activations.get(_id_of(actor)), to) for actor, to in moves)
        return [(activation, to) for activation, to in found if activation is not None]

    async def drain(self, deadline: float) -> None:
        """Hand over everything that another host can take, until ``deadline``."""
        system = self._system
        while trio.current_time() < deadline and system.is_serving():
            moves: list[tuple[str, str]] = []
            async for part in self._misplaced(spilled_too=True):
                moves += ((one.actor, to) for one, to in part)
            if not moves:
                return
            with trio.move_on_after(max(0.0, deadline - trio.current_time()) + 1.0):
                moved = await self.mover.move(self._activations(moves), deadline, is_drain=True)
                if moved == 0:
                    return


def _id_of(name: str) -> ActorId:
    """The id whose name that is: of an actor that runs here, so that nothing is to be checked."""
    kind, _, key = name.partition("/")
    return ActorId(kind, key)
