"""One gRPC server on one port: every service of a host, and a health port in the clear. An adapter.

Lives on the asyncio loop; from Trio cross over: ``await crossing.cross(server.start)``.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from grpclib.protocol import H2Protocol

from wire.bounds import PAYLOAD_BYTES_MAX, message_bytes_max
from wire.errors import ConfigError
from wire.front import Front
from wire.gateway_service import ActorsService
from wire.health import Health
from wire.limits import BoundedServer
from wire.loops import Crossing
from wire.ports import Gateway
from wire.reflection import with_reflection
from wire.tls import TlsConfig

BACKLOG = 512
END_TIMEOUT_S = 2.0
#: How long calls that have ended may take to be read by their callers (those that watch the
#: health never end), and how long callers may take to hang up after they were told goodbye.
ANSWER_S = 1.0
LINGER_S = 0.5
POLL_S = 0.005


@dataclass(frozen=True)
class ServerConfig:
    """Where to listen and whom to let in.

    ``port`` 0 picks a free one. ``health_port``: a second port that answers only health checks
    and never speaks TLS, for Kubernetes' probes (None: no such port). ``token``: the bearer token
    of clients ("": none). ``payload_bytes_max`` bounds arguments and results.
    """

    host: str = "0.0.0.0"
    port: int = 50051
    health_port: int | None = None
    token: str = field(default="", repr=False)
    tls: TlsConfig | None = None
    payload_bytes_max: int = PAYLOAD_BYTES_MAX


class Server:
    """Serves the gateway, the links (``peer``: GrpcLinks.service()), health, reflection and
    whatever ``services`` adds; each of those is guarded as the gateway is."""

    def __init__(
        self, gateway: Gateway, crossing: Crossing, config: ServerConfig, *,
        peer: Any = None, services: Sequence[Any] = (),
    ) -> None:  # fmt: skip
        self._config = config
        self._gateway = gateway
        self._front = Front(config.token, mutual=config.tls is not None and config.tls.mutual)
        actors = ActorsService(gateway, crossing, payload_bytes_max=config.payload_bytes_max)
        self._services = [actors, *([peer] if peer is not None else []), *services]
        self._servers: list[_Server] = []
        #: The ports that are bound, once started.
        self.port = config.port
        self.health_port = config.health_port

    async def start(self) -> None:
        """Bind and serve; raises ConfigError when an address cannot be had."""
        config = self._config
        context = config.tls.server_context() if config.tls else None
        sockets = [_bind(config.host, config.port)]
        try:
            if config.health_port is not None:
                sockets.append(_bind(config.host, config.health_port))
        except ConfigError:
            sockets[0].close()
            raise
        self.port = sockets[0].getsockname()[1]
        await self._listen(self._all_services(), sockets[0], context)
        if config.health_port is not None:
            self.health_port = sockets[1].getsockname()[1]
            await self._listen([self._health()], sockets[1], None)

    def refuse(self, reason: str) -> None:
        """Answer new calls with Unavailable, which makes clients try another host. Links and
        health checks go on."""
        self._front.refuse(reason)

    async def finish_calls(self, grace_s: float, reason: str = "this host is stopping") -> bool:
        """Refuse new calls, give running ones ``grace_s`` seconds, then end them. Links stand.

        Returns whether all of them ended by themselves.
        """
        self.refuse(reason)
        finished = await self._front.wait_idle(grace_s)
        if not finished:
            self._front.end_calls(reason)
            await self._front.wait_idle(END_TIMEOUT_S)
        return finished

    async def aclose(self, grace_s: float = 0.0, reason: str = "this host is stopping") -> bool:
        """Finish the calls, then close; returns whether all of them ended by themselves."""
        finished = await self.finish_calls(grace_s, reason)
        for server in self._servers:
            server.stop_listening()
        for server in self._servers:
            await server.say_goodbye()
            server.close()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        return finished

    async def _listen(
        self, services: list[Any], bound: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        limit = message_bytes_max(self._config.payload_bytes_max)
        server = _Server(services, bytes_max=limit)
        await server.start(sock=bound, ssl=context, backlog=BACKLOG)
        self._servers.append(server)

    def _all_services(self) -> list[Any]:
        names = [next(iter(s.__mapping__())).split("/")[1] for s in self._services]
        services = [*self._services, self._health(names)]
        return [self._front.guard(service) for service in with_reflection(services)]

    def _health(self, names: Sequence[str] = ()) -> Health:
        return Health(self._gateway.health, names)


class _Server(BoundedServer):
    """Closes its connections too: grpclib's stops listening and leaves them open."""

    def __init__(self, services: list[Any], *, bytes_max: int) -> None:
        super().__init__(services, bytes_max=bytes_max)
        self._connections: WeakSet[H2Protocol] = WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._connections.add(protocol)
        return protocol

    def stop_listening(self) -> None:
        """Take no more connections. ``close()`` would cancel what is being answered, too."""
        assert self._server is not None
        self._server.close()

    async def say_goodbye(self) -> None:
        """End every connection: its answers first, then GOAWAY, which says up to which request
        they were heard; and close it when the other side has, or after LINGER_S."""
        await self._until(self._has_answered, ANSWER_S)
        for protocol in self._open():
            protocol.connection._connection.close_connection()
            protocol.connection.flush()
        await self._until(lambda: not self._open(), LINGER_S)
        for protocol in self._open():
            protocol.processor.close("the server closed")

    def _open(self) -> list[H2Protocol]:
        return [
            protocol
            for protocol in self._connections
            if hasattr(protocol, "connection") and not protocol.connection.is_closing()
        ]

    def _has_answered(self) -> bool:
        """Whether no stream is open, its trailers included, and all that was written has left."""
        return not any(
            protocol.processor.streams or protocol.connection._transport.get_write_buffer_size()
            for protocol in self._open()
        )

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < end_s:
            await asyncio.sleep(POLL_S)


def _bind(host: str, port: int) -> socket.socket:
    where = f"port {port} on {host or 'all addresses'}"
    try:
        infos = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = infos[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as exc:
        raise ConfigError(f"cannot listen at {where}: {exc}") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # SO_REUSEADDR lets two bind where none listens yet: only listening takes the port.
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as exc:
        bound.close()
        if exc.errno == errno.EADDRINUSE:
            raise ConfigError(f"{where} is taken: choose another port, or stop who has it") from exc
        raise ConfigError(f"cannot listen at {where}: {exc.strerror or exc}") from exc
    return bound
