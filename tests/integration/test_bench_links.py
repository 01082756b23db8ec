"""The benchmark of the links runs, and writes what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_links_benchmark_measures_every_workload(tmp_path: Path) -> None:
    result = tmp_path / "links.json"
    command = [sys.executable, "-m", "bench.links", "--seconds", "0.05", "--repeat", "2"]
    done = subprocess.run(
        [*command, "--json", str(result)], capture_output=True, text=True, timeout=60, check=True
    )
    samples = json.loads(result.read_text())["samples"]
    assert all(len(values) == 2 and min(values) > 0 for values in samples.values())
    assert all(name in done.stdout for name in samples)
