"""A host of a cluster: a system with a registry, a lease, links and a gRPC server. An adapter.

It puts the parts together, rejoins as a new incarnation after a lost lease, and drains.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import trio

from actors.actor import Actor
from actors.config import HostConfig
from actors.gateway import HostGateway
from actors.interceptors import Interceptor
from actors.membership import Keeper, Membership
from actors.reasons import Reason
from actors.system import System, new_incarnation
from placement.lease import LeaseTerms
from placement.lease_thread import LeaseKeeper, boottime_s
from placement.ports import Fenced, RegistryError, RegistryMisconfigured
from placement.records import Member, MemberState, Renewal
from wire.errors import ConfigError, Unavailable
from wire.ports import Peer

if TYPE_CHECKING:
    from placement.redis_registry import RedisRegistry
    from wire.links_grpc import GrpcLinks
    from wire.loops import Crossing
    from wire.server import Server

log = logging.getLogger("roost.host")

REJOIN_S = 0.5
LEAVE_S = 3.0


class HostSystem(System):
    """The system of one host. Made by :func:`open_host`."""

    host: Host
    is_draining = False

    @property
    def host_id(self) -> str:
        return self.me.host_id

    @property
    def address(self) -> str:
        """ip:port at which this host is reached."""
        return self.me.address

    def begin_drain(self) -> None:
        """Drain in the background, within the host's own ``drain_timeout_s``."""
        self.nursery.start_soon(self.drain)

    async def drain(self, timeout_s: float | None = None) -> int:
        """Take no new actors, let handlers finish, save, release, and leave the cluster.

        Returns how many actors were cut short at the deadline. Idempotent.
        """
        return await self.host.drain(timeout_s)

    async def wait_closed(self) -> None:
        """Wait until the host has drained, whoever asked it to."""
        await self.host.closed.wait()


