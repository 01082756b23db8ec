"""How fast are calls between two host processes?

Round trip with one call outstanding, asks with 64 and 512 outstanding on 16 actors, tells, a
stream, and larger payloads; arguments checked, deadlines on, both hosts on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio

import actors
from bench.app import Echo
from bench.cluster import hosts, member
from bench.report import Report, arguments, finish

ACTORS = 16
SIZES = (64, 4 << 10, 256 << 10)


async def _measure(report: Report, repeat: int, seconds: float) -> None:
    with hosts(1) as running:
        async with member(running, 1) as system:
            echoes = [system.ref(Echo, f"e{i}") for i in range(ACTORS)]
            assert all([await e.host() == "bench-1" for e in echoes])
            await _many(echoes, 64, seconds / 4, b"x" * 64)
            for _ in range(repeat):
                await _once(report, echoes, seconds)


async def _once(report: Report, echoes: Sequence[Echo], seconds: float) -> None:
    for size in SIZES:
        data = b"x" * size
        rate = await _many(echoes[:1], 1, seconds, data)
        report.add(f"round trip, {_size(size)}", "us", 1e6 / rate, "less")
        for outstanding in (64, 512):
            if size == SIZES[-1] and outstanding == 512:
                continue  # half a GB under way says nothing about a link
            rate = await _many(echoes, outstanding, seconds, data)
            report.add(f"asks, {outstanding} outstanding, {_size(size)}", "asks/s", rate)
    report.add("tells, 64 B", "tells/s", await _tells(echoes, seconds))
    report.add("stream, 64 B", "items/s", await _items(echoes[0], 50_000))


async def _many(echoes: Sequence[Echo], outstanding: int, seconds: float, data: bytes) -> float:
    """Asks per second, with so many under way."""
    done = 0
    start = time.perf_counter()

    async def some(echo: Echo) -> None:
        nonlocal done
        while time.perf_counter() < start + seconds:
            await echo.echo(data)
            done += 1

    async with trio.open_nursery() as nursery:
        for number in range(outstanding):
            nursery.start_soon(some, echoes[number % len(echoes)])
    return done / (time.perf_counter() - start)


async def _tells(echoes: Sequence[Echo], seconds: float) -> float:
    """Tells per second, from the first to the last that has run."""
    told = sum([await echo.told() for echo in echoes])
    sent = 0
    start = time.perf_counter()

    async def some(echo: Echo) -> None:
        nonlocal sent
        data = b"x" * 64
        while time.perf_counter() < start + seconds:
            await echo.note.tell(data)
            sent += 1

    async with trio.open_nursery() as nursery:
        for echo in echoes:
            nursery.start_soon(some, echo)
    ran = sum([await echo.told() for echo in echoes]) - told  # behind all tells, in order
    assert ran == sent, f"{ran} of {sent} tells ran"
    return sent / (time.perf_counter() - start)


async def _items(echo: Echo, count: int) -> float:
    start = time.perf_counter()
    taken = 0
    async for _ in echo.items(count, b"x" * 64):
        taken += 1
    assert taken == count
    return count / (time.perf_counter() - start)


def _size(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size >> 10} KB"


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("remote", __doc__ or "", repeat=5, argv=argv, seconds=(1.0, "per sample"))
    report = Report("two host processes on one machine")
    seconds = 0.4 if options.short else options.seconds
    actors.run(_measure, report, 3 if options.short else options.repeat, seconds)
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
