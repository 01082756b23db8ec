"""A TCP proxy that does to connections what networks do. asyncio."""

from __future__ import annotations

import asyncio
from random import Random

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TcpProxy:
    """Forwards ``address`` to ``target`` (a port of 127.0.0.1), or to nobody while it is None.

    With ``kill_bytes`` (least, most) each connection is cut after a number of bytes drawn from
    it, both ways counted together, at whatever byte that is.
    """

    def __init__(self, target: int | None = None, rng: Random | None = None) -> None:
        self.target = target
        self.kill_bytes: tuple[int, int] | None = None
        self.connections = 0
        self._rng = rng or Random(0)
        self._flows = {"in": asyncio.Event(), "out": asyncio.Event()}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.heal()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            self._end(writer)

    def stall(self, way: str) -> None:
        """Hold what goes ``way`` ("in": towards the target, or "out") until :meth:`heal`."""
        self._flows[way].clear()

    def heal(self) -> None:
        for flow in self._flows.values():
            flow.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.target is not None:
                outside = await asyncio.open_connection("127.0.0.1", self.target)
                self.connections += 1
                await self._join((reader, writer), outside)
        except OSError:
            pass  # nobody there, or the connection ended: either way it is over
        finally:
            self._end(writer)
            self._tasks.discard(task)

    async def _join(self, near: Streams, far: Streams) -> None:
        self._writers.add(far[1])
        left = [self._rng.randint(*self.kill_bytes)] if self.kill_bytes else [1 << 62]
        pumps = [
            asyncio.ensure_future(self._pump(near[0], far[1], self._flows["in"], left)),
            asyncio.ensure_future(self._pump(far[0], near[1], self._flows["out"], left)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._end(far[1])

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        flow: asyncio.Event,
        left: list[int],
    ) -> None:
        while data := await reader.read(1 << 16):
            await flow.wait()
            data = data[: left[0]]
            left[0] -= len(data)
            writer.write(data)
            if not left[0]:
                return
            await writer.drain()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        # Half of the time the bytes written so far still arrive before the end does.
        if self._rng.random() < 0.5:
            writer.close()
        else:
            writer.transport.abort()
