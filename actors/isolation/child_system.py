"""The system that an isolated actor sees; the cluster's part is its parent's to do. An adapter."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any, cast

from actors.activation import Activation
from actors.isolation import messages
from actors.isolation.child_calls import ChildRouter
from actors.isolation.messages import Init
from actors.lifecycle import Lifecycle
from actors.reasons import Reason
from actors.system import System
from placement.memory import MemoryRegistry, MemoryStore
from placement.ports import Registry
from wire.errors import ActorError
from wire.ids import ActorId
from wire.ports import Peer

if TYPE_CHECKING:
    from actors.isolation.child import ParentLink

EXIT_MEMORY = 77


class ChildLifecycle(Lifecycle):
    """What the parent decides is the parent's."""

    isolates = False

    def __init__(self, system: System, link: ParentLink) -> None:
        super().__init__(system)
        self._link = link

    def started(self, activation: Activation) -> None:
        super().started(activation)
        self._link.started()

    def _could_not_start(self, activation: Activation, exc: BaseException) -> None:
        self._link.could_not_start(exc)

    async def save(self, activation: Activation, registry: Registry | None = None) -> None:
        data = self.snapshot(activation)
        if data is not None:
            await self._link.ask(messages.SAVE, data)

    def stop(self, activation: Activation, reason: Reason) -> None:
        self._link.tell(messages.END if reason is Reason.STOPPED else messages.PASSIVATE, None)

    def crashed(self, activation: Activation, exc: BaseException) -> None:
        text = "".join(traceback.format_exception(exc))[-6_000:]
        _end_if_out_of_memory(self._link, exc)
        inner: BaseException = exc
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        details = {"type": type(inner).__name__, "traceback": text}
        self._link.tell(messages.CRASHED, (ActorError.code, str(inner), details))

    def handler_raised(self, activation: Activation, exc: BaseException) -> None:
        _end_if_out_of_memory(self._link, exc)


def _end_if_out_of_memory(link: ParentLink, exc: BaseException) -> None:
    """A process at its bound cannot be trusted to go on."""
    if isinstance(exc, MemoryError):
        link.pipe.flush()
        os._exit(EXIT_MEMORY)


class ChildSystem(System):
    """The system that an isolated actor sees as ``self.system``."""

    def __init__(self, cls: type, init: Init, link: ParentLink) -> None:
        super().__init__(
            [cls], cast(Any, MemoryRegistry(MemoryStore())), link.nursery, init.config,
            is_local=False,
        )  # fmt: skip
        self._link = link
        self.me = Peer(init.host_id, init.incarnation, init.address)
        self.child_router = ChildRouter(self, link)
        self.router = self.child_router
        self.lifecycle = ChildLifecycle(self, link)
        self.reminders = cast(Any, ChildReminders(link))
        self.serving = True

    @property
    def host_id(self) -> str:
        return self.me.host_id

    @property
    def address(self) -> str:
        return self.me.address

    def is_serving(self) -> bool:
        return not self._link.deadline.is_past()

    async def stop_id(self, target: ActorId) -> bool:
        stopped: bool = await self._link.ask(messages.STOP, str(target))
        return stopped


class ChildReminders:
    """Reminders are the parent's to keep."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link

    async def set(self, target: ActorId, name: str, after_s: float, every_s: float) -> None:
        await self._link.ask(messages.SET_REMINDER, (name, after_s, every_s))

    async def drop(self, target: ActorId, name: str) -> bool:
        dropped: bool = await self._link.ask(messages.DROP_REMINDER, name)
        return dropped
