"""Kinds that run in processes and in threads, and ways to misbehave there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator

import msgspec
import trio

from actors import Actor, Reason, handler


class Total(msgspec.Struct):
    n: int = 0
    left: str = ""


class Plain(Actor):
    @handler
    async def call(self, other: Isolated) -> int:
        return await other.add(100)

    @handler
    async def back(self, other: Isolated) -> int:
        return await other.ask_plain_back(self.ref)


class Isolated(Actor, isolation="process", backoff_s=0.01, restarts_max=3):
    state: Total

    async def on_spawn(self, n: int = 0) -> None:
        self.state.n += n

    async def on_deactivate(self, reason: Reason) -> None:
        self.state.left = reason.value

    @handler
    async def add(self, n: int) -> int:
        self.state.n += n
        return self.state.n

    @handler
    def pid(self) -> int:
        return os.getpid()

    @handler
    def parent(self) -> int:
        return os.getppid()

    @handler
    def has_imported(self, module: str) -> bool:
        return module in sys.modules

    @handler
    async def where(self) -> str:
        return self.system.me.host_id

    @handler
    def left(self) -> str:
        return self.state.left

    @handler
    async def save_now(self) -> None:
        await self.save()

    @handler
    def boom(self) -> None:
        raise ValueError("on purpose")

    @handler
    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    @handler
    def loop(self) -> None:
        while True:
            pass

    @handler
    def eat(self, mib: int) -> int:
        return len(bytearray(mib << 20))

    @handler
    async def slow(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @handler
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @handler
    async def add_to(self, other: Isolated, n: int) -> int:
        return await other.add(n)

    @handler
    async def sum_of(self, other: Isolated, n: int) -> int:
        return sum([i async for i in other.count(n)])

    @handler
    async def ask_plain_back(self, plain: Plain) -> int:
        return await plain.call(self.ref)

    @handler
    async def tick(self, after_s: float) -> None:
        self.set_timer(self.ticked, after_s)

    async def ticked(self) -> None:
        self.state.n += 1000

    @handler
    async def fail_later(self) -> None:
        async def fail() -> None:
            raise RuntimeError("in the background")

        self.nursery.start_soon(fail)


class Small(Isolated, isolation="process", memory_bytes_max=256 << 20):
    pass


class Stubborn(Actor, isolation="process"):
    """Neither its end nor SIGTERM ends it."""

    @handler
    def be_deaf(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @handler
    def pid(self) -> int:
        return os.getpid()

    async def on_deactivate(self, reason: Reason) -> None:
        while True:
            pass


class Unwilling(Actor, isolation="process"):
    async def on_activate(self) -> None:
        raise RuntimeError("not today")


class Dies(Actor, isolation="process"):
    async def on_activate(self) -> None:
        os._exit(3)


class Threaded(Actor, isolation="thread"):
    @handler
    def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return threading.current_thread().name

    @handler
    async def name(self) -> str:
        return threading.current_thread().name
