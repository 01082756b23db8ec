"""The workloads on Roost: one ``roost host``, and the caller a member of its cluster, as ever with
arguments checked, deadlines on, and each actor claimed in Redis. Local figures: a local system."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio

import actors
from bench.app import Echo, Idle
from bench.cluster import hosts, member
from bench.peers.workloads import ACTORS, OUTSTANDING, PAYLOAD, STARTING, answer

_CALLS_A_LOOK = 16  # the clock is not part of what is measured


async def rate(call: Callable[[int], Awaitable[object]], tasks: int, seconds: float) -> float:
    """How often per second ``call(task)`` returns, in so many tasks at once."""
    done = 0
    end = (start := time.perf_counter()) + seconds

    async def some(task: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call(task)
            done += 1

    async with trio.open_nursery() as nursery:
        for task in range(tasks):
            nursery.start_soon(some, task)
    return done / (time.perf_counter() - start)


async def tells_of(echoes: list[Echo], seconds: float) -> float:
    before = sum([await e.told() for e in echoes])
    sent = 0
    end = (start := time.perf_counter()) + seconds

    async def some(echo: Echo) -> None:
        nonlocal sent
        while time.perf_counter() < end:
            for _ in range(_CALLS_A_LOOK):
                await echo.note.tell(PAYLOAD)
            sent += _CALLS_A_LOOK

    async with trio.open_nursery() as nursery:
        for echo in echoes:
            nursery.start_soon(some, echo)
    ran = sum([await e.told() for e in echoes]) - before  # behind all of them
    assert ran == sent, f"{ran} of {sent} tells ran"
    return sent / (time.perf_counter() - start)


async def local(name: str, seconds: float) -> float:
    async with actors.open_system() as system:
        echo = system.ref(Echo, "near")
        await rate(lambda _: echo.echo(PAYLOAD), 1, seconds / 10)
        if name == "local tell":
            return await tells_of([echo], seconds)
        return await rate(lambda _: echo.echo(PAYLOAD), 1, seconds)


async def main() -> None:
    numbers = itertools.count()
    with hosts(1) as running:
        async with member(running, 1) as system:
            away = [system.ref(Echo, f"e{n}") for n in range(ACTORS)]
            assert {await e.host() for e in away} == {"bench-1"}

            async def round_trip(seconds: float) -> float:
                return 1e6 / await rate(lambda _: away[0].echo(PAYLOAD), 1, seconds)

            async def start(_: int) -> None:
                await system.spawn(Idle, f"s{next(numbers)}")

            measures: dict[str, Callable[[float], Awaitable[float]]] = {
                "remote round trip, 1 outstanding": round_trip,
                "remote asks, 64 outstanding": lambda s: rate(
                    lambda n: away[n % ACTORS].echo(PAYLOAD), OUTSTANDING, s
                ),
                "remote tells": lambda s: tells_of(away, s),
                "actors started": lambda s: rate(start, STARTING, s),
            }
            answer("ready")
            while line := await trio.to_thread.run_sync(sys.stdin.readline):
                name, seconds = json.loads(line)
                if name in measures:
                    found = await measures[name](seconds)
                else:  # a run of Trio's own, in a thread of its own
                    run = partial(trio.run, local, name, seconds)
                    found = await trio.to_thread.run_sync(run)
                answer(found)


if __name__ == "__main__":
    actors.run(main)
