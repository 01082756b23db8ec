"""The phases of an activation."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where an activation stands."""

    CLAIMING = "claiming"  # no user code has run; the location may be another's
    STARTING = "starting"  # claimed; on_activate runs
    ACTIVE = "active"
    RESTARTING = "restarting"  # crashed; starts again after a pause
    QUIESCING = "quiescing"  # about to move: takes messages, starts no turns
    OFFERED = "offered"  # offered to another host: only a higher epoch may go on here
    STOPPING = "stopping"  # on_deactivate, save, release
    ENDED = "ended"
