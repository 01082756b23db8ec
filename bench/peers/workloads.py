"""What is measured, and the line protocol between the comparison and the processes it measures.

This module is imported in the peers' own environments too, so it needs only the standard library.
A process gets ``[workload, seconds]`` as a line of JSON and answers with one number: microseconds
for the round trip, calls or actors per second for all others; or null where it has no such thing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

#: What an answer's line begins with.
MARK = "answer: "
PAYLOAD = b"x" * 64
#: How many actors share the asks and tells, and how many asks are under way.
ACTORS = 16
OUTSTANDING = 64
#: How many actors are being started at a time.
STARTING = 64

#: Name, and its unit.
WORKLOADS = {
    "remote round trip, 1 outstanding": "us",
    "remote asks, 64 outstanding": "asks/s",
    "remote tells": "tells/s",
    "local ask, one after another": "asks/s",
    "local tell": "tells/s",
    "actors started": "actors/s",
}

Measure = Callable[[float], float]
MeasureAsync = Callable[[float], Awaitable[float]]


def answer(value: object) -> None:
    """Write one answer; what a framework prints itself bears no such mark."""
    print(MARK + json.dumps(value), flush=True)


def serve(measures: Mapping[str, Measure]) -> None:
    """Answer orders until their end."""
    answer("ready")
    for line in sys.stdin:
        name, seconds = json.loads(line)
        measure = measures.get(name)
        answer(measure(seconds) if measure else None)


async def serve_async(measures: Mapping[str, MeasureAsync]) -> None:
    """The same within asyncio."""
    loop = asyncio.get_running_loop()
    answer("ready")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, seconds = json.loads(line)
        measure = measures.get(name)
        answer(await measure(seconds) if measure else None)


def rate(call: Callable[[], object], seconds: float, each: int = 1) -> float:
    """How often per second ``call`` returns, ``each`` counted for one; in one thread."""
    done, end = 0, (start := time.perf_counter()) + seconds
    while time.perf_counter() < end:
        call()
        done += each
    return done / (time.perf_counter() - start)


async def rate_async(call: Callable[[int], Awaitable[Any]], tasks: int, seconds: float) -> float:
    """How often per second ``call(task)`` returns, in so many tasks at once."""
    done, end = 0, (start := time.perf_counter()) + seconds

    async def some(task: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call(task)
            done += 1

    await asyncio.gather(*(some(task) for task in range(tasks)))
    return done / (time.perf_counter() - start)
