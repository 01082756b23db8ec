"""What the registry contract runs against: the memory registry, and Redis with real servers."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import redis

from placement import Member, MemoryRegistry, MemoryStore, Registry
from placement.memory_store import Snapshot
from placement.redis_registry import RedisRegistry
from tests.contract.servers import Server

R = TypeVar("R", bound=RedisRegistry)

_clusters = itertools.count(1)


class World(Protocol):
    """One cluster's data, and the registries of as many hosts as a test wants."""

    def registry(self) -> Registry: ...

    async def restart(self, *, keep_data: bool) -> None:
        """What it looks like when the server was restarted, with or without its data."""

    async def back_up(self) -> None:
        """Remember the data as it is now."""

    async def roll_back(self) -> None:
        """What it looks like when the server was restarted with the data of the back-up."""

    async def pass_time(self, passed_s: float) -> None:
        """Make the reminders there are as if so much time had passed."""

    async def aclose(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._passed_s = 0.0
        self._store = MemoryStore(lambda: time.time() + self._passed_s)
        self._snapshot: Snapshot | None = None

    def registry(self) -> Registry:
        return MemoryRegistry(self._store)

    async def restart(self, *, keep_data: bool) -> None:
        self._store.restart(keep_data=keep_data)

    async def back_up(self) -> None:
        self._snapshot = self._store.snapshot()

    async def roll_back(self) -> None:
        assert self._snapshot is not None
        self._store.rollback(self._snapshot)

    async def pass_time(self, passed_s: float) -> None:
        self._passed_s += passed_s

    async def aclose(self) -> None:
        pass


class RedisWorld:
    """A cluster of its own name on a server that many tests share."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cluster = f"test-{next(_clusters)}"
        self._registries: list[RedisRegistry] = []
        self._backup: dict[bytes, bytes] = {}
        self._passed_s = self._passed_before_s = 0.0

    def registry(self) -> RedisRegistry:
        return self.registry_of(RedisRegistry)

    def registry_of(self, kind: type[R]) -> R:
        made = kind(self._server.url, self._cluster, new_event=asyncio.Event, timeout_s=10.0)
        self._registries.append(made)
        return made

    async def restart(self, *, keep_data: bool) -> None:
        """The run id beside the data is another's now; real restarts are tested by themselves."""
        with self._server.admin() as admin:
            if keep_data:
                admin.hset(f"{self._root}meta", "run", "0" * 40)
            else:
                self._empty()
        await self.registry().view()

    async def back_up(self) -> None:
        with redis.Redis(port=self._server.port) as admin:
            keys: list[bytes] = list(admin.scan_iter(f"{self._root}*", count=1000))
            self._backup = {key: admin.dump(key) for key in keys}
        self._passed_before_s = self._passed_s

    async def roll_back(self) -> None:
        self._empty()
        with redis.Redis(port=self._server.port) as admin:
            for key, dumped in self._backup.items():
                admin.restore(key, 0, dumped)
        self._bring_forward(self._passed_s - self._passed_before_s)
        await self.restart(keep_data=True)

    async def pass_time(self, passed_s: float) -> None:
        self._passed_s += passed_s
        self._bring_forward(passed_s)

    def _bring_forward(self, passed_s: float) -> None:
        passed_ms = round(passed_s * 1000)
        with self._server.admin() as admin:
            for reminder, due_ms in admin.zrange(f"{self._root}due", 0, -1, withscores=True):
                admin.zadd(f"{self._root}due", {reminder: due_ms - passed_ms})
            for key in admin.scan_iter(f"{self._root}r:*", count=1000):
                for name, text in admin.hgetall(key).items():
                    due_ms, rest = text.split(" ", 1)
                    admin.hset(key, name, f"{int(due_ms) - passed_ms} {rest}")

    @property
    def _root(self) -> str:
        return f"roost:{{{self._cluster}}}:"

    def _empty(self) -> None:
        with self._server.admin() as admin:
            for key in admin.scan_iter(f"{self._root}*", count=1000):
                admin.delete(key)

    async def aclose(self) -> None:
        for registry in self._registries:
            await registry.aclose()


def in_asyncio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a coroutine test a plain one that runs under asyncio and closes its ``world``."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def scenario() -> None:
            try:
                await test(**fixtures)
            finally:
                if "world" in fixtures:
                    await fixtures["world"].aclose()

        asyncio.run(asyncio.wait_for(scenario(), 60.0))

    return run


def member(host: str, **changes: Any) -> Member:
    """A member named ``host``; its incarnation is ``host`` with ``-1`` unless given."""
    fields = {"host_id": host, "incarnation": f"{host}-1", "address": f"{host}:50051"}
    return Member(**(fields | changes))
