"""A host of a cluster: a system with Redis, a lease thread, links and a gRPC server. An adapter.

It puts the parts together; the order in which they start and stop is in hosting.py.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import trio

from actors.actor import Actor
from actors.config import HostConfig
from actors.gateway import HostGateway
from actors.hosting import Hosting, HostSystem
from actors.interceptors import Interceptor
from actors.membership import Keeper
from actors.service_nursery import check_trio, open_service_nursery
from actors.system import new_incarnation
from placement.lease import LeaseTerms
from placement.lease_thread import LeaseKeeper, boottime_s
from placement.ports import (
    Fenced,
    RegistryError,
    RegistryMisconfigured,
    RegistryUnavailable,
    StaleGeneration,
)
from placement.records import Member, Renewal
from wire.errors import ConfigError, Unavailable
from wire.ports import Peer

if TYPE_CHECKING:
    from placement.redis_registry import RedisRegistry
    from wire.links_grpc import GrpcLinks
    from wire.loops import Crossing
    from wire.server import Server

log = logging.getLogger("roost.host")

#: How often a start looks for a Redis that is not there yet.
REDIS_RETRY_S = 0.5
#: Longest that a leaving host waits for its peers to acknowledge its last items.
GOODBYE_S = 3.0


class Host(Hosting):
    """The parts of one host over Redis and gRPC."""

    def __init__(
        self, config: HostConfig, system: HostSystem, registry: RedisRegistry, crossing: Crossing,
        services: Sequence[Any],
    ) -> None:  # fmt: skip
        super().__init__(
            system, LeaseTerms.of(config.lease_ttl_s, config.stall_limit_s), boottime_s,
            heartbeat_interval_s=config.heartbeat_interval_s,
            drain_timeout_s=config.drain_timeout_s,
        )  # fmt: skip
        self.config = config
        self.links: GrpcLinks | None = None
        self._registry = registry
        self._crossing = crossing
        self._services = services
        self._server: Server | None = None

    async def open_doors(self) -> None:
        """Check Redis and listen. Raises ConfigError or Unavailable, one line each."""
        await self._check_registry()
        await self._crossing.cross(self._listen)

    async def _check_registry(self) -> None:
        until = trio.current_time() + self.config.redis_wait_s
        is_told = False
        while True:
            try:
                await self._registry.check_policy()
                return
            except RegistryMisconfigured as exc:
                raise ConfigError(str(exc)) from exc
            except RegistryError as exc:  # which says all: three tracebacks of sockets say no more
                why = str(exc).rstrip(".")
            if trio.current_time() >= until:
                raise Unavailable(f"{why}: start it, or set redis_url (REDIS_URL) to where it is")
            if not is_told:
                log.warning("%s: waiting for it, %g s at most", why, self.config.redis_wait_s)
                is_told = True
            await trio.sleep(REDIS_RETRY_S)

    async def _listen(self) -> None:
        from wire.link_config import LinkConfig
        from wire.links_grpc import GrpcLinks
        from wire.server import Server, ServerConfig

        config, system = self.config, self.system
        tls = config.tls
        links_config = LinkConfig(
            payload_bytes_max=config.system.payload_bytes_max,
            credit_bytes=config.link_credit_bytes,
            tls_name=(tls.name or None) if tls else None,
            peer_certificate=tls is not None and tls.mutual,
            orphan_ttl_s=max(config.lease_ttl_s * 2, 5.0),
        )
        self.links = GrpcLinks(
            system.me, config.cluster, system.router, links_config,
            tls=tls.client_context() if tls else None, token=config.token or "",
        )  # fmt: skip
        system.router.links = self.links
        gateway = HostGateway(system)
        self._server = Server(
            gateway, self._crossing,
            ServerConfig(
                host=config.bind, port=config.port, health_port=config.health_port,
                token=config.token or "", tls=tls,
                payload_bytes_max=config.system.payload_bytes_max,
            ),
            peer=self.links.service(), services=self._services,
        )  # fmt: skip
        await self._server.start()

    def _address(self) -> str:
        assert self._server is not None
        if self.config.advertise:
            return self.config.advertise
        bind = self.config.bind
        if bind in ("", "0.0.0.0", "::"):
            try:
                bind = socket.gethostbyname(socket.gethostname())
            except OSError:
                bind = "127.0.0.1"
        return f"{bind}:{self._server.port}"

    def new_record(self) -> Member:
        config, kinds = self.config, self.system.kinds.names()
        return Member(
            host_id=config.host_id or socket.gethostname(), incarnation=new_incarnation(),
            address=self._address(), weight=config.weight if kinds else 0.0,  # it only calls others
            capacity=config.system.capacity, kinds=kinds, pod_uid=config.pod_uid,
            started_unix_s=time.time(),
        )  # fmt: skip

    def become(self, me: Peer, reason: str) -> None:
        assert self.links is not None
        self.links.become(me, reason)

    def make_keeper(
        self, me: str, on_renewal: Callable[[Renewal], None], on_fenced: Callable[[Fenced], None]
    ) -> Keeper:
        token = trio.lowlevel.current_trio_token()
        renewer = self._registry.renewer()

        def soon(function: Callable[..., None], *args: object) -> None:
            try:
                token.run_sync_soon(function, *args)
            except trio.RunFinishedError:
                pass  # the host is gone, and so is what would be told

        def renew(counter: int) -> Renewal:
            self.generations.renewing()
            try:
                return renewer.renew(me, counter)
            except (StaleGeneration, Fenced) as exc:
                soon(self.generations.heard)
                if isinstance(exc, Fenced) and self.generations.is_current():
                    raise
                raise RegistryUnavailable(str(exc)) from exc

        return LeaseKeeper(
            self.terms,
            renew,
            on_renewal=lambda renewal, sent_at_s: soon(on_renewal, renewal),
            on_fenced=lambda reason: soon(on_fenced, reason),
            activations_remain=lambda: bool(self.system.activations),
        )

    async def say_goodbye(self, grace_s: float) -> None:
        assert self._server is not None
        assert self.links is not None
        await self._crossing.cross(self._server.finish_calls, grace_s)
        # The server stands until the links are empty: they carry the answers of moved actors.
        await self._crossing.cross(self.links.drain, min(grace_s, GOODBYE_S))

    async def close_doors(self) -> None:
        if self.links is not None:
            await self._crossing.cross(self.links.aclose)
        if self._server is not None:
            await self._crossing.cross(self._server.aclose)


@asynccontextmanager
async def open_host(
    config: HostConfig,
    kinds: Iterable[type[Actor]] = (),
    *,
    interceptors: Sequence[Interceptor] = (),
    services: Sequence[Any] = (),
) -> AsyncIterator[HostSystem]:
    """A host of a cluster, for the length of the block; it drains at the end.

    Works under ``actors.run``, inside a running asyncio program (``actors.run_in_asyncio``) and
    inside a plain ``trio.run``. ``services`` are further gRPC services for the same port.

    Raises ConfigError (settings, port taken, a Redis that would lose keys) and Unavailable (no
    Redis), each in one line that names the remedy; and RuntimeError outside of Trio.
    """
    from placement.redis_registry import RedisRegistry
    from wire.loops import open_crossing

    check_trio("open_host()")
    async with open_crossing() as crossing, open_service_nursery() as nursery:
        try:
            registry = RedisRegistry(
                config.redis_url, config.cluster, cross=cast(Any, crossing.cross)
            )
        except RegistryMisconfigured as exc:
            raise ConfigError(str(exc)) from exc
        system = HostSystem(
            kinds, registry, nursery, config.system, is_local=False, interceptors=interceptors
        )
        system.processes.check()
        async with Host(config, system, registry, crossing, services).running():
            yield system
