"""``python -m tests.simulation``: run seeds, and stop at the first that breaks an invariant.

Without --seed it goes through seeds, from --first on, for --seconds (or --minutes), and says how
often each thing that a run may meet has happened. Exit 1 if a seed breaks.

Examples:  python -m tests.simulation --minutes 60 --keep-going
           python -m tests.simulation --seed 71
           python -m tests.simulation --seed 5 --script "join 1, freeze 0.5, failover 2"
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.simulation.run import STEPS, Result, profile_of, run_seed
from tests.simulation.storm import STEP_NAMES

LAST_EVENTS = 60


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="run this one, and nothing else")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--steps", type=int, default=STEPS, help="faults and moves of one run")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on")
    parser.add_argument("--minutes", type=float, default=0.0, help="the same, in minutes")
    parser.add_argument("--script", type=as_script, help="with --seed: steps and pauses (s)")
    parser.add_argument("--profile", default="", help="only seeds of this profile")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a breach")
    parser.add_argument("--events", type=int, default=LAST_EVENTS, help="how many to print")
    parser.add_argument("--json", action="store_true", help="one line for each run")
    args = parser.parse_args(argv)
    if args.script is not None and args.seed is None:
        parser.error("--script needs --seed")
    seeds = iter((args.seed,)) if args.seed is not None else _seeds(args)
    until = time.monotonic() + (args.minutes * 60 or args.seconds)
    broken, runs, virtual_s, happened = 0, 0, 0.0, Counter[str]()
    for seed in seeds:
        result = run_seed(seed, args.steps, args.script)
        happened.update(result.counts)
        runs, virtual_s = runs + 1, virtual_s + result.virtual_s
        broken += bool(result.violations)
        _show(result, args)
        if (result.violations and not args.keep_going) or time.monotonic() > until:
            break
    if not args.json:
        for name, count in sorted(happened.items()):
            print(f"  {count:9,}  {name}")
        hours = virtual_s / 3600
        print(f"{runs} runs, {hours:.2f} virtual hours, {broken} with a breach", flush=True)
    return 1 if broken else 0


def as_script(text: str) -> list[tuple[str, float]]:
    """ "join 1, freeze at send 0.5" as steps with their pauses; raises ValueError for no script."""
    parts = [part.strip().rpartition(" ") for part in text.split(",") if part.strip()]
    unknown = [what for what, _, _ in parts if what not in STEP_NAMES]
    if unknown:
        raise ValueError(f"no such steps: {unknown}; there are {sorted(STEP_NAMES)}")
    return [(what, float(pause_s)) for what, _, pause_s in parts]


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
