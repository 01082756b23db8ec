"""An actor's nursery: background tasks that live and die with its activation.

It is opened at its first use, since a nursery and its task cost more than a whole idle actor.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from actors.incoming import CURRENT, InCall
from actors.supervision import is_actors_own

if TYPE_CHECKING:
    from actors.activation import Activation


class ActorNursery:
    """Like a trio.Nursery that is open as long as the actor is active here.

    A task that raises crashes the actor: its kind's supervision decides what follows. Calls that
    the tasks make are the actor's, but belong to no call that it runs: nobody waits for them.
    """

    def __init__(self, activation: Activation, parent: trio.Nursery) -> None:
        self._activation = activation
        self._nursery: trio.Nursery | None = None
        self._early: list[Callable[[], None]] = []
        self._nobodys = InCall(activation, "background", b"")
        self._opened = trio.Event()
        self._closed = trio.Event()
        self.cancel_scope = trio.CancelScope()
        parent.start_soon(self._keep, name=f"nursery of {activation.id}")

    def start_soon(
        self, function: Callable[..., Awaitable[Any]], *args: Any, name: object = None
    ) -> None:
        """Start a background task; see trio.Nursery.start_soon."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self._nobodys)

        def start() -> None:
            assert self._nursery is not None
            context.run(self._nursery.start_soon, function, *args, name=name)

        if self._nursery is not None:
            start()
        else:
            self._early.append(start)

    async def start(
        self, function: Callable[..., Awaitable[Any]], *args: Any, name: object = None
    ) -> Any:
        """Start a background task and wait for its task_status.started(); see trio.Nursery."""
        await self._opened.wait()
        assert self._nursery is not None
        starter = CURRENT.set(self._nobodys)
        try:
            return await self._nursery.start(function, *args, name=name)
        finally:
            CURRENT.reset(starter)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, by its cancel scope or by a crash: no task can start in it."""
        return self._closed.is_set()

    @property
    def is_busy(self) -> bool:
        """Whether a background task runs."""
        return bool(self._early or (self._nursery and self._nursery.child_tasks))

    async def aclose(self) -> None:
        """Cancel all tasks and wait until they are gone."""
        self.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await self._closed.wait()

    async def _keep(self) -> None:
        error: BaseException | None = None
        try:
            with self.cancel_scope:
                async with trio.open_nursery() as self._nursery:
                    for start in self._early:
                        start()
                    self._early.clear()
                    self._opened.set()
                    await trio.sleep_forever()
        except BaseException as exc:  # what a user's task raised, as a group
            if not is_actors_own(exc):
                raise
            error = exc
        finally:
            self._nursery = None
            self._closed.set()
        if error is not None:
            self._activation.crashed(error)
