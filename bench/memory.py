"""What does an idle actor cost in memory, and what do many of them do to garbage collection?

Each count runs in a process of its own: resident memory before and after, per actor, with all
bookkeeping that a host has for it (mailbox, location, idle timer), and the pauses that Python's
collector made meanwhile, as its own callbacks tell them. All without Redis.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import trio

import actors
from bench.app import Idle
from bench.report import Report, arguments, finish

COUNTS = (1_000, 100_000, 1_000_000)
PAGE = os.sysconf("SC_PAGE_SIZE")
TASKS = 64


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * PAGE


class Pauses:
    """How long each collection stopped the process, in seconds, by generation."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = {0: [], 1: [], 2: []}
        self._start = 0.0
        gc.callbacks.append(self._heard)

    def _heard(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._start = time.perf_counter()
        else:
            self.seconds[info["generation"]].append(time.perf_counter() - self._start)


async def _fill(count: int) -> dict[str, float]:
    """Start so many actors here, let them fall idle, and weigh them."""
    async with actors.open_system([Idle]) as system:
        await _start(system, "warm", 100)
        gc.collect()
        pauses, before, start = Pauses(), resident_bytes(), time.perf_counter()
        await _start(system, "a", count)
        found = {
            "seconds": time.perf_counter() - start,
            "paused_s": sum(sum(p) for p in pauses.seconds.values()),
            "longest_s": max((max(p, default=0.0) for p in pauses.seconds.values()), default=0.0),
        }
        gc.collect()
        found["full_s"] = pauses.seconds[2][-1]
        found["bytes"] = (resident_bytes() - before) / count
        found["resident"] = resident_bytes()
        print(json.dumps(found), flush=True)
        os._exit(0)  # stopping them all would only take time


async def _start(system: actors.System, prefix: str, count: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await system.ref(Idle, f"{prefix}{number:07}").touch()

    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(some)


def measure(count: int) -> dict[str, float]:
    """What ``_fill`` finds, in a process of its own."""
    command = [sys.executable, "-m", "bench.memory", "--fill", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(report: Report, count: int) -> None:
    found = measure(count)
    name = f"{count:,} actors: "
    report.add(name + "each", "bytes", found["bytes"], "less")
    report.add(name + "process in all", "MiB", found["resident"] / 2**20, "less")
    report.add(name + "started", "actors/s", count / found["seconds"])
    report.add(name + "longest GC pause while starting", "ms", found["longest_s"] * 1e3, "less")
    share = 100 * found["paused_s"] / found["seconds"]
    report.add(name + "GC's share of the time", "%", share, "less")
    report.add(name + "one full collection", "ms", found["full_s"] * 1e3, "less")


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("memory", __doc__ or "", repeat=3, argv=argv, count=(0, "only so many"))
    report = Report("idle actors in one host, without Redis")
    counts = [options.count] if options.count else COUNTS[:2] if options.short else COUNTS
    for count in counts:
        for _ in range(1 if options.short or count == COUNTS[-1] else options.repeat):
            _measure(report, count)
    finish(report, options)
    return report


def _own_count() -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--fill", type=int, default=0)
    return int(parser.parse_known_args()[0].fill)


if __name__ == "__main__":
    if _own_count():
        trio.run(_fill, _own_count())
    else:
        main()
