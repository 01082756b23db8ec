"""Turns what the code under test does into events, by standing between a few of its methods.

Nothing here changes what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import trio

import actors.mover
import actors.system
import placement.ring
from actors.activation import Activation
from actors.lifecycle import Lifecycle
from actors.phase import Phase
from actors.reasons import Reason
from tests.simulation.events import Began, Ended, Event, Ops, Ran

_BEGINS = (Phase.STARTING, Phase.ACTIVE)
_slot: Any = Activation.phase


class Observer:
    """Knows which activations act, and as what."""

    def __init__(self, log: Callable[[Event], None]) -> None:
        self._log = log
        self._acting: dict[int, Activation] = {}  # by id: those that began and have not ended
        self._hosts: dict[int, tuple[Activation, str]] = {}  # by id: where they began
        self._killing: Activation | None = None

    def changed(self, activation: Activation, old: Phase, new: Phase) -> None:
        """An activation goes from one phase to another."""
        key = id(activation)
        if new in _BEGINS and key not in self._acting:
            how = {Phase.OFFERED: "resumed", Phase.RESTARTING: "restarted"}.get(old, "claimed")
            self._acting[key] = activation
            self._hosts[key] = activation, activation.system.me.incarnation
            self._log(Began(*self._who(activation), how, _ops(activation)))
        elif new is Phase.OFFERED:
            self._end(activation, "offered")
        elif new is Phase.RESTARTING:
            self._end(activation, "crashed")
        elif new is Phase.ENDED:
            if old is Phase.OFFERED and self._killing is not activation:
                self._log(Ended(*self._who(activation), "taken", _ops(activation)))
            elif old is Phase.OFFERED:
                self._log(Ended(*self._who(activation), "killed", _ops(activation)))
            else:
                self._end(activation, "killed" if self._killing is activation else "left")

    def leaving(self, activation: Activation) -> None:
        """It is about to be released: saved, unless its host has lost the lease meanwhile."""
        self._end(activation, "left")

    @contextmanager
    def killing(self, activation: Activation) -> Iterator[None]:
        before, self._killing = self._killing, activation
        try:
            yield
        finally:
            self._killing = before

    def ran(self, activation: Activation, op: int, stage: str) -> None:
        self._log(Ran(*self._who(activation), op, stage))

    def host_of(self, activation: Activation) -> str:
        """The incarnation that it began as."""
        _, host = self._hosts.get(id(activation), (None, activation.system.me.incarnation))
        return host

    def _end(self, activation: Activation, how: str) -> None:
        if how == "left" and not activation.system.is_serving():
            how = "killed"
        if self._acting.pop(id(activation), None) is not None:
            self._log(Ended(*self._who(activation), how, _ops(activation)))

    def _who(self, activation: Activation) -> tuple[float, str, int, str]:
        host = self.host_of(activation)
        return trio.current_time(), str(activation.id), activation.epoch, host


def _ops(activation: Activation) -> Ops:
    return tuple(getattr(getattr(activation, "actor", None), "ops", ()))


_unpatched: list[tuple[Any, str, Any]] = []


def observe(observer: Observer) -> None:
    """Let ``observer`` see all activations of this process, until ``stop_observing``."""
    kill, release, end_durable = Lifecycle.kill, Lifecycle._release, Lifecycle._end_durable

    def set_phase(activation: Activation, phase: Phase) -> None:
        old = _slot.__get__(activation) if _has(activation) else phase
        _slot.__set__(activation, phase)
        observer.changed(activation, old, phase)

    def seen_kill(self: Lifecycle, activation: Activation, reason: Reason) -> None:
        with observer.killing(activation):
            kill(self, activation, reason)

    async def seen_release(self: Lifecycle, activation: Activation, **how: Any) -> bool:
        observer.leaving(activation)
        return await release(self, activation, **how)

    async def seen_end_durable(self: Lifecycle, activation: Activation) -> bool:
        observer.leaving(activation)
        return await end_durable(self, activation)

    # Hosts of one view have one ring, and a coarser one does as well: both save most of the work.
    _patch(placement.ring, "VNODES", 64)
    _patch(actors.mover, "BATCH_BYTES_MAX", 300)  # so that offers come in many batches
    _patch(actors.system, "Ring", lru_cache(maxsize=64)(placement.ring.Ring))
    _patch(Activation, "phase", property(_slot.__get__, set_phase))
    _patch(Lifecycle, "kill", seen_kill)
    _patch(Lifecycle, "_release", seen_release)
    _patch(Lifecycle, "_end_durable", seen_end_durable)


def stop_observing() -> None:
    """All methods are again what they were."""
    while _unpatched:
        owner, name, old = _unpatched.pop()
        setattr(owner, name, old)


def _patch(owner: Any, name: str, new: Any) -> None:
    _unpatched.append((owner, name, vars(owner)[name]))
    setattr(owner, name, new)


def _has(activation: Activation) -> bool:
    try:
        _slot.__get__(activation)
    except AttributeError:
        return False
    return True
