"""``Actor``: the class that users subclass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from actors.kinds import KindOptions, handlers_of
from wire.ids import ActorId

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.nursery import ActorNursery
    from actors.reasons import Reason
    from actors.system import System
    from actors.timers import Timer

R = TypeVar("R")

_OPTION_NAMES = frozenset(f.name for f in fields(KindOptions))


class Actor:
    """Code plus identity. Subclass it, mark methods with ``@handler``, call it by name.

    Options are class keywords, all listed in :class:`actors.kinds.KindOptions`::

        class Counter(Actor, idle_after_s=60, persist="turn"):
            state: CounterState            # a msgspec.Struct; saved and restored

            @handler
            async def add(self, n: int) -> int:
                self.state.total += n
                return self.state.total

    Make ``__init__`` take no arguments, or leave it out. An ``async def run(self)`` is the
    agent's own loop: it starts after ``on_activate`` and is cancelled when the actor stops.
    An ``on_spawn(self, ...)`` gets the arguments of each ``spawn``, as a message.
    """

    __roost_kind__: ClassVar[str]
    __roost_options__: ClassVar[KindOptions] = KindOptions()
    _activation: Activation

    def __init_subclass__(cls, **options: Any) -> None:
        unknown = options.keys() - _OPTION_NAMES
        if unknown:
            raise TypeError(
                f"class {cls.__qualname__}: unknown option {min(unknown)!r}; "
                f"there are {sorted(_OPTION_NAMES)}"
            )
        inherited = {f.name: getattr(cls.__roost_options__, f.name) for f in fields(KindOptions)}
        inherited["kind"] = ""
        cls.__roost_options__ = KindOptions(**(inherited | options))
        cls.__roost_kind__ = cls.__roost_options__.kind or cls.__name__
        # A wrong handler is an error at the class, not at the first call.
        taken = handlers_of(cls).keys() & _OWN_NAMES
        if taken:
            raise TypeError(
                f"{cls.__qualname__}.{min(taken)}: Actor itself uses that name: "
                "give the handler another"
            )
        super().__init_subclass__()

    # What a subclass may define -----------------------------------------------------------

    async def on_activate(self) -> None:
        """Called once the actor is this host's and its state is restored, before any message."""

    async def on_deactivate(self, reason: Reason) -> None:
        """Called before the actor leaves this host; its state is saved after it returns."""

    async def on_reminder(self, name: str) -> None:
        """A reminder fires. It counts once this returns, so it may come more than once."""
        raise NotImplementedError(f"{type(self).__name__} has reminders but no on_reminder()")

    def snapshot(self) -> bytes | None:
        """What to save instead of ``state``; None saves ``state`` (if any). Must not block."""
        return None

    def restore(self, snapshot: bytes) -> None:
        """Take over what ``snapshot`` returned earlier, before ``on_activate``."""
        raise NotImplementedError(f"{type(self).__name__} has a snapshot but defines no restore()")

    # What a subclass may use --------------------------------------------------------------

    @property
    def id(self) -> ActorId:
        """This actor's name: ``self.id.kind``, ``self.id.key``."""
        return self._activation.id

    @property
    def key(self) -> str:
        return self._activation.id.key

    @property
    def epoch(self) -> int:
        """Fencing token of this activation: hand it to outside systems with each write."""
        return self._activation.epoch

    @property
    def system(self) -> System:
        return self._activation.system

    @property
    def ref(self) -> Self:
        """A ref to this actor, to hand to others; calls on it go through the mailbox."""
        return self._activation.system.ref(type(self), self.key)

    @property
    def nursery(self) -> ActorNursery:
        """Tasks that live and die with this activation; a crash there restarts the actor."""
        return self._activation.open_nursery()

    @property
    def __roost_ref__(self) -> str:
        return str(self._activation.id)

    async def save(self) -> None:
        """Save the state now. Raises NotDelivered when this activation is no longer the owner."""
        await self._activation.save()

    def passivate(self) -> None:
        """Stop once the messages that are waiting have run; the next message starts it again."""
        self._activation.passivate()

    def set_timer(
        self, method: Callable[[], Awaitable[None]], after_s: float, *, every_s: float = 0.0
    ) -> Timer:
        """Call ``method`` as a message to this actor after ``after_s`` seconds, then each
        ``every_s`` if that is above 0. In memory: it ends with the activation, or moves with it
        by the method's name. What ``on_activate`` sets takes the place of what moved along."""
        return self._activation.set_timer(method, after_s, every_s)

    async def set_reminder(self, name: str, after_s: float, *, every_s: float = 0.0) -> None:
        """Have ``on_reminder(name)`` called after ``after_s`` seconds, then each ``every_s`` if
        that is above 0: even if this actor is passivated, moves, or loses its host meanwhile.
        Replaces the reminder of that name. Raises Unavailable when it cannot be stored."""
        await self._activation.set_reminder(name, after_s, every_s)

    async def cancel_reminder(self, name: str) -> bool:
        """Forget a reminder; whether it was there."""
        return await self._activation.cancel_reminder(name)

    async def run_blocking(self, function: Callable[..., R], *args: Any) -> R:
        """Run blocking code in a thread. Stopping and moving the actor wait for it."""
        return cast(R, await self._activation.run_blocking(function, *args))

    def __repr__(self) -> str:
        activation = getattr(self, "_activation", None)
        return f"<{activation.id if activation else type(self).__name__}>"


#: What an actor's own methods are called; ``run`` and ``on_spawn`` are looked up by name alone.
_OWN_NAMES = frozenset(n for n in vars(Actor) if n[0] != "_") | {"on_spawn", "run", "state"}
