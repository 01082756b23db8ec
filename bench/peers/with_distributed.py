# mypy: ignore-errors
"""The workloads on dask.distributed's actors: one worker process, an asynchronous client.

It has no tell: a call that nobody awaits comes closest, so many of them at a time.
"""

from __future__ import annotations

import asyncio
import time

from distributed import Client, LocalCluster
from workloads import ACTORS, OUTSTANDING, PAYLOAD, STARTING, rate_async, serve_async

AT_ONCE = 256


class Echo:
    def __init__(self):
        self.count = 0

    async def echo(self, data):
        return data

    async def note(self, data):
        self.count += 1

    async def told(self):
        return self.count


async def main():
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, asynchronous=True,
                           dashboard_address=None)  # fmt: skip
    async with cluster, Client(cluster, asynchronous=True) as client:

        async def start(_=None):
            return await client.submit(Echo, actor=True, pure=False)

        echoes = [await start() for _ in range(ACTORS)]

        async def round_trip(seconds):
            return 1e6 / await rate_async(lambda _: echoes[0].echo(PAYLOAD), 1, seconds)

        async def tells(seconds):
            done, end = 0, (begin := time.perf_counter()) + seconds
            while time.perf_counter() < end:
                calls = [echoes[n % ACTORS].note(PAYLOAD) for n in range(AT_ONCE)]
                await asyncio.gather(*calls)
                done += AT_ONCE
            return done / (time.perf_counter() - begin)

        await serve_async({
            "remote round trip, 1 outstanding": round_trip,
            "remote asks, 64 outstanding": lambda s: rate_async(
                lambda n: echoes[n % ACTORS].echo(PAYLOAD), OUTSTANDING, s),
            "remote tells": tells,
            "actors started": lambda s: rate_async(start, STARTING, s),
        })  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
