"""Load and how it is judged: calls at a fixed rate, whatever the answers do, and quantiles."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio

OUTSTANDING_MAX = 20_000


class Sample(NamedTuple):
    """One call: when it was due, and how long after that its answer came (seconds)."""

    due: float
    took_s: float


class OpenLoop:
    """Makes ``rate`` calls per second until its scope is cancelled. Each counts from when it was
    due, so a stall is felt by all that it delays. Raises RuntimeError past OUTSTANDING_MAX."""

    def __init__(self, rate: float, call: Callable[[int], Awaitable[object]]) -> None:
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self.outstanding = 0
        self.cut = 0  # calls that were under way at the end: they may have run
        self._rate = rate
        self._call = call

    async def run(self) -> None:
        start, number = time.perf_counter(), 0
        async with trio.open_nursery() as nursery:
            while True:
                due = start + number / self._rate
                if (early := due - time.perf_counter()) > 0:
                    await trio.sleep(early)
                if self.outstanding >= OUTSTANDING_MAX:
                    raise RuntimeError(f"{self.outstanding} calls wait for an answer")
                self.outstanding += 1
                nursery.start_soon(self._one, number, due)
                number += 1

    async def _one(self, number: int, due: float) -> None:
        try:
            await self._call(number)
        except trio.Cancelled:
            self.cut += 1
            raise
        except Exception as exc:
            self.failures.append(f"{type(exc).__name__}: {exc}")
        else:
            self.samples.append(Sample(due, time.perf_counter() - due))
        finally:
            self.outstanding -= 1

    def between(self, start: float, end: float) -> list[float]:
        """How long those calls took that were due in between, sorted."""
        return sorted(s.took_s for s in self.samples if start <= s.due < end)


def quantile(ordered: Sequence[float], q: float) -> float:
    """The value below which the part ``q`` of them lies; of nothing, NaN."""
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)] if ordered else float("nan")


def slope(values: Sequence[float], step: float) -> float:
    """By how much they grow per unit of which ``step`` lie between two: the least-squares line."""
    count = len(values)
    if count < 2:
        return 0.0
    mean_x, mean_y = (count - 1) / 2, sum(values) / count
    above = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values))
    return above / sum((x - mean_x) ** 2 for x in range(count)) / step
