"""A host's clock: it runs at its own rate, and no two hosts' clocks agree on the time."""

from __future__ import annotations

import trio


class HostClock:
    """Seconds since some moment of its own. ``rate``: its seconds per true second.

    The lease's margin pays for rates between 0.99 and 1.01 (placement.lease); more is a broken
    machine, not a slow one.
    """

    def __init__(self, rate: float, offset_s: float) -> None:
        self.rate = rate
        self.offset_s = offset_s

    def __call__(self) -> float:
        return self.offset_s + self.rate * trio.current_time()

    def true_time(self, local_s: float) -> float:
        """When this clock shows ``local_s``, in true time."""
        return (local_s - self.offset_s) / self.rate
