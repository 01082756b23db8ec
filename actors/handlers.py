"""``@handler``: marks the methods of an actor that others may call, and gives them types.

At run time a handler stays the plain function it was, with its options attached, so a call on
``self`` costs nothing. To a type checker it is a descriptor: on a ref (typed as the actor's class)
``await ref.add(1)`` is an ask, ``await ref.add.tell(1)`` a tell, and a handler that yields gives a
stream. A decision module: pure.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from wire.items import Mode

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_MARK = "__roost_handler__"


class Stream(Protocol[T_co]):
    """Items of a stream handler, in order. Leaving it early cancels the handler.

    Use it with ``async for``; ``aclose`` (or ``async with``) ends it at once, otherwise it ends
    when the iterator is dropped.
    """

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> T_co: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Method(Protocol[P, R_co]):
    """A unary handler of a ref."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Ask: call the handler and wait for its result.

        A handler that never waits, of an idle actor on this host, has run when this first lets
        others run; of such calls in a row one in 32, or one each half millisecond, does.
        """

    async def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send the message and return once the target's window has taken it."""

    def tell_nowait(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send the message or raise MailboxFull; never waits."""

    def with_options(
        self, *, timeout_s: float | None = None, headers: dict[str, str] | None = None
    ) -> Method[P, R_co]:
        """The same method with its own deadline (seconds) or headers."""


class StreamMethod(Protocol[P, T_co]):
    """A stream handler of a ref."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Stream[T_co]:
        """Start the handler (at the first item asked for) and iterate over what it yields.

        It may last for ever: the system's default deadline bounds its start alone, while a
        deadline of its own (``with_options``, ``with_timeout``) bounds all of it.
        """

    def with_options(
        self, *, timeout_s: float | None = None, headers: dict[str, str] | None = None
    ) -> StreamMethod[P, T_co]:
        """The same method with its own deadline (seconds) or headers."""


class UnaryHandler(Generic[P, R]):
    """What a type checker takes ``@handler`` on a unary method for."""

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, obj: object, owner: type[Any]) -> Method[P, R]: ...
    def __get__(self, obj: object, owner: type[Any]) -> Any:
        raise NotImplementedError


class StreamHandler(Generic[P, T]):
    """What a type checker takes ``@handler`` on a method that yields for."""

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, obj: object, owner: type[Any]) -> StreamMethod[P, T]: ...
    def __get__(self, obj: object, owner: type[Any]) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Options:
    """What ``@handler(...)`` was given."""

    idempotent: bool = False
    reentrant: bool = False


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One handler: its function, how it answers and how it may run."""

    name: str
    function: Callable[..., Any]
    mode: Mode
    is_async: bool
    options: Options
    parameters: tuple[inspect.Parameter, ...]


class _Decorator(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the plain function is the last resort
        self, function: Callable[Concatenate[Any, P], AsyncIterator[T]], /
    ) -> StreamHandler[P, T]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Awaitable[R]], /
    ) -> UnaryHandler[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> UnaryHandler[P, R]: ...


@overload
def handler(  # type: ignore[overload-overlap]  # the plain function is the last resort
    function: Callable[Concatenate[Any, P], AsyncIterator[T]], /
) -> StreamHandler[P, T]: ...
@overload
def handler(function: Callable[Concatenate[Any, P], Awaitable[R]], /) -> UnaryHandler[P, R]: ...
@overload
def handler(function: Callable[Concatenate[Any, P], R], /) -> UnaryHandler[P, R]: ...
@overload
def handler(*, idempotent: bool = False, reentrant: bool = False) -> _Decorator: ...
def handler(
    function: Callable[..., Any] | None = None,
    /,
    *,
    idempotent: bool = False,
    reentrant: bool = False,
) -> Any:
    """Let others call this method of an actor: ``async def``, plain ``def``, or one that yields.

    ``idempotent``: a call whose outcome is unknown may be made again for the caller.
    ``reentrant``: may run while another handler of the actor runs.
    Arguments and results are checked against the annotations. Raises TypeError for ``*args``,
    ``**kwargs`` and plain generators, which have no form on the wire.
    """
    options = Options(idempotent=idempotent, reentrant=reentrant)
    if function is None:
        return lambda f: _mark(f, options)
    return _mark(function, options)


def _mark(function: Callable[..., Any], options: Options) -> Callable[..., Any]:
    if not inspect.isfunction(function):
        raise TypeError(f"@handler goes on a method, not on {function!r}")
    where = function.__qualname__
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{where} yields: make it 'async def' to be a stream handler")
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise TypeError(f"{where} takes no self: a handler is a method of its actor")
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{where} takes {parameter}: a handler names each of its parameters, "
                "since arguments are checked against them"
            )
    if function.__name__.startswith("_"):
        raise TypeError(f"{where}: a handler's name must not start with an underscore")
    setattr(function, _MARK, options)
    return function


def handler_spec(name: str, attribute: object) -> HandlerSpec | None:
    """The spec of a class attribute that ``@handler`` marked, else None.

    Raises TypeError for a handler inside a classmethod, staticmethod or property, which no ref
    could call.
    """
    if isinstance(attribute, classmethod | staticmethod | property):
        inside = attribute.fget if isinstance(attribute, property) else attribute.__func__
        if hasattr(inside, _MARK):
            raise TypeError(f"{name} is a {type(attribute).__name__}: @handler goes on a method")
    options = getattr(attribute, _MARK, None)
    if options is None or not inspect.isfunction(attribute):
        return None
    is_stream = inspect.isasyncgenfunction(attribute)
    return HandlerSpec(
        name=name,
        function=attribute,
        mode=Mode.STREAM if is_stream else Mode.ASK,
        is_async=is_stream or inspect.iscoroutinefunction(attribute),
        options=options,
        parameters=tuple(inspect.signature(attribute).parameters.values())[1:],
    )
