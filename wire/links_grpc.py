"""Links over gRPC: one long-lived stream of ``roost.v1.Peer/Link`` per session. An adapter.

Runs on the asyncio loop of the host's thread; ``send`` and the other synchronous calls may come
from the Trio side, which shares that thread. The decisions are in wire.link_core.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from wire.errors import NoCapacity, ProtocolError
from wire.frames import Frame
from wire.handshake import Mismatch
from wire.items import Goaway
from wire.limits import BoundedChannel
from wire.link_core import LinkConfig, LinkCore, LinkEnd
from wire.pipe import GrpcPipe
from wire.ports import LinkHandler, Peer

log = logging.getLogger(__name__)

METHOD = "/roost.v1.Peer/Link"

#: The other side refused for good; any other status may pass, so the link tries again.
_FINAL = frozenset(
    {
        Status.FAILED_PRECONDITION, Status.INVALID_ARGUMENT, Status.ABORTED,
        Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED,
        Status.RESOURCE_EXHAUSTED,
    }
)  # fmt: skip


@dataclass(frozen=True)
class GrpcLinkConfig(LinkConfig):
    """LinkConfig and what gRPC adds: HTTP/2 windows, the frame limit, TLS name and demand.

    ``window_bytes``: what one connection may have in flight towards us.
    ``tls_name``: the name that peers' certificates must carry instead of their address.
    ``peer_certificate``: whether a dialer must show a certificate (mutual TLS).
    """

    window_bytes: int = 8 << 20
    frame_bytes_max: int = 18 << 20
    tls_name: str | None = None
    peer_certificate: bool = False


class GrpcLinks(LinkCore):
    """See wire.ports.Links. Add :meth:`service` to the host's server."""

    config: GrpcLinkConfig

    def __init__(
        self,
        me: Peer,
        cluster: str,
        handler: LinkHandler,
        config: GrpcLinkConfig | None = None,
        *,
        tls: SSLContext | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._aio = loop or asyncio.get_running_loop()
        super().__init__(me, cluster, handler, config or GrpcLinkConfig(), self._aio)
        self._tls = tls
        self._dials: dict[LinkEnd, asyncio.Task[None]] = {}
        self._streams = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def service(self) -> PeerService:
        """The handler object of ``roost.v1.Peer`` for a grpclib server."""
        return PeerService(self)

    async def drain(self, timeout_s: float, reason: str = "draining") -> bool:
        """Tell every peer to open nothing new here, then wait until all was acknowledged.

        Returns False when that took longer than ``timeout_s`` seconds.
        """
        for ends in list(self._ends.values()):
            self.send(ends.peer, Goaway(reason))
        try:
            async with asyncio.timeout(timeout_s):
                while not self._settled():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            return False
        return True

    async def aclose(self, reason: str = "the host closes its links") -> None:
        """End every session and let the streams finish; later sends are lost."""
        self._closed = True
        for ends in list(self._ends.values()):
            self._lose(ends, reason)
        try:
            async with asyncio.timeout(self.config.connect_timeout_s):
                await self._idle.wait()
        except TimeoutError:
            for task in self._dials.values():
                task.cancel()

    def _settled(self) -> bool:
        return all(
            end.session.settled for ends in self._ends.values() for end in ends.both()
        )

    # -- dialing ----------------------------------------------------------------------------

    def _dial(self, end: LinkEnd) -> None:
        self._entered()
        self._dials[end] = self._aio.create_task(self._keep_connected(end))

    def _on_dead(self, end: LinkEnd) -> None:
        task = self._dials.get(end)
        if task is not None and end.connects == 0:
            task.cancel()  # nothing to end politely

    async def _keep_connected(self, end: LinkEnd) -> None:
        backoff_s = self.config.backoff_start_s
        try:
            while not end.dead:
                connects = end.connects
                await self._connect_once(end)
                if end.dead:
                    return
                if end.connects > connects:
                    backoff_s = self.config.backoff_start_s
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(2 * backoff_s, self.config.backoff_max_s)
        finally:
            del self._dials[end]
            self._left()

    async def _connect_once(self, end: LinkEnd) -> None:
        """One connection from dial to end; what it ended in is the session's business."""
        pipe = GrpcPipe(self, end)
        reason = "the stream ended"
        try:
            await self._run_dialed(end, pipe)
            if end.pipe is pipe:
                self.lose(end, "the peer ended the stream")
        except GRPCError as exc:
            reason = f"{exc.status.name}: {exc.message}"
            if exc.status in _FINAL:
                self.lose(end, reason)
        except ProtocolError as exc:
            self.lose(end, str(exc))
        except (OSError, StreamTerminatedError, TimeoutError, H2Error) as exc:
            reason = f"{type(exc).__name__}: {exc}"
        self.broken(end, pipe, reason)

    async def _run_dialed(self, end: LinkEnd, pipe: GrpcPipe) -> None:
        host, _, port = end.peer.address.rpartition(":")
        config = self.config
        channel = BoundedChannel(
            host.strip("[]"), int(port), ssl=self._tls, config=_h2_settings(config),
            message_bytes_max=config.frame_bytes_max,
        )  # fmt: skip
        try:
            request = channel.request(METHOD, Cardinality.STREAM_STREAM, Frame, Frame)
            async with request as stream:
                async with asyncio.timeout(config.connect_timeout_s):
                    await stream.send_message(Frame(self.hello(end)))
                    frame = await stream.recv_message()
                if frame is None:
                    raise ProtocolError("the peer ended the stream before its Hello")
                pipe.open(stream)
                self.welcome(end, frame.batch, pipe)
                await pipe.run()
                await stream.end()
        finally:
            channel.close()

    def _entered(self) -> None:
        self._streams += 1
        self._idle.clear()

    def _left(self) -> None:
        self._streams -= 1
        if not self._streams:
            self._idle.set()


class PeerService:
    """Serves ``roost.v1.Peer``: the sessions that other hosts dial."""

    def __init__(self, links: GrpcLinks) -> None:
        self._links = links

    def __mapping__(self) -> Mapping[str, Handler]:
        return {METHOD: Handler(self._serve, Cardinality.STREAM_STREAM, Frame, Frame)}

    async def _serve(self, stream: Any) -> None:
        links = self._links
        links._entered()
        try:
            await self._link(stream)
        except Mismatch as exc:
            raise GRPCError(Status.FAILED_PRECONDITION, str(exc)) from exc
        except ProtocolError as exc:
            raise GRPCError(Status.INVALID_ARGUMENT, str(exc)) from exc
        except NoCapacity as exc:
            raise GRPCError(Status.UNAVAILABLE, str(exc)) from exc
        finally:
            links._left()

    async def _link(self, stream: Any) -> None:
        links = self._links
        if links.config.peer_certificate and not stream.peer.cert():
            raise GRPCError(Status.UNAUTHENTICATED, "a host must show a certificate")
        async with asyncio.timeout(links.config.connect_timeout_s):
            frame = await stream.recv_message()
        if frame is None:
            raise ProtocolError("the stream ended before its Hello")
        await stream.send_initial_metadata()
        pipe = GrpcPipe(links, None)
        pipe.open(stream)
        end = links.admit(frame.batch, pipe)
        pipe.end = end
        try:
            ended = await pipe.run()
        except ProtocolError as exc:
            links.lose(end, str(exc))
            raise
        except BaseException as exc:
            links.broken(end, pipe, f"{type(exc).__name__}: {exc}")
            raise
        if ended is None:
            links.lose(end, "the peer ended the stream")
        elif ended:
            raise GRPCError(Status.ABORTED, ended)


def _h2_settings(config: GrpcLinkConfig) -> Configuration:
    return Configuration(
        http2_connection_window_size=config.window_bytes,
        http2_stream_window_size=config.window_bytes,
        ssl_target_name_override=config.tls_name,
    )
