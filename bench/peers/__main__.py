"""How does Roost compare with Ray, xoscar, Thespian, Pykka and dask.distributed's actors?

    python -m bench.peers [PEER ...] [--short] [--repeat N] [--json FILE] [--plot FILE.svg]

The same workloads in one run on one machine, turn by turn: Roost, the peer, Roost, the peer. Each
peer has a virtual environment of its own, which is made at the first run from its pinned and
hashed requirements, and is written as its documentation advises. At the end a table of ratios, with
the goals that Roost set itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from bench.peers.venvs import HERE, lock, python_of, version_of
from bench.peers.workloads import MARK, WORKLOADS
from bench.plot import Bar
from bench.report import Figure, Report, arguments, finish

MARKED = "ROOST_BENCH_CONTESTANT"
PEERS = ("xoscar", "pykka", "ray", "thespian", "distributed")
ROUND_TRIP, ASKS, TELLS, LOCAL_ASK, LOCAL_TELL, STARTED = WORKLOADS
#: A round trip should take at most so many times the peer's; all else be at least as many times
#: as fast.
GOALS = {
    (ROUND_TRIP, "xoscar"): 1.0, (ROUND_TRIP, "ray"): 0.45, (ASKS, "xoscar"): 4.0,
    (ASKS, "ray"): 20.0, (TELLS, "xoscar"): 20.0, (LOCAL_ASK, "xoscar"): 3.0,
    (LOCAL_ASK, "pykka"): 3.0, (LOCAL_TELL, "pykka"): 3.0, (STARTED, "xoscar"): 3.0,
    (STARTED, "ray"): 1000.0,
}  # fmt: skip


class Contestant:
    """A process that does workloads when told to."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.name = name
        self._process = process
        self._log = log
        self._read()  # it is ready

    def measure(self, workload: str, seconds: float) -> float | None:
        """The figure, or None where it has no such thing. Raises RuntimeError if it ended."""
        assert self._process.stdin is not None
        try:
            print(json.dumps([workload, seconds]), file=self._process.stdin, flush=True)
            found = self._read()
        except BrokenPipeError:
            raise self._ended() from None
        return None if found is None else float(found)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise self._ended()

    def _ended(self) -> RuntimeError:
        self._log.seek(0)
        return RuntimeError(f"{self.name} has ended:\n{self._log.read()[-2000:]}")


@contextmanager
def _contestant(name: str, command: Sequence[str]) -> Iterator[Contestant]:
    with tempfile.TemporaryFile("w+") as log:
        pipe, mark = subprocess.PIPE, uuid.uuid4().hex
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=os.environ | {MARKED: mark}
        )
        try:
            yield Contestant(name, process, log)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _end_all(mark)


def _end_all(mark: str) -> None:
    """Kill what a framework has left running: its daemons bear the mark of who started them."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARKED}={mark}".encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended, or is another user's


def _compare(report: Report, peer: str, repeat: int, seconds: float) -> None:
    """Roost and one peer in turns."""
    theirs = [python_of(peer), str(HERE / f"with_{peer}.py")]
    ours = [sys.executable, "-m", "bench.peers.with_roost"]
    with _contestant("roost", ours) as roost, _contestant(peer, theirs) as other:
        for turn in range(-1, repeat):
            for workload, unit in WORKLOADS.items():
                better = "less" if unit == "us" else "more"
                for one in (roost, other) if turn % 2 else (other, roost):
                    # The first turn is warm-up, and says which workloads this peer has.
                    found = one.measure(workload, seconds if turn >= 0 else seconds / 4)
                    if found is not None and turn >= 0:
                        label = peer if one is other else f"Roost beside {peer}"
                        report.add(f"{workload}: {label}", unit, found, better)


class Compared(NamedTuple):
    """One workload, here and on one peer. ``ratio`` is Roost's figure over the peer's."""

    workload: str
    peer: str
    ours: Figure
    theirs: Figure

    @property
    def ratio(self) -> float:
        return self.ours.median / self.theirs.median

    @property
    def judged(self) -> str:
        goal = GOALS.get((self.workload, self.peer))
        if goal is None:
            return ""
        if self.ours.better == "less":
            return f"at most {goal:g}: {'met' if self.ratio <= goal else 'not met'}"
        return f"at least {goal:g}: {'met' if self.ratio >= goal else 'not met'}"

    def row(self) -> str:
        ours, theirs = f"{self.ours.median:,.0f}", f"{self.theirs.median:,.0f}"
        unit, ratio = self.ours.unit, f"{self.ratio:,.3g}"
        cells = (
            self.workload, self.peer, f"{ours} {unit}", f"{theirs} {unit}", ratio, self.judged,
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"

    @property
    def cell(self) -> str:
        """The peer's figure, and how many times as fast Roost is."""
        times = 1 / self.ratio if self.ours.better == "less" else self.ratio
        return f"{self.theirs.median:,.0f} ({times:,.3g})"

    def bar(self, peers: Sequence[str]) -> Bar:
        """How many times as fast Roost is, with the extremes of all samples."""
        pairs = [(a, b) for a in self.ours.samples for b in self.theirs.samples]
        if self.ours.better == "less":
            pairs = [(b, a) for a, b in pairs]
        times = 1 / self.ratio if self.ours.better == "less" else self.ratio
        spread = [a / b for a, b in pairs]
        name, group = f"{self.workload}, {self.peer}", peers.index(self.peer)
        return Bar(name, "x", times, min(spread), max(spread), group)


