"""The nursery of a system: its tasks outlive the cancellation of whoever opened the system."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for the length of the block, cancelled at its end and by nothing else.

    When the block is cancelled, its ``finally`` still finds every task at work, and can wind the
    actors up. What the block raises comes out as it is, in no group; a task that crashes cancels
    the block.
    """
    error: BaseException | None = None
    async with trio.open_nursery() as outer:
        nursery: trio.Nursery = await outer.start(_keep_open)
        try:
            yield nursery
        except BaseException as exc:
            if _is_cancellation(exc):
                raise
            error = exc  # raised again outside of the nursery, which would put it in a group
        finally:
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error


def check_trio(what: str) -> None:
    """Raises RuntimeError that names the remedy when the caller is no Trio task."""
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            f"{what} runs in Trio: use actors.run(main) or trio.run(main), or in an asyncio "
            "program `await actors.run_in_asyncio(main)`"
        )


async def _keep_open(task_status: trio.TaskStatus[trio.Nursery]) -> None:
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            await trio.sleep_forever()


def _is_cancellation(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup((trio.Cancelled, GeneratorExit)) is not None
    return isinstance(exc, (trio.Cancelled, GeneratorExit))
