"""What comes back from an actor that runs in a process of its own. A decision module: pure."""

from __future__ import annotations

import msgspec

from wire.errors import RoostError


class Encoded(msgspec.Struct):
    """A result, or an item of a stream, as bytes already."""

    payload: bytes


class ProcessDied(Exception):
    """The process ended without being asked to."""


class ChildRaised(Exception):
    """What the actor's own code raised over there. ``error`` is what its caller gets."""

    def __init__(self, error: RoostError) -> None:
        super().__init__(error.message)
        self.error = error


def raised(error: RoostError) -> ChildRaised:
    """As an exception that is called what the original was."""
    name = str(getattr(error, "type_name", "")) or type(error).__name__
    found: ChildRaised = type(name, (ChildRaised,), {})(error)
    return found
