"""An app for the tests of the command line: counters with state, a stream, a failure, slowness."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import trio

from actors import Actor, handler


class CounterState(msgspec.Struct):
    total: int = 0


class Counter(Actor):
    state: CounterState

    def on_spawn(self, total: int = 0) -> None:
        self.state.total += total

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total

    @handler
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @handler
    async def fail(self) -> None:
        raise ValueError("on purpose")

    @handler
    async def describe(self) -> dict[str, object]:
        return {"key": self.key, "raw": b"\x00\xff", "me": self.ref, "none": None}

    @handler
    async def slow(self, seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"
