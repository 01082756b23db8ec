"""How a program gets its loop: ``actors.run`` owns it, ``run_in_asyncio`` is a guest of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def run(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run ``async_fn(*args)`` in Trio on a uvloop host loop, so that hosts and clients work in
    it; returns its result. A purely local system needs only ``trio.run``."""
    from wire.loops import run as run_hosted

    return run_hosted(async_fn, *args)


async def run_in_asyncio(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Awaited in a running asyncio program: run ``async_fn(*args)`` in Trio, a guest of that
    loop. Cancelling the awaiting task cancels it."""
    from wire.loops import run_in_asyncio as guest

    return await guest(async_fn, *args)
