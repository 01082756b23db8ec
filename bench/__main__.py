"""All benchmarks, one after another.

    python -m bench [--short] [--only NAME,...] [--json FOLDER] [--plot FOLDER]

``--short`` takes under ten minutes, the setting up of the peers' environments excluded; without
it about an hour, with a million actors in one host, 100,000 that move, and minutes of mixed load.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: In the order in which they run; each in a process of its own.
ALL = (
    "ring", "local", "remote", "spawn", "memory", "gateway", "redis", "scale", "soak", "model",
    "peers",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--short", action="store_true", help="fewer and smaller")
    parser.add_argument("--only", default=",".join(ALL), help="which ones (all)")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="raw samples go there")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="pictures go there")
    options = parser.parse_args(argv)
    names = options.only.split(",")
    if unknown := set(names) - set(ALL):
        parser.error(f"no benchmark is called {min(unknown)!r}; there are {', '.join(ALL)}")
    if "peers" in names:
        subprocess.run([sys.executable, "-m", "bench.peers", "--set-up"], check=True)
    failed = [name for name in names if not _run(name, options)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str, options: argparse.Namespace) -> bool:
    """Whether it came to its end."""
    command = [sys.executable, "-m", f"bench.{name}", *(["--short"] if options.short else [])]
    for flag, folder, suffix in (
        ("--json", options.json, ".json"),
        ("--plot", options.plot, ".svg"),
    ):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            command += [flag, str(folder / f"{name}{suffix}")]
    print(f"\n== {name}", flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, check=False)
    print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    main()
