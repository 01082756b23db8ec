"""Resolver: asks the registry where actors are, many at a time, when the ring alone cannot say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from placement.ports import RegistryError
from placement.records import Location
from wire.ids import ActorId

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.actors")

#: Called with the location (None: recorded nowhere), or with the error that kept us from it.
Found = Callable[[Location | None, RegistryError | None], None]

BATCH_MAX = 512


class Resolver:
    """One question per actor at a time; everyone who asks meanwhile shares the answer."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._asked: dict[ActorId, list[Found]] = {}
        self._todo: list[ActorId] = []
        self._wake = trio.Event()

    def ask(self, target: ActorId, found: Found) -> None:
        """Look ``target`` up and call ``found`` later."""
        waiting = self._asked.get(target)
        if waiting is not None:
            waiting.append(found)
            return
        self._asked[target] = [found]
        self._todo.append(target)
        self._wake.set()

    async def run(self) -> None:
        """Answer what is asked, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._todo:
                batch, self._todo = self._todo[:BATCH_MAX], self._todo[BATCH_MAX:]
                await self._answer(batch)

    async def _answer(self, batch: list[ActorId]) -> None:
        locations: list[Location | None] = [None] * len(batch)
        error: RegistryError | None = None
        try:
            locations = await self._system.registry.locate([str(t) for t in batch])
            await self._system.catch_up(loc.incarnation for loc in locations if loc is not None)
        except RegistryError as exc:
            error = exc
        for target, location in zip(batch, locations, strict=True):
            for found in self._asked.pop(target):
                found(location, error)
