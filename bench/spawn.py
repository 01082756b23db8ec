"""How fast do actors start, without Redis and each claimed in Redis?

One host starts actors that are all new, many at a time and one after another. With Redis it counts
the scripts that one activation costs: claims that come together share one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis
import trio

import actors
from bench.app import Idle
from bench.report import Report, arguments, finish
from deploy import embedded

TASKS = 256


async def _measure(report: Report, redis_url: str, repeat: int, count: int) -> None:
    server = redis.Redis.from_url(redis_url)
    config = actors.HostConfig(redis_url=redis_url, host_id="bench-1", bind="127.0.0.1", port=0)
    async with actors.open_system([Idle]) as local, actors.open_host(config, [Idle]) as host:
        await _start_many(host, "warm", 1_000)
        for number in range(repeat):
            report.add("without Redis", "actors/s", await _start_many(local, f"a{number}-", count))
            before = _scripts(server)
            rate = await _start_many(host, f"a{number}-", count)
            report.add("claimed in Redis", "actors/s", rate)
            calls = (_scripts(server) - before) / count
            report.add("scripts per activation, many at once", "scripts", calls, "less")
            before = _scripts(server)
            rate = await _start_in_turn(host, f"b{number}-", count // 10)
            report.add("claimed in Redis, one after another", "actors/s", rate)
            calls = (_scripts(server) - before) / (count // 10)
            report.add("scripts per activation, one after another", "scripts", calls, "less")


async def _start_many(system: actors.System, prefix: str, count: int) -> float:
    """Actors per second, ``TASKS`` at a time."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await system.spawn(Idle, f"{prefix}{number}")

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(some)
    return count / (time.perf_counter() - start)


async def _start_in_turn(system: actors.System, prefix: str, count: int) -> float:
    start = time.perf_counter()
    for number in range(count):
        await system.spawn(Idle, f"{prefix}{number}")
    return count / (time.perf_counter() - start)


def _scripts(server: redis.Redis) -> int:
    """Scripts that the server has run so far; a renewal now and then is among them."""
    found = server.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("spawn", __doc__ or "", repeat=5, argv=argv, count=(10_000, "actors"))
    report = Report(f"actors started in one host, {TASKS} at a time")
    with embedded.serve() as server:
        embedded.settle(server.url)
        count = options.count // 2 if options.short else options.count
        actors.run(_measure, report, server.url, 3 if options.short else options.repeat, count)
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