def _compared(report: Report, peers: Sequence[str]) -> list[Compared]:
    """Every workload with every peer that has it."""
    return [
        Compared(workload, peer, report.figures[f"{workload}: Roost beside {peer}"], theirs)
        for workload in WORKLOADS
        for peer in peers
        if (theirs := report.figures.get(f"{workload}: {peer}")) is not None
    ]


def _note_ratios(report: Report, compared: Sequence[Compared]) -> None:
    """The table at the end."""
    report.note("\n| workload | peer | Roost | the peer | ratio | goal |")
    report.note("| --- | --- | --- | --- | --- | --- |")
    for one in compared:
        report.note(one.row())
    report.note(
        "\nThe ratio is Roost's figure over the peer's: of times the less, the better, of rates "
        "the more."
    )


def _note_overview(report: Report, compared: Sequence[Compared], peers: Sequence[str]) -> None:
    """One row for each workload: medians, and how many times as fast Roost is as each peer."""
    versions = ", ".join(f"{peer} {version_of(peer)}" for peer in peers)
    report.note(f"\n{versions}\n")
    report.note(f"| | Roost | {' | '.join(peers)} |")
    report.note(f"| --- | {' | '.join(['---:'] * (len(peers) + 1))} |")
    for workload, unit in WORKLOADS.items():
        by_peer = {one.peer: one for one in compared if one.workload == workload}
        if by_peer:
            ours = statistics.median([s for one in by_peer.values() for s in one.ours.samples])
            cells = [by_peer[peer].cell if peer in by_peer else "-" for peer in peers]
            report.note(f"| {workload}, {unit} | {ours:,.0f} | {' | '.join(cells)} |")
    report.note("\nIn brackets: how many times as fast Roost is.")


def run(argv: Sequence[str] | None = None, peers: Sequence[str] = PEERS) -> Report:
    options = arguments("peers", __doc__ or "", repeat=5, argv=argv, seconds=(1.0, "per sample"))
    for peer in peers:
        python_of(peer)
    report = Report("How many times as fast as its peers: Roost, 64-byte payloads")
    repeat, seconds = (3, 0.3) if options.short else (options.repeat, options.seconds)
    for peer in peers:
        print(f"beside {peer} ...", file=sys.stderr, flush=True)
        _compare(report, peer, repeat, seconds)
    compared = _compared(report, peers)
    _note_ratios(report, compared)
    _note_overview(report, compared, peers)
    finish(report, options, [one.bar(peers) for one in compared])
    return report


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--lock", action="store_true", help="pin the newest releases anew")
    parser.add_argument("--set-up", action="store_true", help="make the environments, no more")
    known, rest = parser.parse_known_args()
    chosen = [word for word in rest if word in PEERS] or list(PEERS)
    if known.lock:
        for peer in chosen:
            lock(peer)
    elif known.set_up:
        for peer in chosen:
            python_of(peer)
    else:
        run([word for word in rest if word not in PEERS], chosen)


if __name__ == "__main__":
    main()
