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
#: A view read so lately is taken for the newest (seconds): a rush that finds no room reads few.
FRESH_S = 0.25


class Resolver:
    """One question per actor at a time; everyone who asks meanwhile shares the answer."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._asked: dict[ActorId, list[Found]] = {}
        self._todo: list[ActorId] = []
        self._wake = trio.Event()
        self._wants_view = False
        self._view_at = -FRESH_S

    def ask(self, target: ActorId, found: Found, *, with_view: bool = False) -> None:
        """Look ``target`` up and call ``found`` later; ``with_view``: after the view was read, too,
        since hosts may have joined of which this one has not heard yet."""
        self._wants_view |= with_view
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
            await self._refresh_view()
            locations = await self._system.registry.locate([str(t) for t in batch])
            await self._system.catch_up(loc.incarnation for loc in locations if loc is not None)
        except RegistryError as exc:
            error = exc
        self._tell(batch, locations, error)

    async def _refresh_view(self) -> None:
        wanted, self._wants_view = self._wants_view, False
        if wanted and trio.current_time() - self._view_at >= FRESH_S:
            self._view_at = trio.current_time()
            await self._system.refresh_view()

    def _tell(
        self, batch: list[ActorId], locations: list[Location | None], error: RegistryError | None
    ) -> None:
        for target, location in zip(batch, locations, strict=True):
            for found in self._asked.pop(target):
                found(location, error)
