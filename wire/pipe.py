"""One connection of a link over gRPC: batches in, batches out. An adapter (asyncio)."""

from __future__ import annotations

import asyncio
from typing import Any

from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import H2Error

from wire.frames import Frame
from wire.link_core import LinkCore, LinkEnd


class GrpcPipe:
    """A grpclib stream as wire.link_core.Pipe. ``end`` is whose batches it carries."""

    def __init__(self, links: LinkCore, end: LinkEnd | None) -> None:
        self.end = end
        self._links = links
        self._stream: Any = None
        self._writing: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def open(self, stream: Any) -> None:
        """From now on ``stream`` carries batches; its Hellos have been dealt with."""
        self._stream = stream

    @property
    def writable(self) -> bool:
        return self._writing is None and not self._closed.done()

    def write(self, batch: bytes) -> None:
        self._writing = asyncio.get_running_loop().create_task(self._send(batch))

    def close(self, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result(reason)

    def abort(self) -> None:
        self.close("")

    async def run(self) -> str | None:
        """Hand batches over until the stream ends (None) or ``close`` says why it must ("": no
        need to tell the other side). Raises ProtocolError and what grpclib raises."""
        reading = asyncio.get_running_loop().create_task(self._read())
        try:
            await asyncio.wait((reading, self._closed), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
            return self._closed.result() if self._closed.done() else None
        finally:
            reading.cancel()
            if self._writing is not None:
                self._writing.cancel()

    async def _read(self) -> None:
        links = self._links
        while (frame := await self._stream.recv_message()) is not None:
            if self.end is not None:
                links.receive(self.end, self, frame.batch)

    async def _send(self, batch: bytes) -> None:
        try:
            await self._stream.send_message(Frame(batch))
        except (OSError, StreamTerminatedError, H2Error):
            return  # the reader learns the same and says so
        self._writing = None
        if self.end is not None:
            self._links.flush(self.end)