class Host:
    """The parts of one host and their order of starting and stopping."""

    def __init__(
        self, config: HostConfig, system: HostSystem, registry: RedisRegistry, crossing: Crossing
    ) -> None:
        self.config = config
        self.system = system
        self.closed = trio.Event()
        self.links: GrpcLinks | None = None
        self._registry = registry
        self._crossing = crossing
        self._server: Server | None = None
        self._drained: trio.Event | None = None
        self._cut_short = 0
        self._terms = LeaseTerms.of(config.lease_ttl_s, config.stall_limit_s)
        self._membership = Membership(system, self._terms, boottime_s, config.heartbeat_interval_s)
        system.membership = self._membership
        system.host = self

    # Start --------------------------------------------------------------------------------

    async def start(self, services: Sequence[Any]) -> None:
        """Check Redis, listen, join. Raises ConfigError or Unavailable, one line each."""
        await self._check_registry()
        await self._crossing.cross(self._listen, services)
        await self._join()
        nursery = self.system.nursery
        nursery.start_soon(self.system.run)
        nursery.start_soon(self._membership.run)
        nursery.start_soon(self._registry.listen)
        nursery.start_soon(self._rejoin_when_fenced)

    async def _check_registry(self) -> None:
        try:
            await self._registry.check_policy()
        except RegistryMisconfigured as exc:
            raise ConfigError(str(exc)) from exc
        except RegistryError as exc:
            raise Unavailable(
                f"Redis at {self._registry.address} is out of reach ({exc}): start it, or set "
                "REDIS_URL to where it is"
            ) from exc

    async def _listen(self, services: Sequence[Any]) -> None:
        from wire.link_config import LinkConfig
        from wire.links_grpc import GrpcLinks
        from wire.server import Server, ServerConfig

        config, system = self.config, self.system
        tls = config.tls
        links_config = LinkConfig(
            payload_bytes_max=config.system.payload_bytes_max,
            tls_name=(tls.name or None) if tls else None,
            peer_certificate=tls is not None and tls.mutual,
            orphan_ttl_s=max(config.lease_ttl_s * 2, 5.0),
        )
        self.links = GrpcLinks(
            system.me, config.cluster, system.router, links_config,
            tls=tls.client_context() if tls else None,
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
            peer=self.links.service(), services=services,
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

    async def _join(self) -> None:
        """Join as a new incarnation."""
        system, config = self.system, self.config
        me = Member(
            host_id=config.host_id or socket.gethostname(), incarnation=new_incarnation(),
            address=self._address(), weight=config.weight, capacity=config.system.capacity,
            kinds=system.kinds.names(),
        )  # fmt: skip
        system.me = Peer(me.host_id, me.incarnation, me.address)
        assert self.links is not None
        self.links.become(system.me, "this host has a new incarnation")
        try:
            await self._membership.join(me, self._make_keeper)
        except RegistryError as exc:
            self._membership.stop()
            raise Unavailable(f"this host cannot join the cluster: {exc}") from exc
        system.serving = True

    def _make_keeper(
        self, me: str, on_renewal: Callable[[Renewal], None], on_fenced: Callable[[Fenced], None]
    ) -> Keeper:
        token = trio.lowlevel.current_trio_token()
        renewer = self._registry.renewer()

        def soon(function: Callable[..., None], *args: object) -> None:
            try:
                token.run_sync_soon(function, *args)
            except trio.RunFinishedError:
                pass  # the host is gone, and so is what would be told

        return LeaseKeeper(
            self._terms,
            lambda counter: renewer.renew(me, counter),
            on_renewal=lambda renewal, sent_at_s: soon(on_renewal, renewal),
            on_fenced=lambda reason: soon(on_fenced, reason),
            activations_remain=lambda: bool(self.system.activations),
        )

    # A lost lease -------------------------------------------------------------------------

    async def _rejoin_when_fenced(self) -> None:
        """After the lease is lost: wait until nothing runs any more, then start anew."""
        while True:
            why = await self.system.wait_fenced()
            self._membership.stop()
            assert self.links is not None
            self.links.become(self.system.me, f"this host lost its lease: {why}")
            await self.system.wait_empty()
            while not self.system.serving and self._drained is None:
                try:
                    await self._join()
                    log.warning("rejoined as incarnation %s", self.system.me.incarnation)
                except Unavailable as exc:
                    log.warning("%s", exc)
                    await trio.sleep(REJOIN_S)

    # Stop ---------------------------------------------------------------------------------

    async def drain(self, timeout_s: float | None = None) -> int:
        if self._drained is not None:
            await self._drained.wait()
            return self._cut_short
        self._drained = trio.Event()
        self.system.is_draining = True
        with trio.CancelScope(shield=True):
            await self._drain(self.config.drain_timeout_s if timeout_s is None else timeout_s)
        self._drained.set()
        self.closed.set()
        return self._cut_short

    async def _drain(self, timeout_s: float) -> None:
        system, me = self.system, self.system.me.incarnation
        log.info("draining: %d actors", len(system.activations))
        until = trio.current_time() + timeout_s
        if system.serving:
            try:
                system.set_view(await self._registry.set_member(me, state=MemberState.DRAINING))
            except RegistryError as exc:
                log.warning("the cluster does not know that this host drains: %s", exc)
        self._cut_short = await system.stop_all(Reason.DRAIN, timeout_s)
        grace_s = max(0.2, until - trio.current_time())
        assert self._server is not None
        assert self.links is not None
        await self._crossing.cross(self._server.aclose, grace_s)
        await self._crossing.cross(self.links.drain, min(grace_s, LEAVE_S))
        await self._leave(me)

    async def _leave(self, me: str) -> None:
        system = self.system
        was_serving, system.serving = system.serving, False
        self._membership.stop()
        if was_serving:
            try:
                with trio.move_on_after(LEAVE_S):
                    await self._registry.leave(me)
            except RegistryError as exc:
                log.warning("this host leaves without a word: %s", exc)
        log.info("left the cluster")

    @asynccontextmanager
    async def running(self, services: Sequence[Any]) -> AsyncIterator[None]:
        """Started, for the length of the block; drained and closed after it."""
        self._registry.on_change(self._membership.heard_of)
        try:
            await self.start(services)
            yield
        finally:
            with trio.CancelScope(shield=True):
                if self.system.serving:
                    await self.drain()
                await self._aclose()

    async def _aclose(self) -> None:
        """Close what is open, whatever state the host is in."""
        if self.links is not None:
            await self._crossing.cross(self.links.aclose)
        if self._server is not None:
            await self._crossing.cross(self._server.aclose)
        self._membership.stop()
        await self._registry.aclose()


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
    Redis), each in one line that names the remedy.
    """
    from placement.redis_registry import RedisRegistry
    from wire.loops import open_crossing

    error: Exception | None = None
    async with open_crossing() as crossing, trio.open_nursery() as nursery:
        try:
            cross = cast(Any, crossing.cross)
            registry = RedisRegistry(config.redis_url, config.cluster, cross=cross)
            system = HostSystem(
                kinds, registry, nursery, config.system, is_local=False, interceptors=interceptors
            )
            host = Host(config, system, registry, crossing)
            async with host.running(services):
                yield system
        except RegistryMisconfigured as exc:
            error = ConfigError(str(exc))
        except Exception as exc:  # raised again outside of the nursery: plain, in no group
            error = exc
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
