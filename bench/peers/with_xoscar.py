# mypy: ignore-errors
"""The workloads on xoscar: the caller in the main pool, actors in a sub-pool's process."""

from __future__ import annotations

import asyncio
import itertools
import time

import uvloop
import xoscar as xo
from workloads import (
    ACTORS,
    OUTSTANDING,
    PAYLOAD,
    STARTING,
    rate_async,
    serve_async,
)  # fmt: skip


class Echo(xo.StatelessActor):
    def __init__(self):
        self.count = 0

    async def echo(self, data):
        return data

    async def note(self, data):
        self.count += 1

    async def told(self):
        return self.count


async def tells_of(echoes, seconds):
    before = sum([await e.told() for e in echoes])
    sent, end = 0, (start := time.perf_counter()) + seconds

    async def some(echo):
        nonlocal sent
        while time.perf_counter() < end:
            await echo.note.tell(PAYLOAD)
            sent += 1

    await asyncio.gather(*(some(echo) for echo in echoes))
    while sum([await e.told() for e in echoes]) < before + sent:  # they may come later
        await asyncio.sleep(0.001)
    return sent / (time.perf_counter() - start)


async def main():
    pool = await xo.create_actor_pool("127.0.0.1:0", n_process=1)
    async with pool:
        here = pool.external_address
        there = pool.sub_processes and next(a for a in pool.sub_processes if a != here)
        away = [await xo.create_actor(Echo, address=there, uid=f"e{n}") for n in range(ACTORS)]
        near = await xo.create_actor(Echo, address=here, uid="near")
        numbers = itertools.count()

        async def round_trip(seconds):
            return 1e6 / await rate_async(lambda _: away[0].echo(PAYLOAD), 1, seconds)

        async def start(_):
            return await xo.create_actor(Echo, address=there, uid=f"s{next(numbers)}")

        await serve_async({
            "remote round trip, 1 outstanding": round_trip,
            "remote asks, 64 outstanding": lambda s: rate_async(
                lambda n: away[n % ACTORS].echo(PAYLOAD), OUTSTANDING, s),
            "remote tells": lambda s: tells_of(away, s),
            "local ask, one after another": lambda s: rate_async(
                lambda _: near.echo(PAYLOAD), 1, s),
            "local tell": lambda s: tells_of([near], s),
            "actors started": lambda s: rate_async(start, STARTING, s),
        })  # fmt: skip


if __name__ == "__main__":
    uvloop.run(main())
