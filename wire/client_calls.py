"""Calls from outside, as a host sees them: what the gateway service submits. An adapter."""

from __future__ import annotations

import asyncio
from collections import deque

from wire.errors import RoostError
from wire.ids import ActorId
from wire.items import Mode


class OutsideCall:
    """The part of wire.ports.ClientCall that all calls share; ``done`` once it has an end."""

    __slots__ = (
        "content", "done", "headers", "method", "mode", "payload", "session", "target",
        "timeout_s",
    )  # fmt: skip

    def __init__(
        self, session: str, target: ActorId, method: str, mode: Mode, content: int,
        payload: bytes, timeout_s: float | None, headers: dict[str, str] | None,
    ) -> None:  # fmt: skip
        self.session = session
        self.target = target
        self.method = method
        self.mode = mode
        self.content = content
        self.payload = payload
        self.timeout_s = timeout_s
        self.headers = headers
        self.done = False


class SingleCall(OutsideCall):
    """An ask or a tell: await ``result`` for (content, payload)."""

    __slots__ = ("result",)

    result: asyncio.Future[tuple[int, bytes]]

    def chunk(self, content: int, payload: bytes) -> None:
        raise AssertionError("an ask has no items")

    def finished(self, content: int, payload: bytes) -> None:
        self.done = True
        if not self.result.done():
            self.result.set_result((content, payload))

    def failed(self, error: RoostError) -> None:
        self.done = True
        if not self.result.done():
            self.result.set_exception(error)


class StreamCall(OutsideCall):
    """A stream: :meth:`next` gives its items; holds no more than was granted."""

    __slots__ = ("_error", "_items", "_waiter")

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._items: deque[tuple[int, bytes]] = deque()
        self._error: RoostError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> tuple[int, bytes] | None:
        """The next item as (content, payload), or None at the end; raises what it failed with."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self.done:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.popleft()

    def chunk(self, content: int, payload: bytes) -> None:
        self._items.append((content, payload))
        self._wake()

    def finished(self, content: int, payload: bytes) -> None:
        self.done = True
        self._wake()

    def failed(self, error: RoostError) -> None:
        self.done = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
