"""What do callers notice while hosts come and go: 3 to 4, to 8, back to 3?

Actors with state get asks at a fixed rate all the while. For each change: which part of the actors
moved, how long until each was where the ring wants it (counted from when the view had changed),
how long calls took before, during and after, and how many failed. At the end every actor's count
is compared with the calls that were acknowledged: none lost, none run twice.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import trio

import actors
from actors import collector
from bench.app import Counter
from bench.cluster import Hosts, hosts, member, wait_up
from bench.load import OpenLoop, quantile
from bench.report import Report, arguments, finish

TASKS = 128
SAMPLE_MAX = 2_000
BALANCE_S = 120.0


class Scene:
    """The cluster under load, and what is seen of it."""

    def __init__(
        self, report: Report, running: Hosts, system: actors.HostSystem, count: int, rate: float
    ) -> None:
        self.report = report
        self._running = running
        self._system = system
        self._refs = [system.ref(Counter, f"s{n}") for n in range(count)]
        names = [f"Counter/s{n}" for n in range(count)]
        self._sample = names[:: max(1, count // SAMPLE_MAX)]
        # A prime step visits all in an order that no ring knows.
        self.load = OpenLoop(rate, lambda n: self._refs[n * 7919 % count].add(1))

    async def begin(self) -> None:
        """Start every actor."""
        start = time.perf_counter()
        await self._each(lambda counter: counter.add(0))
        rate = len(self._refs) / (time.perf_counter() - start)
        self.report.add("actors started, with state, by the caller", "actors/s", rate)

    async def watch(self, label: str, steady_s: float) -> None:
        """How long calls take while nothing changes."""
        start = time.perf_counter()
        await trio.sleep(steady_s)
        self._latencies(label, start)

    async def change(self, label: str, up: int, act: Callable[[], Awaitable[None]]) -> None:
        """Change the hosts and wait until the actors are where they belong."""
        before = await self._where(self._sample)
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            await wait_up(self._system, up, self._running)
            changed = time.perf_counter()
            await self._wait_balanced()
        self.report.add(f"{label}: balanced after", "s", time.perf_counter() - changed, "less")
        after = await self._where(self._sample)
        moved = sum(before[name] != after[name] for name in self._sample) / len(self._sample)
        self.report.add(f"{label}: moved share", "ratio", moved, "less")
        self._latencies(f"{label}, during", start)

    async def add_up(self) -> int:
        """All counts together."""
        total = 0

        async def one(counter: Counter) -> None:
            nonlocal total
            count = await counter.add(0)
            total += count

        await self._each(one)
        return total

    def _latencies(self, label: str, start: float) -> None:
        took = self.load.between(start, time.perf_counter())
        for name, q in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
            self.report.add(f"{label}: {name}", "ms", quantile(took, q) * 1e3, "less")

    async def _wait_balanced(self) -> None:
        waiting: Sequence[str] = self._sample
        with trio.fail_after(BALANCE_S):
            while waiting := await self._misplaced(waiting):
                await trio.sleep(0.1)

    async def _misplaced(self, names: Sequence[str]) -> list[str]:
        where = await self._where(names)
        ring = self._system.ring
        owners = {name: ring.owner(name) for name in names}
        return [n for n, o in owners.items() if o is None or where[n] != o.incarnation]

    async def _where(self, names: Sequence[str]) -> dict[str, str]:
        found = await self._system.registry.locate(names)
        return {n: at.incarnation if at else "" for n, at in zip(names, found, strict=True)}

    async def _each(self, act: Callable[[Counter], Awaitable[object]]) -> None:
        refs = iter(self._refs)

        async def some() -> None:
            for ref in refs:
                await act(ref)

        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(some)


async def _measure(report: Report, count: int, rate: float, steady_s: float) -> None:
    with hosts(3) as running:
        async with member(running, 3) as system:
            scene = Scene(report, running, system, count, rate)
            await scene.begin()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scene.load.run)
                nursery.start_soon(collector.run, system)  # as in any process that is a host
                await trio.sleep(1.0)
                await _grow_and_shrink(scene, running, steady_s)
                await trio.sleep(1.0)
                nursery.cancel_scope.cancel()
            load = scene.load
            report.add("failed calls", "calls", len(load.failures), "less")
            report.add("calls", "calls", len(load.samples))
            cut_off = load.cut
            total = await scene.add_up()
            lost = max(0, len(load.samples) - total)
            twice = max(0, total - len(load.samples) - cut_off - len(load.failures))
            report.add("acknowledged calls lost", "calls", lost, "less")
            report.add("calls run twice", "calls", twice, "less")
            for failure in sorted(set(load.failures))[:5]:
                report.note(f"failed: {failure[:200]}")


async def _grow_and_shrink(scene: Scene, running: Hosts, steady_s: float) -> None:
    await scene.watch("3 hosts", steady_s)

    async def start(first: int, last: int) -> None:
        for number in range(first, last + 1):
            running.start(f"bench-{number}")

    await scene.change("3 to 4", 4, lambda: start(4, 4))
    await scene.watch("4 hosts", steady_s)
    await scene.change("4 to 8", 8, lambda: start(5, 8))
    await scene.watch("8 hosts", steady_s)

    async def stop() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4, 9):
                nursery.start_soon(running.stop, f"bench-{number}")

    await scene.change("8 to 3", 3, stop)
    await scene.watch("3 hosts again", steady_s)


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments(
        "scale", __doc__ or "", repeat=1, argv=argv, actors=(100_000, "actors"),
        rate=(500.0, "asks per second"), steady_s=(20.0, "seconds between the changes"),
    )  # fmt: skip
    short = options.short
    count, steady_s = (5_000, 4.0) if short else (options.actors, options.steady_s)
    report = Report(f"{count:,} actors, {options.rate:g} asks/s, while hosts come and go")
    for _ in range(options.repeat):
        actors.run(_measure, report, count, options.rate, steady_s)
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
