"""What the registry contract runs against: the memory registry, and Redis with real servers."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from placement import Member, MemoryRegistry, MemoryStore, Registry
from placement.redis_registry import RedisRegistry
from tests.contract.servers import Server

_clusters = itertools.count(1)


class World(Protocol):
    """One cluster's data, and the registries of as many hosts as a test wants."""

    def registry(self) -> Registry: ...

    async def restart(self, *, keep_data: bool) -> None:
        """What it looks like when the server was restarted, with or without its data."""

    async def aclose(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._store = MemoryStore()

    def registry(self) -> Registry:
        return MemoryRegistry(self._store)

    async def restart(self, *, keep_data: bool) -> None:
        self._store.restart(keep_data=keep_data)

    async def aclose(self) -> None:
        pass


class RedisWorld:
    """A cluster of its own name on a server that many tests share."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cluster = f"test-{next(_clusters)}"
        self._registries: list[RedisRegistry] = []

    def registry(self) -> RedisRegistry:
        made = RedisRegistry(
            self._server.url, self._cluster, new_event=asyncio.Event, timeout_s=10.0
        )
        self._registries.append(made)
        return made

    async def restart(self, *, keep_data: bool) -> None:
        """The run id beside the data is another's now; real restarts are tested by themselves."""
        with self._server.admin() as admin:
            if keep_data:
                admin.hset(f"roost:{{{self._cluster}}}:meta", "run", "0" * 40)
            else:
                for key in admin.scan_iter(f"roost:{{{self._cluster}}}:*", count=1000):
                    admin.delete(key)
        await self.registry().view()

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
