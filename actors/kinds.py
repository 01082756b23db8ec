"""A kind: what an actor class says of itself, checked when the class is defined. Pure."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from actors.codec import Decoder, Hooks, Signature
from actors.handlers import HandlerSpec, Options, handler_spec
from wire.errors import InvalidArgument, UnknownKind
from wire.ids import actor_id
from wire.items import Mode

if TYPE_CHECKING:
    from actors.actor import Actor

#: A message that every actor answers as soon as it runs; its arguments go to ``on_spawn``.
SPAWN = "$spawn"
#: A durable timer fires: its name goes to ``on_reminder``.
REMIND = "$remind"
#: Header of a spawn that an actor made: which actor.
SPAWNER = "roost-spawner"

OnError = Literal["resume", "restart", "stop", "escalate"]
Persist = Literal["passivate", "turn", "never"]
Isolation = Literal["none", "thread", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOptions:
    """The options of a kind, given as class keywords: ``class C(Actor, idle_after_s=60)``."""

    #: Name of the kind on the wire; "" means the class's name.
    kind: str = ""
    #: Seconds without a message until passivation; None: the system's; 0: never.
    idle_after_s: float | None = None
    #: When the state is saved: at passivation, drain and ``save()``, or before each reply too, or
    #: never (then it moves with the actor, and is gone when the actor or its host is).
    persist: Persist = "passivate"
    #: Handlers that may run at once in one actor.
    max_concurrency: int = 1
    #: Any handler may run while another waits (then a cycle A, B, A is no deadlock).
    reentrant: bool = False
    #: What a handler's exception does to the actor, besides reaching its caller: nothing, start
    #: it anew from its saved state, stop it as failed, or that and crash the actor that spawned it.
    on_error: OnError = "resume"
    #: Restarts allowed within ``restart_window_s`` before the actor stops as failed.
    restarts_max: int = 5
    restart_window_s: float = 60.0
    #: First pause before a restart, doubled each time up to the second (seconds).
    backoff_s: float = 0.05
    backoff_max_s: float = 5.0
    #: Messages that may wait; None: the system's mailbox_max.
    mailbox_max: int | None = None
    #: Where its code runs: on the host's loop, its plain ``def`` handlers in threads, or each actor
    #: in a process of its own (its class must then be at its module's top level).
    isolation: Isolation = "none"
    #: Bytes that an isolated process may map beyond what it starts with; 0: the host's setting.
    memory_bytes_max: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise TypeError(f"{name}={getattr(self, name)!r}: choose one of {list(allowed)}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            if not isinstance(value, (int, float)) or not value >= least:
                or_none = ", or None" if name in _MAY_BE_NONE else ""
                raise TypeError(f"{name}={value!r}: at least {least}{or_none}")


_CHOICES: dict[str, tuple[str, ...]] = {
    "on_error": typing.get_args(OnError),
    "persist": typing.get_args(Persist),
    "isolation": typing.get_args(Isolation),
}
_LEAST: dict[str, int] = {
    "max_concurrency": 1, "mailbox_max": 1, "idle_after_s": 0, "restarts_max": 0,
    "restart_window_s": 0, "backoff_s": 0, "backoff_max_s": 0, "memory_bytes_max": 0,
}  # fmt: skip
_MAY_BE_NONE = frozenset({"mailbox_max", "idle_after_s"})


@dataclass(slots=True)
class Kind:
    """One actor class made ready for a system: its handlers' signatures compiled."""

    name: str
    cls: type[Actor]
    options: KindOptions
    handlers: Mapping[str, BoundSpec]
    state_type: type[msgspec.Struct] | None
    state_decoder: Decoder | None
    has_run: bool
    #: Messages that may wait; the system's bound where the kind has none of its own.
    mailbox_max: int
    hosted: bool = field(default=True)
    max_concurrency: int = field(init=False)
    turns_max: int = field(init=False)

    def __post_init__(self) -> None:
        self.mailbox_max = self.options.mailbox_max or self.mailbox_max
        self.max_concurrency = self.options.max_concurrency
        #: Turns that may run at once, reentrant ones included, which wait in no mailbox.
        self.turns_max = self.max_concurrency + self.mailbox_max

    def method(self, name: str) -> BoundSpec:
        """The handler ``name``; raises UnknownKind naming what there is."""
        found = self.handlers.get(name)
        if found is None:
            raise UnknownKind(
                f"kind {self.name!r} has no handler {name!r}; it has {self.handler_names()}"
            )
        return found

    def handler_names(self) -> list[str]:
        """What its refs can call."""
        return sorted(name for name in self.handlers if name[0] != "$")


class BoundSpec:
    """A handler together with its compiled signature.

    ``reentrant``: it may run beside others of its actor. ``is_plain``: it runs on the host's loop
    and returns one value, and nothing is saved before the answer. Most are, so these take a
    shorter way.
    """

    __slots__ = (
        "function", "idempotent", "is_async", "is_plain", "is_stream", "mode", "name", "reentrant",
        "signature",
    )  # fmt: skip

    def __init__(self, spec: HandlerSpec, signature: Signature, options: KindOptions) -> None:
        self.name = spec.name
        self.function = spec.function
        self.mode = spec.mode
        self.is_async = spec.is_async
        self.idempotent = spec.options.idempotent
        self.reentrant = spec.options.reentrant or options.reentrant
        self.is_stream = spec.mode is Mode.STREAM
        self.is_plain = (
            spec.name != SPAWN
            and spec.mode is not Mode.STREAM
            and options.persist != "turn"
            and (options.isolation == "none" or (options.isolation == "thread" and spec.is_async))
        )
        self.signature = signature


