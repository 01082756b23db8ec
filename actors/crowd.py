"""Crowd: how many actors run here, against the host's bounds. A decision module: pure."""

from __future__ import annotations

from actors.config import SystemConfig
from actors.kinds import Kind

#: Kinds of Roost's own, which no bound counts: they come with actors of users' kinds.
OWN = "roost."


class Crowd:
    """Counts actors from the beginning of their claim, so that a rush cannot pass the bounds."""

    def __init__(self, config: SystemConfig) -> None:
        self._config = config
        self.actors = 0
        self.processes = 0

    def is_full(self, kind: Kind) -> bool:
        """Whether another actor of ``kind`` would be one too many (NoCapacity)."""
        if kind.name.startswith(OWN):
            return False
        if kind.options.isolation == "process" and self.processes >= self._config.processes_max:
            return True
        return 0 < self._config.capacity <= self.actors

    def came(self, kind: Kind) -> None:
        self._count(kind, 1)

    def went(self, kind: Kind) -> None:
        self._count(kind, -1)

    def _count(self, kind: Kind, change: int) -> None:
        if not kind.name.startswith(OWN):
            self.actors += change
            self.processes += change * (kind.options.isolation == "process")
