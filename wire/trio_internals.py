"""Whether the installed Trio is one whose internals Roost knows. Pure."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def digest(functions: Iterable[Callable[..., Any]]) -> str:
    """SHA-256 of the functions' source; raises OSError or TypeError where it cannot be read."""
    source = "".join(inspect.getsource(function) for function in functions)
    return hashlib.sha256(source.encode()).hexdigest()
