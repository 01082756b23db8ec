"""Claimer: claims and releases, batched. While one script is under way the next batch gathers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from actors.activation import Activation
from actors.phase import Phase
from actors.reasons import Reason
from placement.ports import Claim, Fenced, RegistryError
from placement.records import Claimed, Held

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.actors")

BATCH_MAX = 512
RETRY_S = 0.2


class Claimer:
    """Turns activations that wait for their claim into running ones, or sends their calls away."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._claims: list[Activation] = []
        self._releases: list[tuple[Activation, _Release]] = []
        self._wake = trio.Event()
        self._wake_release = trio.Event()

    def claim(self, activation: Activation) -> None:
        """Claim it with the next batch."""
        self._claims.append(activation)
        self._wake.set()

    async def release(self, activation: Activation) -> None:
        """Free its location. Raises what the registry raises; safe to repeat."""
        release = _Release()
        self._releases.append((activation, release))
        self._wake_release.set()
        await release.done.wait()
        if release.error is not None:
            raise release.error

    async def run(self) -> None:
        """Claim and release, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_claims)
            nursery.start_soon(self._run_releases)

    async def _run_claims(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._claims:
                batch, self._claims = self._claims[:BATCH_MAX], self._claims[BATCH_MAX:]
                batch = [a for a in batch if a.phase is Phase.CLAIMING]
                if batch:
                    await self._claim(batch)

    async def _claim(self, batch: list[Activation]) -> None:
        system = self._system
        if not system.is_serving():
            self._end(batch)
            return
        me = system.me.incarnation
        try:
            answers = await system.registry.claim(me, [Claim(str(a.id)) for a in batch])
        except Fenced as exc:
            system.fenced(str(exc), me)
            self._end(batch)  # those begun since, by a host that knew already
            return
        except RegistryError as exc:
            log.warning("claims wait: %s", exc)
            await self._put_off(batch)
            return
        await self._catch_up(answers)
        if not system.is_serving():  # while the claim was under way, the lease ran out
            self._end(batch)
        for activation, answer in zip(batch, answers, strict=True):
            if activation.phase is not Phase.CLAIMING:
                continue  # killed meanwhile: the lease is gone, and with it the claim
            if isinstance(answer, Claimed):
                system.lifecycle.claimed(activation, answer.epoch, answer.stored)
            else:
                activation.is_closing = True
                activation.phase = Phase.ENDED
                system.gone(activation)
                system.router.turn_away(activation, answer.location.incarnation)

    def _end(self, batch: list[Activation]) -> None:
        """The lease is gone, and with it every claim."""
        for activation in batch:
            self._system.lifecycle.kill(activation, Reason.FENCED)

    async def _catch_up(self, answers: list[Claimed | Held]) -> None:
        """Know the hosts that hold what we lost, before anything is sent to them."""
        try:
            await self._system.catch_up(
                answer.location.incarnation for answer in answers if isinstance(answer, Held)
            )
        except RegistryError as exc:
            log.warning("the view is not refreshed: %s", exc)

    async def _put_off(self, batch: list[Activation]) -> None:
        """Try again soon; give up those for whose callers it has become too late."""
        for activation in batch:
            if activation.depth or activation.waiters:
                self._claims.append(activation)
            else:
                activation.is_closing = True
                activation.phase = Phase.ENDED
                self._system.gone(activation)
                self._system.router.turn_away(activation, "")
        await trio.sleep(RETRY_S)
        self._wake.set()

    async def _run_releases(self) -> None:
        while True:
            await self._wake_release.wait()
            self._wake_release = trio.Event()
            while self._releases:
                batch, self._releases = self._releases[:BATCH_MAX], self._releases[BATCH_MAX:]
                await self._release(batch)

    async def _release(self, batch: list[tuple[Activation, _Release]]) -> None:
        error: RegistryError | None = None
        owned = [(str(a.id), a.epoch) for a, _ in batch if a.epoch]
        try:
            if owned:
                await self._system.registry.release(self._system.me.incarnation, owned)
        except RegistryError as exc:
            error = exc
        for _, release in batch:
            release.error = error
            release.done.set()


class _Release:
    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: RegistryError | None = None
