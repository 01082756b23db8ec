"""The client for Trio programs outside the cluster: wire.client behind a crossing. An adapter.

async with wire.trio_connect("host:50051") as client:
    await client.ask("Counter", "a", "add", n=1)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from wire.bounds import PAYLOAD_BYTES_MAX
from wire.client import TIMEOUT_S, Client, Stream, connect
from wire.loops import Crossing, open_crossing
from wire.ports import Described, HostInfo
from wire.tls import TlsConfig

T = TypeVar("T")


@asynccontextmanager
async def trio_connect(
    addresses: str | Sequence[str], *, token: str = "", tls: TlsConfig | None = None,
    timeout_s: float = TIMEOUT_S, payload_bytes_max: int = PAYLOAD_BYTES_MAX,
) -> AsyncIterator[TrioClient]:  # fmt: skip
    """See :func:`wire.client.connect`. Under ``wire.loops.run`` this uses the run's own asyncio
    loop; in a plain ``trio.run`` it needs the extra ``roost[trio-embedding]``."""
    client = connect(
        addresses, token=token, tls=tls, timeout_s=timeout_s, payload_bytes_max=payload_bytes_max
    )
    async with open_crossing() as crossing:
        try:
            yield TrioClient(client, crossing)
        finally:
            with trio.CancelScope(shield=True):
                await crossing.cross(client.aclose)


class TrioClient:
    """:class:`wire.client.Client` for Trio: the same methods, promises and errors. A cancelled
    scope cancels the call, and the handler with it."""

    def __init__(self, client: Client, crossing: Crossing) -> None:
        self._client = client
        self._crossing = crossing

    def with_options(
        self, *, timeout_s: float | None = None, headers: Mapping[str, str] | None = None
    ) -> TrioClient:
        options = self._client.with_options(timeout_s=timeout_s, headers=headers)
        return TrioClient(options, self._crossing)

    async def ask(self, kind: str, key: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return await self._cross(self._client.ask, kind, key, method, *args, **kwargs)

    async def tell(self, kind: str, key: str, method: str, /, *args: Any, **kwargs: Any) -> None:
        await self._cross(self._client.tell, kind, key, method, *args, **kwargs)

    def stream(self, kind: str, key: str, method: str, /, *args: Any, **kwargs: Any) -> TrioStream:
        self._client.check_open()
        stream = self._client.stream(kind, key, method, *args, **kwargs)
        return TrioStream(stream, self._crossing)

    async def locate(self, kind: str, key: str) -> Described:
        return await self._cross(self._client.locate, kind, key)

    async def describe(self, kind: str, key: str) -> Described:
        return await self._cross(self._client.describe, kind, key)

    async def spawn(
        self, kind: str, key: str, arguments: Sequence[Any] | Mapping[str, Any] = (), *,
        durable: bool = False,
    ) -> Described:  # fmt: skip
        return await self._cross(self._client.spawn, kind, key, arguments, durable=durable)

    async def stop(self, kind: str, key: str) -> bool:
        return await self._cross(self._client.stop, kind, key)

    async def list(
        self, kind: str = "", *, limit: int = 100, cursor: str = ""
    ) -> tuple[tuple[Described, ...], str]:
        return await self._cross(self._client.list, kind, limit=limit, cursor=cursor)

    async def hosts(self) -> tuple[HostInfo, ...]:
        return await self._cross(self._client.hosts)

    async def drain(self, host_id: str) -> bool:
        return await self._cross(self._client.drain, host_id)

    async def _cross(
        self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> T:
        self._client.check_open()  # the other loop may be gone, too
        return await self._crossing.cross(partial(fn, *args, **kwargs))


class TrioStream:
    """:class:`wire.client.Stream` for Trio."""

    def __init__(self, stream: Stream, crossing: Crossing) -> None:
        self._stream = stream
        self._crossing = crossing

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._crossing.cross(self._stream.__anext__)

    async def aclose(self) -> None:
        """End the stream; the handler is cancelled if it still runs."""
        with trio.CancelScope(shield=True):
            await self._crossing.cross(self._stream.aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.aclose()
