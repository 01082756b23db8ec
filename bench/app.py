"""The actors that the benchmarks call: typed arguments, checked, as any user's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from actors import Actor, handler


class Echo(Actor):
    """Gives back what it gets; counts what it is told."""

    def __init__(self) -> None:
        self._told = 0

    @handler
    async def echo(self, data: bytes) -> bytes:
        return data

    @handler
    async def note(self, data: bytes) -> None:
        self._told += 1

    @handler
    def told(self) -> int:
        return self._told

    @handler
    async def items(self, count: int, data: bytes) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield data

    @handler
    def host(self) -> str:
        return self.system.me.host_id


class Total(msgspec.Struct):
    total: int = 0


class Idle(Actor):
    """Does nothing, and is many."""

    @handler
    def touch(self) -> None: ...


class Counter(Actor):
    state: Total

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total


KINDS = [Echo, Idle, Counter]