def handlers_of(cls: type) -> dict[str, HandlerSpec]:
    """The handlers of a class, inherited ones included."""
    found: dict[str, HandlerSpec] = {}
    for base in reversed(cls.__mro__):
        for name, attribute in vars(base).items():
            spec = handler_spec(name, attribute)
            if spec is not None:
                found[name] = spec
            elif name in found:
                del found[name]  # overridden by something that is no handler
    return found


def state_type_of(cls: type) -> type[msgspec.Struct] | None:
    """The struct that ``state: SomeStruct`` names in the class, or None.

    Raises TypeError when it is no msgspec.Struct or cannot be made without arguments.
    """
    base = next((b for b in cls.__mro__ if "state" in vars(b).get("__annotations__", {})), None)
    if base is None:
        return None
    # That one annotation alone: others of the class need not resolve at run time.
    alone = {"__annotations__": {"state": base.__annotations__["state"]}}
    holder = type(cls.__name__, (), alone | {"__module__": base.__module__})
    where = f"{cls.__qualname__}.state"
    try:
        state_type = _hints(holder, base)["state"]
    except TypeError as exc:
        raise TypeError(f"{where}: {exc}") from exc
    if not (isinstance(state_type, type) and issubclass(state_type, msgspec.Struct)):
        raise TypeError(f"{where} must be annotated with a msgspec.Struct, not {state_type!r}")
    try:
        state_type()
    except TypeError as exc:
        raise TypeError(f"{where}: give every field of {state_type.__name__} a default") from exc
    return state_type


def compile_kind(cls: type[Actor], hooks: Hooks, mailbox_max: int = 1_000) -> Kind:
    """Make ``cls`` ready; raises TypeError for what is no actor class, and for annotations that
    cannot be resolved."""
    if not (isinstance(cls, type) and hasattr(cls, "__roost_kind__")):
        raise TypeError(f"{cls!r} is no actor class: give a subclass of actors.Actor")
    name = cls.__roost_kind__
    try:
        actor_id(name, "x")
    except InvalidArgument as exc:
        raise TypeError(f"class {cls.__qualname__}: {exc}") from exc
    state_type = state_type_of(cls)
    bound = {
        spec.name: BoundSpec(spec, _signature(name, cls, spec, hooks), cls.__roost_options__)
        for spec in handlers_of(cls).values()
    }
    own_hooks = {SPAWN: getattr(cls, "on_spawn", _no_arguments), REMIND: cls.on_reminder}
    for message, function in own_hooks.items():
        spec = _hook_spec(message, function)
        signature = _signature(name, cls, spec, hooks)
        bound[message] = BoundSpec(spec, signature, cls.__roost_options__)
    return Kind(
        name=name,
        cls=cls,
        options=cls.__roost_options__,
        handlers=bound,
        state_type=state_type,
        state_decoder=hooks.decoder(state_type) if state_type else None,
        has_run=callable(getattr(cls, "run", None)),
        mailbox_max=mailbox_max,
    )


def _no_arguments(actor: object) -> None:
    """on_spawn of a kind that defines none."""


def _hook_spec(name: str, function: Callable[..., Any]) -> HandlerSpec:
    parameters = tuple(inspect.signature(function).parameters.values())[1:]
    is_async = inspect.iscoroutinefunction(function)
    return HandlerSpec(name, function, Mode.ASK, is_async, Options(), parameters)


def _signature(kind: str, cls: type, spec: HandlerSpec, hooks: Hooks) -> Signature:
    try:
        return Signature(kind, spec, _hints_within(cls, spec.function), hooks)
    except TypeError as exc:
        raise TypeError(f"{cls.__qualname__}.{spec.name}: {exc}") from exc


def _hints_within(cls: type, function: Callable[..., Any]) -> dict[str, Any]:
    """The hints of a function of ``cls``, with what ``cls`` fills its generic bases with."""
    owner = next((b for b in cls.__mro__ if any(v is function for v in vars(b).values())), cls)
    arguments = _type_arguments(cls).get(owner, {})
    return {name: _filled(hint, arguments) for name, hint in _hints(function, cls).items()}


def _type_arguments(cls: type) -> dict[Any, dict[Any, Any]]:
    """For each generic base of ``cls``: what stands for its type variables."""
    found: dict[Any, dict[Any, Any]] = {}
    for klass in cls.__mro__:
        for base in vars(klass).get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            variables = getattr(origin, "__parameters__", ())
            given = (_filled(hint, found.get(klass, {})) for hint in typing.get_args(base))
            found.setdefault(origin, dict(zip(variables, given, strict=False)))
    return found


def _filled(hint: Any, arguments: dict[Any, Any]) -> Any:
    """``hint`` with type variables replaced, as far as ``arguments`` knows them."""
    if isinstance(hint, typing.TypeVar):
        return arguments.get(hint, hint)
    variables = getattr(hint, "__parameters__", ())
    if not variables or isinstance(hint, type):
        return hint
    return hint[tuple(arguments.get(variable, variable) for variable in variables)]


def _hints(thing: Any, cls: type | None = None) -> dict[str, Any]:
    local: dict[str, Any] = {}
    if cls is not None:  # names that the class's own body can see, as far as they are types
        local = {name: value for name, value in vars(cls).items() if isinstance(value, type)}
        local |= {cls.__name__: cls, "Self": cls}
    try:
        return typing.get_type_hints(thing, localns=local, include_extras=True)
    except NameError as exc:
        raise TypeError(
            f"annotation {exc.name!r} is not known in its module "
            "(define it at module level, or import it outside 'if TYPE_CHECKING')"
        ) from exc
