"""A host inside an asyncio program: what a web framework's start-up would do, and its handlers.

    python docs/examples/web.py redis://localhost:6379/0

With FastAPI, ``lifespan`` is the application's lifespan, and ``client`` what its routes use.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import actors
import wire
from actors import Actor, HostConfig, handler


class Visits(Actor):
    def __init__(self) -> None:
        self.count = 0

    @handler
    async def add(self) -> int:
        self.count += 1
        return self.count


@asynccontextmanager
async def lifespan(redis_url: str) -> AsyncIterator[wire.Client]:
    """A host for as long as the program runs, and a client of it for the handlers."""
    loop = asyncio.get_running_loop()
    address: asyncio.Future[str] = loop.create_future()

    async def host() -> None:  # Trio, as a guest of this loop, on this thread
        config = HostConfig(redis_url=redis_url, bind="127.0.0.1", port=0)
        async with actors.open_host(config, [Visits]) as system:
            address.set_result(system.address)
            await system.wait_closed()

    hosting = asyncio.create_task(actors.run_in_asyncio(host))
    started: list[asyncio.Future[Any]] = [hosting, address]
    await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
    if hosting.done():
        hosting.result()  # it could not start, and this says why
    try:
        async with wire.connect(address.result()) as client:
            yield client
    finally:
        hosting.cancel()  # it drains
        await asyncio.wait([hosting])


async def main(redis_url: str) -> None:
    async with lifespan(redis_url) as client:
        calls = [client.ask("Visits", "front-page", "add") for _ in range(10)]
        print(sorted(await asyncio.gather(*calls)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
