"""Looking at much in parts, so that the loop is never held up for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import trio

T = TypeVar("T")

#: What is looked at before others have the loop, and how long they have it then (seconds).
CHUNK, PAUSE_S = 500, 0.001


async def in_parts(everything: list[T], chunk: int = CHUNK) -> AsyncIterator[list[T]]:
    """Take ``everything`` from its list, some of it at a time. What nobody else holds any more
    goes with its part: 100,000 objects that go together hold up the loop for 80 ms."""
    everything.reverse()
    while everything:
        part = everything[-chunk:]
        del everything[-chunk:]
        part.reverse()
        yield part
        await trio.sleep(PAUSE_S)
