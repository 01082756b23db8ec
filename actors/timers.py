"""Timers of an actor: in memory, fired as messages to it, gone with its activation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from actors.incoming import Internal
from actors.offers import TimerLeft

if TYPE_CHECKING:
    from actors.activation import Activation


class Timer:
    """A pending timer. ``cancel`` may be called at any time, twice."""

    __slots__ = ("_activation", "_due", "_every_s", "_method", "is_carried", "tick")

    def __init__(
        self,
        activation: Activation,
        method: Callable[[], Awaitable[None]],
        after_s: float,
        every_s: float,
    ) -> None:
        self._activation = activation
        self._method = method
        self._every_s = every_s
        self.is_carried = False  # set before a move, or a try to move
        self.tick = 0
        self._arm(after_s)

    def _arm(self, after_s: float) -> None:
        self._due = trio.current_time() + max(0.0, after_s)
        self._activation.system.router.wheel.add(self, self._due)

    def left(self) -> TimerLeft:
        """What is left of it, to be set again elsewhere."""
        name = getattr(self._method, "__name__", "")
        return TimerLeft(name, max(0.0, self._due - trio.current_time()), self._every_s)

    def is_of(self, method: Callable[[], Awaitable[None]], every_s: float) -> bool:
        return method == self._method and every_s == self._every_s

    def cancel(self) -> None:
        """Do not fire (again)."""
        self._activation.system.router.wheel.discard(self)
        self._activation.timer_gone(self)

    def expire(self) -> None:
        """Due (called by the wheel). A full mailbox skips this firing, as a late one would be."""
        name = getattr(self._method, "__name__", "timer")
        self._activation.fire(Internal(self._activation, name, b"", function=self._method))
        if self._every_s > 0:
            self._arm(self._every_s)
        else:
            self._activation.timer_gone(self)
