"""``python -m tests.simulation.model``: search the model, or show what breaks without a rule.

Exit 0 if all is as it should be: the protocol exhausted with nothing broken, each mutant found.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from functools import partial

from tests.simulation.model.bounds import Bounds
from tests.simulation.model.mutants import MUTANTS
from tests.simulation.model.report import (
    STANDARD,
    Configuration,
    Report,
    legend,
    lines,
    search,
    search_mutant,
)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.model", description=__doc__)
    parser.add_argument("--hosts", type=int, help="with --actors: search one configuration only")
    parser.add_argument("--actors", type=int)
    parser.add_argument("--fine", action="store_true", help="leases step by step")
    parser.add_argument("--mutant", choices=["all", *MUTANTS], help="leave this rule out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--deadline", type=float, default=600.0, help="seconds for each search")
    for field in fields(Bounds):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, help="a bound")
    args = parser.parse_args(argv)
    if (args.hosts is None) != (args.actors is None):
        parser.error("--hosts and --actors go together")
    return args


def configurations(args: argparse.Namespace) -> list[Configuration]:
    """The standard ones, or the one that was asked for, with the bounds that were asked for."""
    given = {field.name: getattr(args, field.name) for field in fields(Bounds)}
    given = {name: count for name, count in given.items() if count is not None}
    if args.hosts is None:
        return [replace(c, bounds=replace(c.bounds, **given)) for c in STANDARD]
    wanted = Configuration(args.hosts, args.actors, STANDARD[0].bounds, args.fine)
    known = [c for c in STANDARD if replace(c, bounds=wanted.bounds) == wanted]
    configuration = (known or [wanted])[0]
    return [replace(configuration, bounds=replace(configuration.bounds, **given))]


def tasks(args: argparse.Namespace) -> list[Callable[[], Report]]:
    if args.mutant is None:
        return [partial(search, c, args.deadline) for c in configurations(args)]
    names = MUTANTS if args.mutant == "all" else [args.mutant]
    return [partial(search_mutant, name, args.deadline) for name in names]


def run_all(todo: list[Callable[[], Report]], jobs: int) -> Iterable[Report]:
    """The reports in order; a single task runs in this process."""
    if len(todo) == 1 or jobs == 1:
        yield from (task() for task in todo)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from [future.result() for future in [pool.submit(task) for task in todo]]


def main(argv: list[str]) -> int:
    args = arguments(argv)
    began = time.monotonic()
    reports = []
    for report in run_all(tasks(args), args.jobs):
        reports.append(report)
        if not args.json:
            told = not report.as_wanted or (args.mutant or "all") != "all"
            print(*lines(report, with_trace=told), sep="\n", flush=True)
    took_s = time.monotonic() - began
    if args.json:
        body = {"seconds": round(took_s, 2), "searches": [r.as_dict() for r in reports]}
        print(json.dumps(body, indent=2))
    else:
        print(*legend(), sep="\n")
        print(f"{took_s:.1f} s in all")
    return 0 if all(report.as_wanted for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
