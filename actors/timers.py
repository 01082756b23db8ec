"""Timers of an actor: in memory, fired as messages to it, gone with its activation."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from actors.incoming import Internal
from actors.offers import TimerLeft
from actors.phase import Phase

if TYPE_CHECKING:
    from actors.activation import Activation

log = logging.getLogger("roost.actors")


class Timer:
    """A pending timer. ``cancel`` may be called at any time, twice."""

    __slots__ = (
        "_activation", "_due", "_every_s", "_method", "_timers", "is_carried", "tick"
    )  # fmt: skip

    def __init__(
        self,
        activation: Activation,
        timers: Timers,
        method: Callable[[], Awaitable[None]],
        after_s: float,
        every_s: float,
    ) -> None:
        self._activation = activation
        self._timers = timers
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
        self._timers.gone(self)

    def expire(self) -> None:
        """Due (called by the wheel). A full mailbox skips this firing, as a late one would be."""
        name = getattr(self._method, "__name__", "timer")
        self._activation.fire(Internal(self._activation, name, b"", function=self._method))
        if self._every_s > 0:
            self._arm(self._every_s)
        else:
            self._timers.gone(self)


class Timers:
    """The pending timers of one activation."""

    __slots__ = ("_activation", "_pending")

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._pending: dict[Timer, None] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def set(self, method: Callable[[], Awaitable[None]], after_s: float, every_s: float) -> Timer:
        """Set one that the actor asks for."""
        if self._activation.phase is Phase.STARTING:
            after_s = self._instead_of_carried(method, after_s, every_s)
        return self._add(method, after_s, every_s)

    def _add(self, method: Callable[[], Awaitable[None]], after_s: float, every_s: float) -> Timer:
        timer = Timer(self._activation, self, method, after_s, every_s)
        self._pending[timer] = None
        return timer

    def _instead_of_carried(
        self, method: Callable[[], Awaitable[None]], after_s: float, every_s: float
    ) -> float:
        """A timer that on_activate sets each time would double in each move: it takes the place,
        and the time, of the one that moved along."""
        for timer in self._pending:
            if timer.is_carried and timer.is_of(method, every_s):
                after_s = min(after_s, timer.left().after_s)
                timer.cancel()
                break
        return after_s

    def gone(self, timer: Timer) -> None:
        """It has fired for the last time, or has been cancelled."""
        self._pending.pop(timer, None)

    def cancel(self) -> None:
        """Cancel them all."""
        for timer in list(self._pending):
            timer.cancel()

    def take(self) -> list[TimerLeft]:
        """What can move of them: those whose methods the actor has by name. None is set here."""
        left = [timer.left() for timer in self._pending]
        self.cancel()
        actor = self._activation.actor
        lasting = [t for t in left if callable(getattr(actor, t.method, None))]
        if len(lasting) < len(left):
            log.warning(
                "%s loses %d timers: they call what is no method of the actor, and cannot move",
                self._activation.id, len(left) - len(lasting),
            )  # fmt: skip
        return lasting

    def keep(self, timers: Sequence[TimerLeft]) -> None:
        """Set again what ``take`` gave, here or elsewhere."""
        for timer in timers:
            method = getattr(self._activation.actor, timer.method, None)
            if callable(method):
                self._add(method, timer.after_s, timer.every_s).is_carried = True
