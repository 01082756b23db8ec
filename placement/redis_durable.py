"""Specs and reminders of durable actors in Redis: a part of the Redis registry. An adapter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from placement import redis_scripts as scripts
from placement.durable import check_spec, delay_ms, name_bounds, period_ms, spec_name
from placement.records import Location, Reminder
from placement.redis_replies import Heard, read_reminders
from placement.redis_scripts import Script, bucket_of

#: A script holds the server up for about 2 us per range, and for 5 per spec.
RANGES_PER_SCRIPT_MAX = 1024


class RedisDurable(ABC):
    """The calls of placement.ports.Registry that keep specs and reminders."""

    _heard: Heard

    @abstractmethod
    async def _call(self, script: Script, *args: Any) -> Sequence[Any]: ...

    @abstractmethod
    def _numbered(self) -> tuple[str, int]:
        """This registry object and the next number of its calls."""

    async def keep_spec(self, me: str, actor: str, epoch: int, spec: bytes) -> bool:
        check_spec(spec)
        where = (me, bucket_of(actor), actor, epoch, spec_name(actor))
        reply = await self._call(scripts.KEEP_SPEC, *where, *self._numbered(), spec)
        return bool(reply[0] == b"ok")

    async def end_durable(self, me: str, actor: str, epoch: int) -> bool:
        where = (me, bucket_of(actor), actor, epoch, spec_name(actor))
        reply = await self._call(scripts.END_DURABLE, *where)
        return bool(reply[0] == b"ok")

    async def specs(
        self, ranges: Sequence[tuple[int, int]], limit: int
    ) -> list[tuple[str, bytes, Location | None]]:
        found: list[tuple[str, bytes, Location | None]] = []
        for start in range(0, len(ranges), RANGES_PER_SCRIPT_MAX):
            if len(found) >= limit:
                break
            part = ranges[start : start + RANGES_PER_SCRIPT_MAX]
            bounds = [bound for first, last in part for bound in name_bounds(first, last)]
            reply = await self._call(scripts.SPECS, limit - len(found), *bounds)
            found += self._heard.specs(reply)
        return found

    async def set_reminder(self, actor: str, name: str, after_s: float, every_s: float) -> None:
        when = (delay_ms(after_s), period_ms(every_s))
        await self._call(scripts.SET_REMINDER, actor, name, *when, *self._numbered())

    async def drop_reminder(self, actor: str, name: str) -> bool:
        reply = await self._call(scripts.DROP_REMINDER, actor, name, *self._numbered())
        return bool(reply[2])

    async def due_reminders(self, limit: int) -> list[Reminder]:
        return read_reminders(await self._call(scripts.DUE_REMINDERS, max(0, limit)))

    async def reminder_fired(self, reminder: Reminder) -> None:
        what = (reminder.actor, reminder.name, reminder.due_ms)
        await self._call(scripts.REMINDER_FIRED, *what)
