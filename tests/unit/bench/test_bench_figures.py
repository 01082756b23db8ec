"""What the benchmarks make of their samples."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from xml.dom import minidom

import pytest

import bench.__main__ as suite
from bench import report as reports
from bench.load import OpenLoop, quantile, slope
from bench.peers import venvs
from bench.peers.__main__ import PEERS, STARTED, _compared
from bench.plot import Bar, drawn
from bench.report import Report, arguments, finish


def test_slope_is_growth_per_unit() -> None:
    assert slope([10.0, 12.0, 14.0, 16.0], step=0.5) == pytest.approx(4.0)
    assert slope([5.0, 5.0, 5.0], step=1.0) == 0.0


def test_quantiles_of_sorted_samples() -> None:
    ordered = [float(n) for n in range(1000)]
    assert quantile(ordered, 0.5) == 500
    assert quantile(ordered, 0.999) == 999
    assert math.isnan(quantile([], 0.5))


async def test_open_loop_counts_each_call_from_when_it_was_due() -> None:
    import trio

    async def call(number: int) -> None:
        if number % 10 == 9:
            raise ValueError("every tenth")

    load = OpenLoop(1_000.0, call)
    with trio.move_on_after(0.2):
        await load.run()
    assert len(load.failures) + len(load.samples) > 20
    assert all("every tenth" in failure for failure in load.failures)
    first = load.samples[0].due
    assert len(load.between(first, first + 0.05)) <= 50


def test_picture_is_svg_with_every_figure() -> None:
    bars = [Bar("asks <64>", "asks/s", 12_000.0, 9_000.0, 15_000.0), Bar("none", "us", 0.0, 0, 0)]
    picture = minidom.parseString(drawn("a title", bars))
    words = [node.firstChild.data for node in picture.getElementsByTagName("text")]  # type: ignore[union-attr]
    assert "asks <64>" in words
    assert "12,000 asks/s" in words


def test_report_keeps_raw_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_commit", lambda: "abc")
    report = Report("a question")
    for value in (3.0, 1.0, 2.0):
        report.add("asks", "asks/s", value)
    files = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.svg")]
    finish(report, arguments("x", "doc", repeat=1, argv=files))
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["commit"] == "abc"
    assert written["figures"][0]["samples"] == [3.0, 1.0, 2.0]
    assert written["figures"][0]["median"] == 2.0
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_goals_are_judged_by_the_medians() -> None:
    report = Report("peers")
    for ours, theirs in ((4_000.0, 1_000.0), (6_000.0, 2_000.0), (5_000.0, 1_500.0)):
        report.add(f"{STARTED}: Roost beside xoscar", "actors/s", ours)
        report.add(f"{STARTED}: xoscar", "actors/s", theirs)
    (one,) = _compared(report, ["xoscar", "ray"])
    assert one.ratio == pytest.approx(5_000 / 1_500)
    assert one.judged == "at least 3: met"


@pytest.mark.parametrize("peer", PEERS)
def test_requirements_of_peers_are_pinned_and_hashed(peer: str) -> None:
    lines = venvs.requirements(peer).read_text().splitlines()
    pinned = [line for line in lines if line[:1].isalnum()]
    assert any(line.startswith(f"{peer}==") for line in pinned)
    assert all("==" in line for line in pinned)
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
    assert not any("://" in line for line in lines)


@pytest.mark.parametrize("name", suite.ALL)
def test_every_benchmark_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    module = importlib.import_module("bench.peers.__main__" if name == "peers" else f"bench.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert "--short" in capsys.readouterr().out
