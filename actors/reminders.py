"""Reminders: durable timers in the registry, fired at least once as messages. An adapter.

They outlive the actor's activation and its host. The ring's owner of an actor fires its
reminders; a firing counts once the actor has answered it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from actors.kinds import REMIND
from actors.routing import may_claim
from placement.ports import RegistryError
from placement.records import Reminder
from wire.errors import RoostError
from wire.ids import ActorId, parse_actor_id

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.reminders")

POLL_S = 1.0
PAGE = 1_000


class Reminders:
    """Looks for due reminders and delivers those of the actors that the ring gives to this host."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._firing: set[tuple[str, str]] = set()
        self._is_running = False

    async def set(self, target: ActorId, name: str, after_s: float, every_s: float) -> None:
        """Raises RegistryError."""
        await self._system.registry.set_reminder(str(target), name, after_s, every_s)
        self.start()

    async def drop(self, target: ActorId, name: str) -> bool:
        """Raises RegistryError."""
        return await self._system.registry.drop_reminder(str(target), name)

    def start(self) -> None:
        """Begin to look; a host does at once, a local system with its first reminder."""
        if not self._is_running:
            self._is_running = True
            self._system.nursery.start_soon(self._run)

    async def _run(self) -> None:
        while True:
            await trio.sleep(POLL_S)
            if not self._system.is_serving():
                continue
            try:
                due = await self._system.registry.due_reminders(PAGE)
            except RegistryError as exc:
                log.warning("reminders wait: %s", exc)
                continue
            for reminder in due:
                self._fire(reminder)

    def _fire(self, reminder: Reminder) -> None:
        system = self._system
        key = (reminder.actor, reminder.name)
        target = parse_actor_id(reminder.actor)
        if key not in self._firing and may_claim(system.ring, system.me.incarnation, target, ()):
            self._firing.add(key)
            system.nursery.start_soon(self._deliver, target, reminder)

    async def _deliver(self, target: ActorId, reminder: Reminder) -> None:
        try:
            await self._system.ask_system(target, REMIND, (reminder.name,))
            await self._system.registry.reminder_fired(reminder)
        except (RoostError, RegistryError) as exc:  # it stays due, and is fired again
            log.warning("reminder %r of %s: %s", reminder.name, target, exc)
            await trio.sleep(POLL_S)
        finally:
            self._firing.discard((reminder.actor, reminder.name))
