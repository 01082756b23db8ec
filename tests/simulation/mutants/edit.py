"""Edits: another body for a function of the real code, for the length of a block.

The function object stays the same, so whoever holds it already runs the other body, too.
"""

from __future__ import annotations
import __future__

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from textwrap import dedent
from types import CodeType, FunctionType
from typing import NamedTuple


class Edit(NamedTuple):
    """``place``: "module:function" or "module:Class.method". ``old`` must be there exactly once."""

    place: str
    old: str
    new: str


class Stale(Exception):
    """The code that an edit is about does not read as the edit says any more."""


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[None]:
    """All edits hold within the block. Raises Stale, and then none holds."""
    before: list[tuple[FunctionType, CodeType]] = []
    try:
        for place in dict.fromkeys(edit.place for edit in edits):
            function = _function_at(place)
            code = _edited_code(function, [edit for edit in edits if edit.place == place])
            before.append((function, function.__code__))
            function.__code__ = code
        yield
    finally:
        for function, code in reversed(before):
            function.__code__ = code


def _function_at(place: str) -> FunctionType:
    module, _, path = place.partition(":")
    found: object = import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    if not isinstance(found, FunctionType):
        raise Stale(f"{place} is no function")
    return found


def _edited_code(function: FunctionType, edits: Sequence[Edit]) -> CodeType:
    source = dedent(inspect.getsource(function))
    for edit in edits:
        if source.count(edit.old) != 1:
            raise Stale(f"{edit.place} has {source.count(edit.old)} times, not once: {edit.old}")
        source = source.replace(edit.old, edit.new)
    flags = __future__.annotations.compiler_flag
    module = compile(source, inspect.getsourcefile(function) or "?", "exec", flags)
    name = function.__name__
    return next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == name)
