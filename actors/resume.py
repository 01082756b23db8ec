"""What wakes a task that waits here: the outcome "go on", which may be taken again and again.

Trio makes one for each wake-up otherwise, at a twentieth of the cost of a local ask.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TypeVar

import outcome

T = TypeVar("T")


class _GoOn(outcome.Outcome[None]):
    """Like ``outcome.Value(None)``, except that it is not used up."""

    def unwrap(self) -> None:
        return None

    def send(self, gen: Generator[T, None, object]) -> T:
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[T, None]) -> T:
        return await agen.asend(None)


GO_ON = _GoOn()
