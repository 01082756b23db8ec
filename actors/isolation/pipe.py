"""A pipe of wire items between a host and a child: batches with their length in front. An adapter.

Sending never blocks; what bounds it is that calls wait for answers and streams for grants.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

import trio

from wire.errors import MailboxFull, ProtocolError
from wire.items import Batch, Item, decode_batch, encode_batch

READ_BYTES = 1 << 18
BATCH_MAX = 256
#: Items that may wait to be written; more is a producer that never waits (MailboxFull).
QUEUE_MAX = 50_000
FRAME_BYTES_MAX = 1 << 30
_FLUSH_S = 0.5


class Pipe:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._raw = end
        end.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(end)
        self._items: list[Item] = []
        self._wake = trio.Event()
        self.closed = trio.Event()  # the other side is gone, and all that it said was read

    def send(self, item: Item) -> None:
        """Queue ``item``; raises MailboxFull at QUEUE_MAX."""
        if len(self._items) >= QUEUE_MAX:
            raise MailboxFull("the pipe between host and child is full")
        self._items.append(item)
        self._wake.set()

    async def write(self) -> None:
        """Write what is queued, for ever; returns when the other side is gone."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._items:
                    data = memoryview(self._take())
                    while data:
                        data = data[await self._socket.send(data) :]
        except OSError:
            return

    def _take(self) -> bytes:
        items, self._items = self._items[:BATCH_MAX], self._items[BATCH_MAX:]
        body = encode_batch(Batch(0, 0, items))
        return len(body).to_bytes(4, "big") + body

    def flush(self) -> None:
        """Write what is queued, blocking for a moment: the last words of a process."""
        poll = select.poll()
        poll.register(self._raw, select.POLLOUT)
        while self._items:
            data = memoryview(self._take())
            while data:
                if not poll.poll(_FLUSH_S * 1000):
                    return
                try:
                    data = data[self._raw.send(data) :]
                except OSError:
                    return

    async def read(self, on_item: Callable[[Item], None]) -> None:
        """Hand over what comes, until the other side is gone. Raises ProtocolError."""
        held = bytearray()
        try:
            while data := await self._socket.recv(READ_BYTES):
                held += data
                while (body := _next_frame(held)) is not None:
                    for item in decode_batch(body).items:
                        on_item(item)
        except OSError:
            return
        finally:
            self.closed.set()

    def close(self) -> None:
        self._socket.close()


def _next_frame(held: bytearray) -> bytes | None:
    if len(held) < 4:
        return None
    size = int.from_bytes(held[:4], "big")
    if size > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {size} bytes: at most {FRAME_BYTES_MAX}")
    if len(held) < 4 + size:
        return None
    body = bytes(held[4 : 4 + size])
    del held[: 4 + size]
    return body
