"""Arguments of a call as typed at a shell: JSON in, positional and named arguments out. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from wire.errors import ConfigError


class Arguments(NamedTuple):
    """Of one call; one of the two is empty."""

    positional: list[Any]
    named: dict[str, Any]


def parse(text: str) -> Arguments:
    """``{"n": 1}`` by name, ``[1, 2]`` by position, nothing: none. Raises ConfigError."""
    if not text.strip():
        return Arguments([], {})
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"the arguments {_short(text)} are not JSON: {exc}") from None
    if isinstance(value, dict):
        return Arguments([], value)
    if isinstance(value, list):
        return Arguments(value, {})
    raise ConfigError(
        f"the arguments {_short(text)} are neither an object (by name) nor an array (by position): "
        f"write [{_short(text)}]"
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
