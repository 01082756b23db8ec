# mypy: ignore-errors
"""The workloads on Ray: a local cluster; every actor is a process of its own.

Async actors, as its documentation advises for many small calls; ``ray.get`` on many at once. It
has no local calls, and no tell: a call whose result nobody asks for comes closest.
"""

from __future__ import annotations

import asyncio
import os
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from workloads import ACTORS, OUTSTANDING, PAYLOAD, rate, rate_async, serve


@ray.remote(num_cpus=0)
class Echo:
    def __init__(self):
        self.count = 0

    async def echo(self, data):
        return data

    async def note(self, data):
        self.count += 1

    async def told(self):
        return self.count


def main():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
             object_store_memory=100 << 20, _node_ip_address="127.0.0.1")  # fmt: skip
    echoes = [Echo.remote() for _ in range(ACTORS)]
    ray.get([e.told.remote() for e in echoes])

    async def asks(seconds):
        """In asyncio, whose tasks may await results of Ray: faster here than ray.wait()."""
        return await rate_async(
            lambda n: echoes[n % ACTORS].echo.remote(PAYLOAD), OUTSTANDING, seconds
        )

    def tells(seconds):
        before = sum(ray.get([e.told.remote() for e in echoes]))
        number, end = 0, (start := time.perf_counter()) + seconds
        while time.perf_counter() < end:
            echoes[number % ACTORS].note.remote(PAYLOAD)
            number += 1
        while sum(ray.get([e.told.remote() for e in echoes])) < before + number:
            time.sleep(0.001)
        return number / (time.perf_counter() - start)

    def spawn(seconds):
        started = []

        def one():
            started.append(Echo.remote())
            ray.get(started[-1].told.remote())

        found = rate(one, max(seconds, 1.0))
        for actor in started:
            ray.kill(actor)
        return found

    serve({
        "remote round trip, 1 outstanding": lambda s: 1e6 / rate(
            lambda: ray.get(echoes[0].echo.remote(PAYLOAD)), s),
        "remote asks, 64 outstanding": lambda s: asyncio.run(asks(s)),
        "remote tells": tells,
        "actors started": spawn,
    })  # fmt: skip
    ray.shutdown()


if __name__ == "__main__":
    main()
