"""How even is the ring, how little does it move, and what does a look-up cost?

3 to 1,000 hosts of equal weight, random actors. A host that joins or leaves should move no more
than its share; the mean over several sets of hosts and the worst of them are both shown.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

from bench.report import Report, arguments, finish
from placement.records import Member, MemberState, View
from placement.ring import Ring, moved

SIZES = (3, 4, 8, 10, 30, 100, 300, 1_000)


def _ring(names: Sequence[str]) -> Ring:
    members = tuple(
        Member(host_id=n, incarnation=f"{n}-1", address="127.0.0.1:1", state=MemberState.UP)
        for n in sorted(names)
    )
    return Ring(View(1, 1, members))


def _measure(report: Report, size: int, keys: Sequence[str], rng: random.Random) -> None:
    names = [f"host-{rng.getrandbits(40):010x}" for _ in range(size + 1)]
    start = time.perf_counter()
    ring = _ring(names[:size])
    report.add(f"{size} hosts: first ring", "ms", (time.perf_counter() - start) * 1e3, "less")
    start = time.perf_counter()
    larger = _ring(names)
    report.add(f"{size} hosts: with one more", "ms", (time.perf_counter() - start) * 1e3, "less")
    start = time.perf_counter()
    owners = [ring.owner(key) for key in keys]
    rate = len(keys) / (time.perf_counter() - start)
    report.add(f"{size} hosts: look-ups", "lookups/s", rate)
    fullest = max(Counter(o.host_id for o in owners if o is not None).values())
    report.add(f"{size} hosts: fullest over mean", "ratio", fullest * size / len(keys), "less")
    share = len(moved(ring, larger, keys)) / len(keys)
    report.add(f"{size} hosts: moved by one more", "of its share", share * (size + 1), "less")


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("ring", __doc__ or "", repeat=7, argv=argv, actors=(200_000, "actors"))
    rng = random.Random(1)
    report = Report("consistent-hash ring, hosts of equal weight")
    repeat, count = (1, 50_000) if options.short else (options.repeat, options.actors)
    keys = [f"Agent/{rng.getrandbits(64):016x}" for _ in range(count)]
    for size in SIZES:
        for _ in range(repeat if size <= 100 else max(1, repeat // 3)):
            _measure(report, size, keys, rng)
    report.note(f"{count:,} actors, so with many hosts chance adds to the fullest")
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
