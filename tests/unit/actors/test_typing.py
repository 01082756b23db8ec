"""Asks, tells and streams check under mypy --strict, and what is wrong is an error."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

SAMPLE = Path(__file__).with_name("typing_sample.py")


def test_mypy_accepts_what_is_right_and_names_what_is_wrong() -> None:
    root = SAMPLE.parents[3]
    out, err, _ = api.run(
        ["--strict", "--no-error-summary", "--config-file", str(root / "pyproject.toml"),
         "--hide-error-context", str(SAMPLE)]
    )  # fmt: skip
    assert err == ""
    found: dict[int, str] = {}
    for line, text in re.findall(r"typing_sample\.py:(\d+): error: (.*)$", out, re.MULTILINE):
        found[int(line)] = found.get(int(line), "") + text
    expected = {
        number: text.strip()
        for number, line in enumerate(SAMPLE.read_text().splitlines(), 1)
        for _, marker, text in [line.partition("# E:")]
        if marker and not line.startswith(('"""', "that"))
    }
    assert found.keys() == expected.keys(), out
    for number, text in expected.items():
        assert text in found[number], f"line {number}: {found[number]}"
