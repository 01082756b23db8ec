"""Kinds for the tests of the agent host: a counter, and ways not to start."""

from __future__ import annotations

import os

import msgspec
import trio

from actors import Actor, handler


class CounterState(msgspec.Struct):
    total: int = 0


class Counter(Actor):
    state: CounterState

    async def on_spawn(self, start: int = 0) -> None:
        self.state.total += start

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total

    @handler
    def where(self) -> str:
        return f"{self.system.me.host_id} {os.getpid()}"


class Refuses(Actor):
    """Its constructor raises."""

    def __init__(self) -> None:
        raise RuntimeError("no")


class Slow(Actor):
    async def on_spawn(self, seconds: float) -> None:
        await trio.sleep(seconds)
