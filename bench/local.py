"""How fast is an actor inside one host, without network and Redis?

Ask, tell and stream of 64-byte payloads, one caller, arguments checked and deadlines on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio

import actors
from bench.app import Echo
from bench.report import Report, arguments, finish

DATA = b"x" * 64


async def _measure(report: Report, repeat: int, calls: int) -> None:
    async with actors.open_system() as system:
        echo = system.ref(Echo, "a")
        for _ in range(calls // 10):
            await echo.echo(DATA)
        for _ in range(repeat):
            report.add("ask, one after another", "asks/s", await _asks(echo, calls))
            report.add("asks, 64 outstanding", "asks/s", await _many(echo, calls))
            report.add("tell", "tells/s", await _tells(echo, calls * 4))
            report.add("stream", "items/s", await _items(echo, calls * 4))


async def _asks(echo: Echo, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        await echo.echo(DATA)
    return calls / (time.perf_counter() - start)


async def _many(echo: Echo, calls: int) -> float:
    async def some() -> None:
        for _ in range(calls // 64):
            await echo.echo(DATA)

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(some)
    return (calls // 64 * 64) / (time.perf_counter() - start)


async def _tells(echo: Echo, calls: int) -> float:
    before = await echo.told()
    start = time.perf_counter()
    for _ in range(calls):
        await echo.note.tell(DATA)
    assert await echo.told() == before + calls  # behind all of them
    return calls / (time.perf_counter() - start)


async def _items(echo: Echo, count: int) -> float:
    start = time.perf_counter()
    taken = 0
    async for _ in echo.items(count, DATA):
        taken += 1
    assert taken == count
    return count / (time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("local", __doc__ or "", repeat=7, argv=argv, calls=(20_000, "asks"))
    report = Report("one host, no network, 64-byte payloads")
    trio.run(_measure, report, 3 if options.short else options.repeat, options.calls)
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
