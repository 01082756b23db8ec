"""``python -m tests.simulation``: run seeds, and stop at the first that breaks an invariant.

Without --seed it goes through seeds, from --first on, for --seconds. Exit 1 if one breaks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence

from tests.simulation.run import STEPS, Result, profile_of, run_seed

LAST_EVENTS = 60


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and nothing else")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--steps", type=int, default=STEPS, help="faults and moves of one run")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on")
    parser.add_argument("--profile", default="", help="only seeds of this profile")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a breach")
    parser.add_argument("--events", type=int, default=LAST_EVENTS, help="how many to print")
    parser.add_argument("--json", action="store_true", help="one line for each run")
    args = parser.parse_args(argv)
    seeds = iter((args.seed,)) if args.seed is not None else _seeds(args)
    until = time.monotonic() + args.seconds
    broken, runs, virtual_s = 0, 0, 0.0
    for seed in seeds:
        result = run_seed(seed, args.steps)
        runs, virtual_s = runs + 1, virtual_s + result.virtual_s
        broken += bool(result.violations)
        _show(result, args)
        if (result.violations and not args.keep_going) or time.monotonic() > until:
            break
    if not args.json:
        hours = virtual_s / 3600
        print(f"{runs} runs, {hours:.2f} virtual hours, {broken} with a breach", flush=True)
    return 1 if broken else 0


def _seeds(args: argparse.Namespace) -> Iterator[int]:
    seed = args.first
    while True:
        if not args.profile or profile_of(seed).name == args.profile:
            yield seed
        seed += 1


def _show(result: Result, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(result.as_dict()), flush=True)
    elif result.violations:
        for event in result.events[-args.events :] if args.events > 0 else ():
            print(f"  {event}")
        print(f"\nseed {result.seed} ({result.profile}, {result.steps} steps) breaks:")
        for violation in result.violations:
            print(f"  {violation}")
        print(f"replay: make sim SEED={result.seed}  (trace {result.trace})\n", flush=True)
    elif args.seed is not None:
        print(f"seed {result.seed} ({result.profile}): clean, trace {result.trace}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
