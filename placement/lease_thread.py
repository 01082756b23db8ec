"""Keeps the host's lease from a thread of its own, so that a slow handler does not cost it, and
a stopped loop does (rules 3 and 4). An adapter: threads and a clock; the decisions are in lease.

Two daemon threads: one renews and may be stuck in a socket, the other watches the deadline and
must never be.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from threading import Event, Lock, Thread

from placement.lease import NEVER_S, Lease, LeaseTerms
from placement.ports import Clock, Fenced, RegistryError
from placement.records import Renewal

#: The exit status of a host that its watchdog ended: activations outlived the lease.
EXIT_LEASE_LOST = 70

#: CLOCK_BOOTTIME goes on while the machine is suspended; other systems than Linux have no such.
_CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


#: Seconds since boot, suspension included: the clock on which leases are counted. Read at each
#: step of each call, so it is not a function of Python's.
boottime_s: Clock = partial(time.clock_gettime, _CLOCK_ID)


def exit_at_once() -> None:
    """End the process without cleaning up: whatever still runs has lost the right to."""
    sys.stderr.write("roost: the lease is lost and activations remain; this host exits\n")
    os._exit(EXIT_LEASE_LOST)


class LeaseKeeper:
    """Renews a host's lease, and ends the process if activations outlive it.

    ``renew`` sends one renewal with the given counter, synchronously, and raises RegistryError.
    ``on_renewal(renewal, sent_at_s)`` hears each reply, ``on_fenced(reason)`` once that the lease
    is over: the registry fenced this host, or the deadline passed. ``activations_remain`` is
    asked ``grace_s`` (a margin, unless given) after that; True means ``kill``. All four run in
    the keeper's threads. ``tick``, ``deadline_s`` and ``is_held`` are for the loop.
    """

    def __init__(
        self,
        terms: LeaseTerms,
        renew: Callable[[int], Renewal],
        *,
        on_renewal: Callable[[Renewal, float], None],
        on_fenced: Callable[[Fenced], None],
        activations_remain: Callable[[], bool],
        grace_s: float | None = None,
        kill: Callable[[], None] = exit_at_once,
        clock: Clock = boottime_s,
    ) -> None:
        self._terms = terms
        self._lease = Lease(terms)
        self._renew = renew
        self._on_renewal = on_renewal
        self._on_fenced = on_fenced
        self._activations_remain = activations_remain
        self._grace_s = terms.margin_s if grace_s is None else grace_s
        self._kill = kill
        self._clock = clock
        self._counter = 0
        self._last_tick_s = NEVER_S
        self._over_at_s: float | None = None
        self._lock = Lock()
        self._stopped = Event()
        self._threads = [
            Thread(target=self._run, args=(step,), name=f"roost-lease-{name}", daemon=True)
            for name, step in (("renewer", self.renew_if_due), ("watchdog", self.watch))
        ]

    @property
    def deadline_s(self) -> float:
        """Until when this host may act, on the keeper's clock; minus infinity: it may not."""
        return self._lease.deadline_s

    def is_held(self) -> bool:
        return self._clock() < self._lease.deadline_s

    def tick(self) -> None:
        """The loop lives. Call it more often than the stall limit, from the loop itself."""
        self._last_tick_s = self._clock()

    def start(self) -> None:
        """Begin to renew, at once. The host must have joined."""
        self.tick()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Renew no more; the lease runs out by itself. Does not block and may be repeated."""
        self._stopped.set()

    def wait_stopped(self, timeout_s: float) -> bool:
        """Whether both threads have ended within ``timeout_s``; a renewal may be under way."""
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def renew_if_due(self) -> float | None:
        """One step of the renewer: seconds until the next, None when there is nothing more."""
        now_s = self._clock()
        if self._over_at_s is not None:
            return None
        if (due_s := self._lease.next_renewal_at(now_s)) > now_s:
            return due_s - now_s
        if not self._lease.may_renew(now_s, self._last_tick_s):
            return self._terms.retry_every_s
        # A counter of its own for each attempt: one that was lost may still be executed late.
        self._counter += 1
        try:
            renewal = self._renew(self._counter)
        except Fenced as exc:
            self._over(exc)
            return None
        except RegistryError:
            return self._terms.retry_every_s
        with self._lock:
            extended = self._lease.renewed(now_s, self._clock())
        if not extended:
            return self._terms.retry_every_s
        self._on_renewal(renewal, now_s)
        return self._terms.renew_every_s

    def watch(self) -> float | None:
        """One step of the watchdog: seconds until the next, None when there is nothing more."""
        now_s = self._clock()
        if self._over_at_s is None:
            if not self._lease.has_begun:
                return self._terms.retry_every_s
            if self._lease.is_held(now_s):
                return min(self._terms.retry_every_s, self._lease.remaining_s(now_s))
            self._over(Fenced("the lease ran out before a renewal succeeded"))
        over_for_s = now_s - (self._over_at_s or now_s)
        if over_for_s < self._grace_s:
            return self._grace_s - over_for_s
        if self._activations_remain():
            self._kill()
        return None

    def _over(self, reason: Fenced) -> None:
        with self._lock:
            if self._over_at_s is not None or self._stopped.is_set():
                return
            self._over_at_s = self._clock()
            self._lease.end()
        self._on_fenced(reason)

    def _run(self, step: Callable[[], float | None]) -> None:
        while not self._stopped.is_set():
            wait_s = step()
            if wait_s is None:
                return
            self._stopped.wait(wait_s)
