"""``python -m tests.simulation.mutants``: break the protocol on purpose, and see who notices.

Each mutant is hunted in a process of its own. Exit 0 if each is found, by an invariant that it
should break, and the unbroken code passes the very seeds that found them.

Example:  python -m tests.simulation.mutants lease-from-reply --seconds 60
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.hunt import Hunt, hunt, violations_of

SECONDS = 90.0
ROW = "{:29} {:4} {:8} {:>6} {:>5} {:>7}  {}"


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    if args.list:
        for name in args.mutants:
            print(f"{name:29} rule {MUTANTS[name].rule:3} {MUTANTS[name].says}")
        return 0
    start, hunts = time.monotonic(), []
    if not args.json:
        print(ROW.format("mutant", "rule", "", "seed", "runs", "seconds", "broken invariant"))
    for found in _hunts(args):
        hunts.append(found)
        if not args.json:
            print(_row(found), flush=True)
    guilty = _guilty_seeds(hunts, args.jobs)
    all_found = all(found.is_found for found in hunts)
    took_s = time.monotonic() - start
    if args.json:
        rows = [found.as_dict() for found in hunts]
        print(json.dumps({"mutants": rows, "unbroken_fails": guilty, "seconds": took_s}, indent=2))
    else:
        print(_summary(hunts, guilty, took_s))
    return 0 if all_found and not guilty else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutants", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("mutants", nargs="*", metavar="MUTANT", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="say what each breaks, and end")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the longest hunt of one")
    parser.add_argument("--first", type=int, help="hunt from this seed on, whatever is known")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    args = parser.parse_args(argv)
    unknown = [name for name in args.mutants if name not in MUTANTS]
    if unknown:
        parser.error(f"no such mutant: {', '.join(unknown)} (see --list)")
    args.mutants = args.mutants or list(MUTANTS)
    return args


def _hunts(args: argparse.Namespace) -> Iterator[Hunt]:
    with _pool(args.jobs) as pool:
        tasks = [pool.submit(hunt, name, args.seconds, args.first) for name in args.mutants]
        for task in as_completed(tasks):
            yield task.result()


def _guilty_seeds(hunts: Sequence[Hunt], jobs: int) -> dict[int, list[str]]:
    """Seeds that found a mutant and that the unbroken code does not pass either."""
    seeds = sorted({found.seed for found in hunts if found.is_found})
    with _pool(jobs) as pool:
        results = pool.map(violations_of, seeds)
        return {seed: broken for seed, broken in zip(seeds, results, strict=True) if broken}


def _pool(jobs: int) -> ProcessPoolExecutor:
    """One process for each task, so that no patch outlives its mutant."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)


def _row(found: Hunt) -> str:
    rule, seed = MUTANTS[found.name].rule, found.seed if found.is_found else "-"
    word = "found" if found.is_found else "SURVIVED"
    return ROW.format(
        found.name, rule, word, seed, found.seeds, f"{found.seconds:.1f}", found.breach[:90]
    )


def _summary(hunts: Sequence[Hunt], guilty: dict[int, list[str]], took_s: float) -> str:
    count = sum(found.is_found for found in hunts)
    lines = [f"{count} of {len(hunts)} mutants found in {took_s:.0f} s"]
    for seed, broken in guilty.items():
        lines.append(f"the unbroken code does not pass seed {seed} either: {broken[0]}")
    if not guilty:
        lines.append("the unbroken code passes every seed that found one")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
