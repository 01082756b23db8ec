"""Generations: what a host does when the registry has lost its memory, or may have (rule 9).

A restarted, emptied, rolled back or promoted server starts a generation in which nobody is a
member. This host goes on acting until its lease ends. It extends the lease only once it has
joined again, asserted all that it runs and saved its states; and it claims nothing until a lease
has passed since it saw the generation, for until then others may run what the registry forgot.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from actors.activation import Activation
from actors.phase import Phase
from placement.lease import LeaseTerms
from placement.ports import (
    Claim,
    Clock,
    Fenced,
    Registry,
    RegistryError,
    RegistryUnavailable,
    StaleGeneration,
)
from placement.records import Claimed, Held, View
from wire.errors import RoostError

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.membership")

T = TypeVar("T")
ASSERT_MAX = 1_000
SAVES_AT_ONCE = 32
RETRY_S = 0.1

#: What runs, and so is asserted; what has been offered never is. One that comes to rest for a move
#: still runs what it has begun, and nobody else may begin while it does.
_RUNS = (Phase.STARTING, Phase.ACTIVE, Phase.RESTARTING, Phase.QUIESCING, Phase.STOPPING)


class Generations:
    """Follows the registry's generations for one host."""

    def __init__(self, system: System, registry: Registry, terms: LeaseTerms, clock: Clock) -> None:
        self._system = system
        self._registry = registry
        self._terms = terms
        self._clock = clock
        self._asserted = 0
        self._seen = 0
        self._claims_from_s = float("-inf")
        self._wake = trio.Event()
        self._unsettled = trio.Event()

    async def joined(self) -> None:
        """This host has joined as a new incarnation that runs nothing: it may claim at once in a
        generation that is settled. Raises RegistryError."""
        generation = self._registry.generation
        if generation != self._seen and not await self._registry.is_settled():
            self._hold_claims(generation)
        self._asserted = self._seen = generation
        self._unsettled.set()

    @property
    def holds_claims(self) -> bool:
        """Whether claims must wait, and with them the views of the new generation: until then
        hosts that it does not know yet may live."""
        return self._clock() < self._claims_from_s

    async def wait_claims(self) -> None:
        """Wait until claims need not wait any more."""
        while self.holds_claims:
            await trio.sleep(self._claims_from_s - self._clock() + 0.001)

    def is_current(self) -> bool:
        """Whether all that this host runs is known to the generation that it speaks for."""
        return self._asserted == self._registry.generation

    def heard(self) -> None:
        """The registry may be in a new generation."""
        generation = self._registry.generation
        if self._asserted and generation != self._asserted:
            if generation != self._seen:
                self._hold_claims(generation)
            self._wake.set()

    def _hold_claims(self, generation: int) -> None:
        log.log(
            logging.WARNING if self._seen else logging.INFO,
            "the registry began generation %d: claims wait %.1f s, for a lease to pass",
            generation, self._terms.proof_s,
        )  # fmt: skip
        self._seen = generation
        self._claims_from_s = self._clock() + self._terms.proof_s

    def renewing(self) -> None:
        """Called (by any thread) before each renewal: raises RegistryUnavailable until all that
        runs is asserted, for a renewal would extend the lease of what nobody knows of."""
        if not self.is_current():
            raise RegistryUnavailable("this host has not taken up the new generation yet")

    def translate(self, exc: RegistryError) -> RegistryError:
        """What an error of the registry means while a generation is being taken up."""
        self.heard()
        if isinstance(exc, Fenced) and not self.is_current():
            return RegistryUnavailable("this host is joining the registry's new generation")
        return exc

    def check_current(self) -> None:
        """Raises RegistryUnavailable while a new generation is being taken up."""
        if not self.is_current():
            self.heard()
            raise RegistryUnavailable("this host is taking up the registry's new generation")

    def check_claims(self) -> int:
        """The generation in which this host may claim now; raises RegistryUnavailable while claims
        must wait. A claim names it, since the host may hear of another before it is sent."""
        generation = self._registry.generation
        self.heard()
        if self.holds_claims or self._asserted != generation:
            left_s = max(0.0, self._claims_from_s - self._clock())
            raise RegistryUnavailable(
                f"claims wait {left_s:.1f} s: the registry began a new generation"
            )
        return generation

    # Taking up a generation ---------------------------------------------------------------

    async def run(self) -> None:
        """Take up each new generation, and settle it once a lease has passed; for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._settle)

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while not self.is_current() and self._system.is_serving():
                try:
                    await self._take_up()
                except RegistryError as exc:
                    log.warning("the new generation is not taken up yet: %s", exc)
                    await trio.sleep(RETRY_S)

    async def _settle(self) -> None:
        """Let newcomers claim at once, after those who might have run unknown cannot any more."""
        while True:
            await self._unsettled.wait()
            await self.wait_claims()
            if self.is_current() and self._system.is_serving():
                self._unsettled = trio.Event()
                try:
                    await self._registry.settle()
                    continue
                except RegistryError as exc:
                    log.warning("the generation is not settled yet: %s", exc)
                    self._unsettled.set()
            await trio.sleep(RETRY_S)

    async def _take_up(self) -> None:
        generation = self._registry.generation
        await self._join_again()
        await self._assert_all()
        await self._save_all()
        if self._registry.generation == generation and self._system.is_serving():
            self._asserted = generation
            self._unsettled.set()
            log.warning("generation %d: asserted all that runs here", generation)

    async def _join_again(self) -> None:
        record = self._system.members.get(self._system.me.incarnation)
        if record is None:
            raise RegistryUnavailable("this host is not in its own view")
        await self._registry.join(record)

    def _running(self) -> list[Activation]:
        return [a for a in self._system.activations.values() if a.epoch and a.phase in _RUNS]

    async def _assert_all(self) -> None:
        running = self._running()
        for start in range(0, len(running), ASSERT_MAX):
            part = running[start : start + ASSERT_MAX]
            owned = [(str(a.id), a.epoch) for a in part]
            answers = await self._registry.assert_owned(self._system.me.incarnation, owned)
            for activation, is_mine in zip(part, answers, strict=True):
                if not is_mine:
                    self._system.lifecycle.lost_ownership(activation)

    async def _save_all(self) -> None:
        """Save every state again: the server may have lost it."""
        limit = trio.CapacityLimiter(SAVES_AT_ONCE)
        failed: list[Exception] = []

        async def save(activation: Activation) -> None:
            async with limit:
                try:
                    await self._system.lifecycle.save_again(activation, self._registry)
                except RoostError as exc:
                    failed.append(exc)

        async with trio.open_nursery() as nursery:
            for activation in self._running():
                nursery.start_soon(save, activation)
        if failed:
            raise RegistryUnavailable(f"{len(failed)} states are not saved again: {failed[0]}")


#: Steps that do nothing more than raise what Generations must hear of.
_GUARDED = frozenset({
    "assert_owned", "due_reminders", "drop_reminder", "heartbeat", "load", "locate", "release",
    "reminder_fired", "renew", "set_reminder", "specs",
})  # fmt: skip

#: Steps of an actor's owner: they answer False to anyone else.
_OWNERS = frozenset({"end_durable", "forget", "keep_spec", "save"})


class GuardedRegistry:
    """A registry whose errors and claims pass by Generations. All else goes straight through."""

    def __init__(self, registry: Registry, generations: Generations) -> None:
        self._registry = registry
        self._generations = generations

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._registry, name)
        if name in _OWNERS:
            return partial(self._as_owner, found)
        return partial(self._guard, found) if name in _GUARDED else found

    async def _as_owner(self, call: Callable[..., Awaitable[bool]], *args: Any) -> bool:
        """Refused means that another owns the actor, except while a new generation is being
        taken up: then it may only not know yet that this host does."""
        self._generations.check_current()
        generation = self._registry.generation
        if await self._guard(call, *args):
            return True
        if self._registry.generation != generation or not self._generations.is_current():
            raise RegistryUnavailable("a new generation began meanwhile")
        return False

    async def _guard(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        try:
            return await call(*args)
        except (StaleGeneration, Fenced) as exc:
            raise self._generations.translate(exc) from exc

    async def claim(self, me: str, claims: Sequence[Claim]) -> list[Claimed | Held]:
        generation = self._generations.check_claims()
        return await self._guard(self._registry.claim, me, claims, generation)

    async def view(self) -> View:
        view = await self._registry.view()
        self._generations.heard()
        return view
