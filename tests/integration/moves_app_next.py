"""The next version of moves_app: one class reads only a state that its earlier version never wrote,
and one is new."""

from __future__ import annotations

import msgspec

from actors import Actor, handler
from tests.integration.moves_app import Hanging, Note, Stubborn

__all__ = ["Fleeting", "KINDS"]


class Form(msgspec.Struct):
    text: int = 0


class Versioned(Actor):
    state: Form

    @handler
    def get(self) -> int:
        return self.state.text


class Fleeting(Actor):
    """A kind that leaves the cluster with its only host."""

    @handler
    def hi(self) -> str:
        return "hi"


KINDS = [Note, Stubborn, Hanging, Versioned]
