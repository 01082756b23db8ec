"""Why an actor leaves, as words that hooks, watchers and operators see. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from wire.ids import ActorId


class Reason(StrEnum):
    """Why an activation ends."""

    IDLE = "idle"  # passivated; the next message starts it again
    STOPPED = "stopped"  # stop() was asked for
    DRAIN = "drain"  # its host drains; it lives on elsewhere
    MOVED = "moved"  # handed to another host
    FAILED = "failed"  # it crashed more often than its kind allows, or never started
    FENCED = "fenced"  # its host lost the lease
    SHUTDOWN = "shutdown"  # its system closed


class Terminated(NamedTuple):
    """What a watcher hears: ``actor`` is gone for ``reason``; ``error`` says more for FAILED."""

    actor: ActorId
    reason: Reason
    error: str = ""
