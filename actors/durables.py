"""Durable actors: brought back unasked when their host is gone. An adapter.

Design rule 17. The spec is what ``spawn(..., durable=True)`` was given; it lives in the registry.
Each host pages through its own ranges of the ring and starts whoever runs nowhere. A durable
actor gets ``on_spawn`` with its spec again each time it is brought back.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import trio

from actors.activation import Activation
from actors.calls import TellNowait
from actors.incoming import CURRENT, InCall
from actors.kinds import SPAWN
from actors.reasons import Reason
from actors.ref import prepare
from actors.routing import Unroutable, choose
from actors.turns import AGAIN, DURABLE, makes_durable
from placement.ports import Fenced, RegistryError
from placement.records import Location
from placement.ring import stable_hash
from wire.errors import NotDelivered, Unavailable
from wire.ids import ActorId, parse_actor_id
from wire.items import Mode

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.durable")

PAGE = 500
COALESCE_S = 0.5
SCAN_EVERY_S = 30.0
RETRY_S = 1.0


class Durables:
    """Keeps specs of the actors that run here, and brings back those of this host's ranges."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._changed = trio.Event()
        self._unknown: set[ActorId] = set()  # reported, since no host knew their kind
        self.revived_total = 0

    def view_changed(self) -> None:
        """The ring may have given this host other ranges."""
        self._changed.set()

    async def keep(self, activation: Activation, content: int, payload: bytes) -> None:
        """Make a running actor durable. Raises NotDelivered if it is no longer owned here, and
        Unavailable when the registry is out of reach."""
        call = CURRENT.get()
        if call is not None and call.headers is not None and call.headers.get(DURABLE) == AGAIN:
            await self._check_wanted(activation)
            return
        activation.is_durable = True
        try:
            kept = await self._system.registry.keep_spec(
                self._system.me.incarnation, str(activation.id), activation.epoch,
                bytes([content]) + payload,
            )  # fmt: skip
        except Fenced:
            kept = False
        except RegistryError as exc:
            raise Unavailable(f"the spec of {activation.id} is not kept: {exc}") from exc
        if not kept:
            raise NotDelivered(f"{activation.id} is no longer owned here: its spec is not kept")
        activation.is_durable = True  # whatever a turn beside this one has found meanwhile

    async def _check_wanted(self, activation: Activation) -> None:
        """It was brought back: it is durable unless it has been stopped since its spec was read,
        and has not been made so anew."""
        activation.is_durable = False  # until a spawn beside this one says otherwise
        try:
            has_spec = await self.has_spec(activation.id)
        except RegistryError as exc:
            activation.is_durable = True  # as far as is known
            raise Unavailable(f"the spec of {activation.id} is not found now: {exc}") from exc
        activation.is_durable = activation.is_durable or has_spec
        if not (activation.is_durable or any(makes_durable(call) for call in activation.active)):
            self._system.lifecycle.stop(activation, Reason.STOPPED)

    async def has_spec(self, target: ActorId) -> bool:
        """Whether the actor is durable, running or not. Raises RegistryError."""
        return await self.spec_of(target) is not None

    async def spec_of(self, target: ActorId) -> bytes | None:
        """The spec of a durable actor, running or not; None when it is none. Raises
        RegistryError."""
        place = stable_hash(str(target))
        found = await self._system.registry.specs([(place, place)], PAGE)
        return next((spec for name, spec, _ in found if name == str(target)), None)

    async def spawn_again(self, activation: Activation) -> None:
        """It restarts after a crash: its next message is its spec, before all that wait."""
        try:
            spec = await self.spec_of(activation.id)
        except RegistryError as exc:
            log.warning("%s restarts without its spec: %s", activation.id, exc)
            return
        if spec is not None:
            activation.queue = activation.queue or deque()
            call = InCall(activation, SPAWN, spec[1:])
            call.content = spec[0]
            call.headers = {DURABLE: AGAIN}
            call.spec = activation.kind.method(SPAWN)
            activation.queue.appendleft(call)

    async def run(self) -> None:
        """Look through this host's ranges after each view change and now and then; for ever."""
        while True:
            with trio.move_on_after(SCAN_EVERY_S):
                await self._changed.wait()
            await trio.sleep(COALESCE_S)
            self._changed = trio.Event()
            try:
                await self._scan()
            except RegistryError as exc:
                log.warning("durable actors are not looked for yet: %s", exc)
                await trio.sleep(RETRY_S)
                self._changed.set()

    def _take_back_reports(self) -> None:
        """Of those whose kind a host knows by now: whoever's range it is brings them back."""
        for target in list(self._unknown):
            if choose(self._system.ring, target) is not Unroutable.UNKNOWN_KIND:
                self._unknown.discard(target)
                self._system.failures.pop(target, None)

    async def _scan(self) -> None:
        system = self._system
        self._take_back_reports()
        ranges = system.ring.ranges(system.me.incarnation)
        while ranges and system.is_serving() and not self._changed.is_set():
            page = await system.registry.specs(ranges, PAGE)
            await system.catch_up(where.incarnation for _, _, where in page if where is not None)
            for name, spec, where in page:
                self._revive_if_needed(parse_actor_id(name), spec, where)
            if len(page) < PAGE:
                return
            ranges = _after(ranges, stable_hash(page[-1][0]))

    def _revive_if_needed(self, target: ActorId, spec: bytes, where: Location | None) -> None:
        system = self._system
        if where is not None and where.incarnation in system.members:
            running = system.activations.get(target)
            if where.incarnation != system.me.incarnation or running is None:
                return  # it runs, or its next message starts it: it is located here
            if running.is_durable:
                return
        if choose(system.ring, target) is Unroutable.UNKNOWN_KIND:
            why = f"{target} is durable, but no host knows kind {target.kind!r}"
            if target not in self._unknown:
                log.error(why)
            self._unknown.add(target)
            system.record_failure(target, why)
            return
        self.revived_total += 1
        call = prepare(
            system, TellNowait, target, SPAWN, Mode.TELL, spec[0], spec[1:], None, {DURABLE: AGAIN}
        )
        system.router.submit(call)


def _after(ranges: list[tuple[int, int]], place: int) -> list[tuple[int, int]]:
    """What is left of ``ranges``, taken in their order, behind ``place``."""
    for index, (first, last) in enumerate(ranges):
        if first <= place <= last:
            rest = [(place + 1, last)] if place < last else []
            return rest + ranges[index + 1 :]
    return []
