"""The cluster as synchronous code sees it: one background thread that talks to the hosts.

An adapter. Callable from any thread, whatever loop it runs, and from agents that we host. The
hosts are found through REDIS_URL; token and TLS come from the environment, as for the commands.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec

from deploy import finding
from deploy.agent_record import KIND, Record
from deploy.agent_spec import AgentSpec, record_key, unpack
from deploy.settings import Settings, read
from placement.ports import RegistryError
from placement.redis_registry import RedisRegistry
from wire.agent_client import AgentClient
from wire.agent_host import AgentInfo, AgentRequest
from wire.bounds import PAYLOAD_BYTES_MAX
from wire.channels import Channels
from wire.client import Client
from wire.errors import ConfigError, NotDelivered, NotFound, OutcomeUnknown, Unavailable
from wire.tls import TlsConfig

T = TypeVar("T")

CREATE_S = 90.0
CALL_S = 30.0
#: How old the list of hosts may be (seconds).
HOSTS_S = 2.0
RETRY_S = 0.2
ASKS_AT_ONCE = 32


class Cluster:
    """All methods block, for a bounded time, and raise errors of ``wire.errors``."""

    def create(self, request: AgentRequest) -> None:
        """Returns once the agent has initialised; raises AlreadyExists and what it failed with."""
        _run(_way.create(request))

    def stop(self, guild_id: str, agent_id: str) -> bool:
        """False when there is no such agent."""
        return _run(_way.stop(f"{guild_id}/{agent_id}"))

    def is_running(self, guild_id: str, agent_id: str) -> bool:
        return _run(_way.is_running(f"{guild_id}/{agent_id}"))

    def specs(self, guild_id: str) -> list[AgentSpec]:
        """The specs of the guild's agents that run."""
        return _run(_way.specs(guild_id))


def _settings() -> Settings:
    settings = read(os.environ, {}, only=finding.FIELDS)
    if not settings.redis_url:
        raise ConfigError("no Redis: set REDIS_URL to the one that the hosts use")
    return settings


def _tls(settings: Settings) -> TlsConfig | None:
    if not (settings.tls_ca or settings.tls_cert):
        return None
    return TlsConfig(
        cert=settings.tls_cert, key=settings.tls_key, ca=settings.tls_ca, name=settings.tls_name
    )


class _Way:
    """The asyncio half, in the background thread."""

    def __init__(self) -> None:
        self._channels: Channels | None = None
        self._addresses: Sequence[str] = ()
        self._known: tuple[Any, ...] = ()
        self._looked_at_s = float("-inf")

    async def create(self, request: AgentRequest) -> None:
        async def call(channels: Channels, left_s: float) -> None:
            await AgentClient(channels).create(request, left_s)

        await self._until_delivered(call, CREATE_S)

    async def stop(self, agent_id: str) -> bool:
        async def call(channels: Channels, left_s: float) -> bool:
            return await AgentClient(channels).stop(agent_id, int(CALL_S), left_s)

        try:
            return await self._until_delivered(call, 2 * CALL_S)
        except NotFound:
            return False

    async def is_running(self, agent_id: str) -> bool:
        async def call(channels: Channels, left_s: float) -> bool:
            return (await AgentClient(channels).info(agent_id, left_s)).is_alive

        try:
            return await self._until_delivered(call, CALL_S)
        except NotFound:
            return False

    async def specs(self, guild_id: str) -> list[AgentSpec]:
        async def call(channels: Channels, left_s: float) -> list[AgentInfo]:
            return await AgentClient(channels).list_agents(guild_id, left_s)

        try:
            infos = await self._until_delivered(call, CALL_S)
        except NotFound:
            return []
        limit = asyncio.Semaphore(ASKS_AT_ONCE)

        async def spec(info: AgentInfo) -> AgentSpec | None:
            async with limit:
                return await self._spec(record_key(info.agent_id, info.guild_id))

        found = await asyncio.gather(*(spec(info) for info in infos if info.is_alive))
        return [spec for spec in found if spec is not None]

    async def _spec(self, key: str) -> AgentSpec | None:
        async def call(channels: Channels, left_s: float) -> Any:
            return await Client(channels, left_s, PAYLOAD_BYTES_MAX).ask(KIND, key, "record")

        record = msgspec.convert(await self._until_delivered(call, CALL_S), Record)
        return unpack(record.packed) if record.target else None

    async def _until_delivered(
        self, call: Callable[[Channels, float], Coroutine[Any, Any, T]], timeout_s: float
    ) -> T:
        """All these calls may be made again: what was created is then there already."""
        until_s = time.monotonic() + timeout_s
        while True:
            left_s = until_s - time.monotonic()
            try:
                return await call(await self._to_hosts(), max(left_s, 0.1))
            except (NotDelivered, Unavailable, OutcomeUnknown):
                self._looked_at_s = float("-inf")
                if left_s <= RETRY_S:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _to_hosts(self) -> Channels:
        settings = _settings()
        known = tuple(getattr(settings, name) for name in finding.FIELDS)
        now_s = time.monotonic()
        is_known = self._channels is not None and known == self._known
        if self._channels is not None and is_known and now_s - self._looked_at_s < HOSTS_S:
            return self._channels
        addresses = await _hosts(settings)
        if self._channels is None or known != self._known or addresses != self._addresses:
            if self._channels is not None:
                self._channels.close()
            self._channels = Channels(addresses, settings.token, _tls(settings), PAYLOAD_BYTES_MAX)
            self._addresses, self._known = addresses, known
        self._looked_at_s = now_s
        return self._channels


async def _hosts(settings: Settings) -> list[str]:
    async def here(fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        return await fn(*args)

    cross: Any = here
    registry = RedisRegistry(
        settings.redis_url, settings.cluster, cross=cross, new_event=asyncio.Event
    )
    try:
        view = await registry.view()
    except RegistryError as exc:
        raise Unavailable(f"the hosts cannot be found through REDIS_URL: {exc}") from exc
    finally:
        await registry.aclose()
    found = sorted(member.address for member in view.members)
    if not found:
        raise Unavailable(
            f"Redis knows no host of cluster {settings.cluster!r}: start `roost host`"
        )
    return found


class _Thread:
    """The background thread of one process; a forked child makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="roost-rustic", daemon=True
                ).start()
            return self._loop


_thread = _Thread()
_way = _Way()


def _after_fork() -> None:
    """A child's lock is free and its connections are its own."""
    global _thread, _way
    _thread, _way = _Thread(), _Way()


os.register_at_fork(after_in_child=_after_fork)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, _thread.loop())
    return future.result()
