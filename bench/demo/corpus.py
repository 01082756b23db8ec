"""The files of the demo, and what counts as a word in them."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

#: The standard library counts in full; if it has fewer files, site-packages fill up to this.
DOCUMENTS_MIN = 1_500

_WORD = re.compile(rb"[a-z_]+")
_PACKAGES = {"site-packages", "dist-packages"}


class File(NamedTuple):
    """``name``: its path from the library's folder on. ``data``: bytes, not all are UTF-8."""

    name: str
    data: bytes

    @property
    def is_utf8(self) -> bool:
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return False
        return True


def count_words(data: bytes) -> dict[str, int]:
    """How often each run of ASCII letters and underscores occurs, in lower case."""
    return {word.decode(): n for word, n in Counter(_WORD.findall(data.lower())).items()}


def collect(at_most: int | None = None) -> list[File]:
    """Every .py file of the running Python's standard library, topped up to DOCUMENTS_MIN from
    its site-packages; only the first ``at_most`` of them if that is given."""
    files = list(islice(_python_files("stdlib"), at_most))
    missing = (DOCUMENTS_MIN if at_most is None else at_most) - len(files)
    return files + list(islice(_python_files("purelib", "site-packages/"), max(0, missing)))


def _python_files(where: str, prefix: str = "") -> Iterator[File]:
    folder = Path(sysconfig.get_path(where))
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if path.is_file() and not _PACKAGES.intersection(name.parts):
            yield File(prefix + name.as_posix(), path.read_bytes())
