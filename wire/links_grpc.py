"""Links over gRPC: one long-lived stream of ``roost.v1.Peer/Link`` per session. An adapter.

Runs on the asyncio loop of the host's thread; ``send`` and the other synchronous calls may come
from the Trio side, which shares that thread. The decisions are in wire.link_core.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext

from grpclib.client import Stream as ClientStream
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Stream as ServerStream
from h2.exceptions import H2Error

from wire.errors import NoCapacity, ProtocolError
from wire.frames import Frame
from wire.handshake import Mismatch
from wire.items import Goaway
from wire.limits import BoundedChannel
from wire.link_config import LinkConfig
from wire.link_core import LinkCore
from wire.link_end import LinkEnd
from wire.pipe import GrpcPipe
from wire.ports import LinkHandler, Peer

log = logging.getLogger(__name__)

METHOD = "/roost.v1.Peer/Link"

_SETTLE_POLL_S = 0.005
_ENDED = "the peer ended the session"

#: The other side refused for good. Any other status may pass, so the link tries again.
_FINAL = frozenset(
    {
        Status.FAILED_PRECONDITION, Status.INVALID_ARGUMENT, Status.ABORTED,
        Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED,
        Status.RESOURCE_EXHAUSTED,
    }
)  # fmt: skip


class GrpcLinks(LinkCore):
    """See wire.ports.Links. Add :meth:`service` to the host's server, a BoundedServer.

    ``tls`` and ``token`` (what peers' servers want to be shown, if anything) are for dialing;
    ``loop`` is the asyncio loop, by default the running one.
    """

    def __init__(
        self,
        me: Peer,
        cluster: str,
        handler: LinkHandler,
        config: LinkConfig | None = None,
        *,
        tls: SSLContext | None = None,
        token: str = "",
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._aio = loop or asyncio.get_running_loop()
        super().__init__(me, cluster, handler, config or LinkConfig(), self._aio)
        self._tls = tls
        self._metadata = {"authorization": f"Bearer {token}"} if token else None
        self._dials: dict[LinkEnd, asyncio.Task[None]] = {}
        self._streams = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def service(self) -> PeerService:
        """The handler object of ``roost.v1.Peer`` for the server."""
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
                    await asyncio.sleep(_SETTLE_POLL_S)
        except TimeoutError:
            return False
        return True

    async def aclose(self, reason: str = "the host closes its links") -> None:
        """End every session (``on_lost`` for each) and let the streams finish.

        Takes at most ``connect_timeout_s``. Later sends are lost without a word.
        """
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
        return all(end.session.settled for ends in self._ends.values() for end in ends.both())

    def _dial(self, end: LinkEnd) -> None:
        task = self._dials[end] = self._aio.create_task(self._keep_connected(end))
        self._entered()
        task.add_done_callback(lambda _: self._undial(end))  # even if it never got to run

    def _undial(self, end: LinkEnd) -> None:
        del self._dials[end]
        self._left()

    def _on_dead(self, end: LinkEnd, connected: bool) -> None:
        task = self._dials.get(end)
        if task is not None and not connected:
            task.cancel()  # there is nothing to end politely

    async def _keep_connected(self, end: LinkEnd) -> None:
        backoff_s = self.config.backoff_start_s
        reason = ""
        while not end.dead:
            connects = end.connects
            before, reason = reason, await self._connect(end)
            if end.dead:
                return
            if end.connects > connects:
                backoff_s = self.config.backoff_start_s
            elif reason != before:
                log.warning("cannot reach %s at %s: %s", *end.peer[::2], reason)
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, self.config.backoff_max_s)

    async def _connect(self, end: LinkEnd) -> str:
        """One connection from dial to end: why it ended. Only final reasons lose the session."""
        try:
            await self._run(end)
            reason = _ENDED
            self.lose(end, reason)
        except GRPCError as exc:
            reason = f"{exc.status.name}: {exc.message}"
            if exc.status in _FINAL:
                self.lose(end, reason)
        except ProtocolError as exc:
            reason = str(exc)
            self.lose(end, reason)
        except (OSError, StreamTerminatedError, TimeoutError, H2Error) as exc:
            reason = f"{type(exc).__name__}: {exc}"
        except Exception as exc:
            log.exception("link %s with %s failed", end.name, end.peer.host_id)
            reason = f"{type(exc).__name__}: {exc}"
        if end.pipe is not None:
            self.broken(end, end.pipe, reason)
        return reason

    async def _run(self, end: LinkEnd) -> None:
        timeout_s = self.config.connect_timeout_s
        async with self._stream_to(end.peer) as stream:
            async with asyncio.timeout(timeout_s):
                await stream.send_message(Frame(self.hello(end)))
                frame = await stream.recv_message()
            if frame is None:
                raise StreamTerminatedError("ended before its Hello")
            pipe = GrpcPipe(self, stream)
            pipe.end = end
            self.welcome(end, frame.batch, pipe)
            await pipe.run()
            async with asyncio.timeout(timeout_s):
                await stream.end()
                await stream.recv_trailing_metadata()

    @asynccontextmanager
    async def _stream_to(self, peer: Peer) -> AsyncIterator[ClientStream[Frame, Frame]]:
        host, colon, port = peer.address.rpartition(":")
        if not colon or not port.isdecimal():
            raise ProtocolError(f"address {peer.address!r} of {peer.host_id} is not host:port")
        config = Configuration(
            http2_connection_window_size=self.config.window_bytes,
            http2_stream_window_size=self.config.window_bytes,
            ssl_target_name_override=self.config.tls_name,
        )
        channel = BoundedChannel(
            host.strip("[]"),
            int(port),
            ssl=self._tls,
            config=config,
            bytes_max=self.config.frame_bytes_max,
        )
        try:
            async with channel.request(
                METHOD, Cardinality.STREAM_STREAM, Frame, Frame, metadata=self._metadata
            ) as stream:
                yield stream
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
        return {METHOD: Handler(self._link, Cardinality.STREAM_STREAM, Frame, Frame)}

    async def _link(self, stream: ServerStream[Frame, Frame]) -> None:
        links = self._links
        links._entered()
        try:
            pipe = await self._admit(stream)
            await self._run(pipe)
        except Mismatch as exc:
            raise GRPCError(Status.FAILED_PRECONDITION, str(exc)) from exc
        except ProtocolError as exc:
            raise GRPCError(Status.INVALID_ARGUMENT, str(exc)) from exc
        except NoCapacity as exc:
            raise GRPCError(Status.UNAVAILABLE, str(exc)) from exc
        except TimeoutError as exc:
            raise GRPCError(Status.DEADLINE_EXCEEDED, "no Hello came") from exc
        finally:
            links._left()

    async def _admit(self, stream: ServerStream[Frame, Frame]) -> GrpcPipe:
        links = self._links
        if links.config.peer_certificate and not stream.peer.cert():
            raise GRPCError(Status.UNAUTHENTICATED, "a host must show a certificate")
        async with asyncio.timeout(links.config.connect_timeout_s):
            frame = await stream.recv_message()
        if frame is None:
            raise ProtocolError("the stream ended before its Hello")
        await stream.send_initial_metadata()
        pipe = GrpcPipe(links, stream)
        pipe.end = links.admit(frame.batch, pipe)
        return pipe

    async def _run(self, pipe: GrpcPipe) -> None:
        links, end = self._links, pipe.end
        assert end is not None
        try:
            reason = await pipe.run()
        except (ProtocolError, GRPCError) as exc:
            links.lose(end, str(exc))
            raise
        except BaseException as exc:
            links.broken(end, pipe, f"{type(exc).__name__}: {exc}")
            raise
        if reason is None:
            links.lose(end, _ENDED)
        else:
            raise GRPCError(*reason)
