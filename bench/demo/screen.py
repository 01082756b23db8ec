"""What the demo prints: lines, a bar while it works (on a terminal only), a table at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import TextIO

from deploy.tables import paint

BAR_WIDTH = 30
_CLEAR = "\r\x1b[K"


class Screen:
    """Lines that stay, and below them one that is repainted; on no terminal only the former."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = ""
        self._full, self._free = "█░" if out.encoding.lower() == "utf-8" else "#-"

    def say(self, line: str = "") -> None:
        """Print a line."""
        self._write(f"{_CLEAR}{line}\n{self._bar}" if self._is_live else f"{line}\n")

    def paint(self, text: str, colour: str) -> str:
        """``text`` in ``colour``, on a terminal that wants colours."""
        return paint(text, colour, self._out)

    def progress(self, done: int, total: int, note: str) -> None:
        """Repaint the bar."""
        filled = BAR_WIDTH * done // max(total, 1)
        bar = self._full * filled + self._free * (BAR_WIDTH - filled)
        line = f"  {bar}  {done:,} of {total:,} {note}"
        self._repaint(line[: shutil.get_terminal_size().columns - 1])

    def end_progress(self) -> None:
        """Remove the bar."""
        self._repaint("")

    def _repaint(self, bar: str) -> None:
        if self._is_live and bar != self._bar:
            self._bar = bar
            self._write(_CLEAR + bar)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns, the names to the left."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)
