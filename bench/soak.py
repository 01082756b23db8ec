"""Does anything grow under minutes of mixed load?

Two hosts and a caller: asks, tells, streams, and actors that come, save their state and go again,
all at once. Each few seconds: calls per second, how long asks took, resident memory and open
descriptors of all three processes. The slopes are those of the least-squares line without the
first fifth, in per cent of the mean per minute: flat is 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence

import trio

import actors
from bench.app import Counter, Echo
from bench.cluster import Hosts, hosts, member
from bench.load import quantile, slope
from bench.memory import resident_bytes
from bench.report import Report, arguments, finish

ECHOES = 32
DATA = b"x" * 64


class Mixed:
    """The load; counts what it did since it was last asked."""

    def __init__(self, system: actors.HostSystem) -> None:
        self._system = system
        self._echoes = [system.ref(Echo, f"e{n}") for n in range(ECHOES)]
        self._asks: list[float] = []
        self._others = 0
        self._fresh = 0

    async def run(self) -> None:
        kinds: dict[Callable[[int], Awaitable[None]], int] = {
            self._ask: 16, self._tell: 4, self._stream: 2, self._come_and_go: 4,
        }  # fmt: skip
        async with trio.open_nursery() as nursery:
            for kind, tasks in kinds.items():
                for number in range(tasks):
                    nursery.start_soon(self._repeat, kind, number)

    async def _repeat(self, kind: Callable[[int], Awaitable[None]], number: int) -> None:
        while True:
            await kind(number)

    async def _ask(self, number: int) -> None:
        start = time.perf_counter()
        await self._echoes[number % ECHOES].echo(DATA)
        self._asks.append(time.perf_counter() - start)

    async def _tell(self, number: int) -> None:
        echo = self._echoes[number % ECHOES]
        for _ in range(100):
            await echo.note.tell(DATA)
        await echo.told()
        self._others += 101

    async def _stream(self, number: int) -> None:
        async for _ in self._echoes[number % ECHOES].items(100, DATA):
            self._others += 1

    async def _come_and_go(self, number: int) -> None:
        self._fresh += 1
        counter = self._system.ref(Counter, f"soak-{self._fresh % 10_000}")
        await counter.add(1)
        await self._system.stop(counter)
        self._others += 2

    def taken(self) -> tuple[int, list[float]]:
        """Calls, and how long the asks took, since the last time; sorted."""
        asks, others = sorted(self._asks), self._others
        self._asks, self._others = [], 0
        return len(asks) + others, asks


class Watch:
    """What each window saw, by quantity."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.seen: dict[str, list[float]] = {}

    def look(self, calls: int, asks: Sequence[float], took_s: float) -> None:
        found = {
            "calls, calls/s": calls / took_s,
            "ask p50, ms": quantile(asks, 0.5) * 1e3,
            "ask p99, ms": quantile(asks, 0.99) * 1e3,
        }
        for name, pid in self._pids.items():
            found[f"{name} resident, MiB"] = resident_bytes(pid) / 2**20
            found[f"{name} descriptors, open"] = len(os.listdir(f"/proc/{pid}/fd"))
        for name, value in found.items():
            self.seen.setdefault(name, []).append(value)

    def judge(self, report: Report, window_s: float) -> None:
        for label, values in self.seen.items():
            name, _, unit = label.partition(", ")
            kept = values[len(values) // 5 :]
            for value in kept:
                report.add(name, unit, value, "more" if unit == "calls/s" else "less")
            mean = sum(kept) / len(kept)
            growth = slope(kept, window_s / 60)
            share = 100 * growth / mean if mean else 0.0
            report.note(f"slope of {name}: {growth:+.3g} {unit} per minute ({share:+.2f} %)")


async def _measure(report: Report, running: Hosts, minutes: float, window_s: float) -> None:
    async with member(running, 2) as system:
        pids = {name: process.pid for name, process in running.processes.items()}
        mixed, watch = Mixed(system), Watch(pids | {"caller": os.getpid()})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mixed.run)
            end = time.perf_counter() + minutes * 60
            mark = time.perf_counter()
            while mark < end:
                await trio.sleep(window_s)
                now = time.perf_counter()
                watch.look(*mixed.taken(), now - mark)
                mark = now
            nursery.cancel_scope.cancel()
        watch.judge(report, window_s)


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments(
        "soak", __doc__ or "", repeat=1, argv=argv, minutes=(5.0, "of load"),
        window_s=(5.0, "seconds of each sample"),
    )  # fmt: skip
    minutes, window_s = (0.5, 2.0) if options.short else (options.minutes, options.window_s)
    report = Report(f"{minutes:g} minutes of mixed load on two hosts")
    for _ in range(options.repeat):
        with hosts(2) as running:
            actors.run(_measure, report, running, minutes, window_s)
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
