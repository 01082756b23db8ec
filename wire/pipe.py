"""One connection of a link over gRPC: batches in, batches out. An adapter (asyncio)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import H2Error

from wire.frames import Frame
from wire.lane import open_lane
from wire.link_core import LinkCore
from wire.link_end import LinkEnd


class GrpcPipe:
    """A grpclib stream as wire.link_core.Pipe. ``end`` is whose batches it carries."""

    def __init__(self, links: LinkCore, stream: Any) -> None:
        self.end: LinkEnd | None = None
        self._links = links
        self._stream = stream
        self._lane = open_lane(stream, self._received)
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Task[None] | None = None  # while set, not writable
        self._closed: asyncio.Future[tuple[Status, str]] = self._loop.create_future()

    @property
    def writable(self) -> bool:
        if self._waiting is not None or self._closed.done():
            return False
        lane = self._lane
        if lane is not None and not lane.clear:
            self._wait_for(lane.wait_clear())
            return False
        return True

    def write(self, batch: bytes) -> None:
        lane = self._lane
        if lane is None:
            self._wait_for(self._stream.send_message(Frame(batch)))
            return
        rest = lane.write(batch)
        if rest is not None:
            self._wait_for(rest)

    def close(self, reason: str) -> None:
        self._close(Status.ABORTED, reason)

    def abort(self) -> None:
        self._close(Status.UNAVAILABLE, "another connection took its place")

    async def run(self) -> tuple[Status, str] | None:
        """Hand batches over until the stream ends (None) or must end (with that status).

        Raises ProtocolError and what grpclib raises.
        """
        if self._lane is not None:
            self._lane.start_reading()
        reading = self._loop.create_task(self._read())
        try:
            await asyncio.wait((reading, self._closed), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
            return self._closed.result() if self._closed.done() else None
        finally:
            reading.add_done_callback(_heard)
            reading.cancel()
            if self._waiting is not None:
                self._waiting.cancel()
            if self._lane is not None:
                self._lane.close()

    def _close(self, status: Status, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result((status, reason))

    async def _read(self) -> None:
        while (frame := await self._stream.recv_message()) is not None:
            self._received(frame.batch)

    def _received(self, batch: bytes) -> None:
        if self.end is not None:
            self._links.receive(self.end, self, batch)

    def _wait_for(self, step: Coroutine[Any, Any, None]) -> None:
        self._waiting = self._loop.create_task(self._wait(step))

    async def _wait(self, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except (OSError, StreamTerminatedError, H2Error):
            return  # the reader learns the same and says so
        self._waiting = None
        if self.end is not None:
            self._links.flush(self.end)


def _heard(task: asyncio.Task[None]) -> None:
    """What a task that nobody waits for ended in is of no interest."""
    if not task.cancelled():
        task.exception()
