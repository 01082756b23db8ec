"""Rows as a table for people: aligned columns, colour on a terminal only. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

_CODES = {
    "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35",
    "cyan": "36",
}  # fmt: skip


def render(header: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """The table as text: capitals on top, columns as wide as their widest cell, no borders."""
    cells = [[name.upper() for name in header], *([_clean(c) for c in row] for row in table)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
             for row in cells)  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


def paint(text: str, colour: str, stream: TextIO) -> str:
    """``text`` in ``colour`` if ``stream`` is a terminal that wants colours (NO_COLOR unset)."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def age(seconds: float) -> str:
    """``0.4s``, ``35s``, ``12m``, ``3h``, ``5d``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"


def _clean(cell: str) -> str:
    """Without line breaks and control characters, which could forge rows or move the cursor."""
    return "".join(c if c.isprintable() else "?" for c in cell)
