"""Kinds, handlers, refs and interceptors: what is checked when, and what is said of mistakes."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import pytest
import trio
from trio.testing import MockClock

import actors
from actors import Actor, CallInfo, ConfigError, HostConfig, Interceptor, SystemConfig, handler
from actors.handlers import handler_spec

if TYPE_CHECKING:
    from decimal import Decimal

# Classes ----------------------------------------------------------------------------------


def test_unknown_options_are_an_error_at_the_class() -> None:
    with pytest.raises(TypeError, match="unknown option 'idle_afters'"):

        class Bad(Actor, idle_afters=1):
            pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"persist": "always"}, r"persist='always': choose one of \['passivate', 'turn'"),
        ({"on_error": "panic"}, "on_error='panic'"),
        ({"isolation": "vm"}, "isolation='vm'"),
        ({"max_concurrency": 0}, "max_concurrency=0: at least 1"),
        ({"max_concurrency": "4"}, "max_concurrency='4': at least 1"),
        ({"mailbox_max": 0}, "mailbox_max=0: at least 1, or None"),
        ({"idle_after_s": -1}, "idle_after_s=-1: at least 0, or None"),
        ({"restarts_max": None}, "restarts_max=None: at least 0"),
        ({"memory_bytes_max": -1}, "memory_bytes_max=-1: at least 0"),
    ],
)
def test_a_wrong_option_is_an_error_at_the_class(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        type("Bad", (Actor,), {}, **options)


def test_options_are_inherited_and_the_name_is_not() -> None:
    class Base(Actor, kind="base", idle_after_s=5, persist="turn"):
        pass

    class Sub(Base, persist="passivate"):
        pass

    assert Base.__roost_kind__ == "base"
    assert Sub.__roost_kind__ == "Sub"
    assert Sub.__roost_options__.idle_after_s == 5
    assert Sub.__roost_options__.persist == "passivate"


def test_handlers_are_inherited_overridden_and_hidden() -> None:
    class Base(Actor):
        @handler
        async def one(self) -> int:
            return 1

        @handler
        async def two(self) -> int:
            return 2

    class Sub(Base, kind="HandlersSub"):
        @handler
        async def one(self) -> int:
            return 11

        async def two(self) -> int:  # type: ignore[override]
            return 22

    async def main() -> None:
        async with actors.open_system([Sub]) as system:
            assert await system.ref(Sub, "a").one() == 11
            with pytest.raises(actors.UnknownKind, match=r"it has \['one'\]"):
                await system.ask("HandlersSub/a", "two")

    trio.run(main)


def test_a_method_that_is_no_handler_says_so_on_a_ref() -> None:
    class Sub(Actor):
        async def inner(self) -> int:
            return 1

        @handler
        async def outer(self) -> int:
            return await self.inner()

    async def main() -> None:
        async with actors.open_system() as system:
            with pytest.raises(AttributeError, match=r"Sub\.inner is no handler.*\['outer'\]"):
                await system.ref(Sub, "a").inner()

    trio.run(main)


def test_a_ref_needs_an_actor_class() -> None:
    async def main() -> None:
        async with actors.open_system() as system:
            for wrong in ("Counter", int, Actor):
                with pytest.raises(TypeError, match="is no actor class: give a subclass of"):
                    system.ref(wrong, "a")  # type: ignore[type-var]

    trio.run(main)


class _Point(msgspec.Struct):
    x: int


T = TypeVar("T")


class _Box(Actor, Generic[T]):
    def __init__(self) -> None:
        self.items: list[T] = []

    @handler
    async def put(self, item: T, more: list[T] | None = None) -> T:
        self.items += [item, *(more or ())]
        return self.items[-1]

    @handler
    async def all(self) -> AsyncIterator[T]:
        for item in self.items:
            yield item


class _Lists(_Box[list[T]], Generic[T]):
    """Its T is another than that of _Box."""


class _PointBox(_Box[_Point]):
    pass


class _PointLists(_Lists[_Point]):
    pass


def test_handlers_of_a_generic_base_take_what_the_subclass_fills_it_with() -> None:
    one, two = _Point(1), _Point(2)

    async def main() -> None:
        async with actors.open_system() as system:
            box = system.ref(_PointBox, "a")
            assert await box.put(one, [two]) == two
            assert [item async for item in box.all()] == [one, two]
            with pytest.raises(actors.InvalidArgument, match="argument 'item'"):
                await box.put("text")  # type: ignore[arg-type]
            assert await system.ref(_PointLists, "a").put([one, two]) == [one, two]

    trio.run(main)


class _Unfit:
    def no_self() -> None: ...  # type: ignore[misc]

    def star(self, *args: int) -> None: ...

    def stars(self, **kwargs: int) -> None: ...

    def generates(self) -> Any:
        yield 1

    def _hidden(self) -> None: ...


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (_Unfit.no_self, "takes no self"),
        (_Unfit.star, "names each of its parameters"),
        (_Unfit.stars, "names each of its parameters"),
        (_Unfit.generates, "make it 'async def' to be a stream handler"),
        (_Unfit._hidden, "must not start with an underscore"),
        (3, "goes on a method"),
    ],
)
def test_what_has_no_form_on_the_wire_cannot_be_a_handler(thing: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        handler(thing)


@pytest.mark.parametrize("wrap", [classmethod, staticmethod, property])
def test_a_handler_inside_another_decorator_is_an_error_at_the_class(wrap: Any) -> None:
    async def count(self: Any) -> int:
        return 1

    with pytest.raises(TypeError, match=f"count is a {wrap.__name__}: @handler goes on a method"):
        type("Bad", (Actor,), {"count": wrap(handler(count))})


@pytest.mark.parametrize("name", ["id", "system", "run", "state", "save", "on_activate"])
def test_a_handler_may_not_take_a_name_of_the_actor_itself(name: str) -> None:
    async def anything(self: Any) -> int:
        return 1

    with pytest.raises(TypeError, match=f"Bad.{name}: Actor itself uses that name"):
        type("Bad", (Actor,), {name: handler(anything)})


def test_a_plain_method_is_no_handler() -> None:
    assert handler_spec("x", lambda self: None) is None


async def test_an_annotation_that_cannot_be_resolved_names_the_handler() -> None:
    class Unresolved(Actor):
        @handler
        async def price(self) -> Decimal:
            raise NotImplementedError

    async with actors.open_system() as system:
        with pytest.raises(TypeError, match=r"Unresolved\.price: annotation 'Decimal' is not"):
            system.ref(Unresolved, "a")


async def test_a_state_must_be_a_struct_with_defaults() -> None:
    class NoStruct(Actor):
        state: dict[str, int]

    class Needy(msgspec.Struct):
        n: int

    class NoDefault(Actor):
        state: Needy

    NoDefault.__annotations__["state"] = Needy
    async with actors.open_system() as system:
        with pytest.raises(TypeError, match=r"NoStruct\.state must be annotated with a msgspec"):
            system.ref(NoStruct, "a")
        with pytest.raises(TypeError, match="give every field of Needy a default"):
            system.ref(NoDefault, "a")


async def test_two_classes_of_one_name_are_an_error_that_names_both() -> None:
    def make() -> type[Actor]:
        class Twin(Actor):
            pass

        return Twin

    one, other = make(), make()
    with pytest.raises(ConfigError, match=r"kind 'Twin' is claimed by .*Twin and .*Twin"):
        async with actors.open_system([one, other]):
            pass
    async with actors.open_system([one]) as system:
        with pytest.raises(ConfigError, match="give one a kind= of its own"):
            system.ref(other, "a")


def test_an_illegal_name_of_a_kind_is_an_error() -> None:
    class Spaced(Actor, kind="two words"):
        pass

    async def main() -> None:
        async with actors.open_system([Spaced]):
            pass

    with pytest.raises(TypeError, match="Spaced: kind 'two words' is not a name"):
        trio.run(main)


# Settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("ask_timeout_s", 0), ("mailbox_max", 0), ("window", 0), ("idle_after_s", -1),
     ("payload_bytes_max", "x"), ("chain_max", 0)],
)  # fmt: skip
def test_a_wrong_setting_of_a_system_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        SystemConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("lease_ttl_s", 0), ("heartbeat_interval_s", 0), ("cluster", ""), ("cluster", "a b"),
     ("weight", 0), ("stall_limit_s", 99), ("port", -1), ("port", 70_000)],
)  # fmt: skip
def test_a_wrong_setting_of_a_host_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        HostConfig(redis_url="redis://127.0.0.1", **{name: value})


# Refs -------------------------------------------------------------------------------------


class Counter(Actor):
    def __init__(self) -> None:
        self.total = 0

    @handler
    async def add(self, n: int) -> int:
        self.total += n
        return self.total

    @handler
    async def count(self, n: int) -> Any:
        for i in range(n):
            yield i


class Other(Actor):
    pass


async def test_refs_to_one_actor_are_equal_and_hash_alike() -> None:
    async with actors.open_system() as system:
        a, again, b = (system.ref(Counter, key) for key in "aab")
        assert a == again
        assert a == actors.with_timeout(a, 3)
        assert len({a, again, b}) == 2
        assert a != b
        other: Any = system.ref(Other, "a")
        assert a != other
        name: object = "Counter/a"
        assert a != name
        assert repr(a) == "<ref Counter/a>"
        assert a.key == "a"
        assert a.id == actors.actor_id("Counter", "a")


async def test_a_ref_is_an_instance_of_its_class_as_the_type_checker_was_told() -> None:
    async with actors.open_system() as system:
        ref: object = system.ref(Counter, "a")
        assert isinstance(ref, Counter)
        assert isinstance(ref, Actor)
        assert not isinstance(ref, Other)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
async def test_a_copy_of_a_ref_is_the_ref(copied: Any) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Counter, "a")
        assert copied([ref]) == [ref]
        assert await copied([ref])[0].add(1) == 1


@pytest.mark.parametrize("key", ["", "x" * 513, "a\nb", "\x00", "\ud800", 3])
async def test_an_illegal_key_is_refused_when_the_ref_is_made(key: Any) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.InvalidArgument, match="Counter"):
            system.ref(Counter, key)


async def test_what_is_no_ref_is_named() -> None:
    async with actors.open_system() as system:
        for method in (system.stop, system.watch):
            with pytest.raises(actors.InvalidArgument, match="'Counter/a' is no ref"):
                await method("Counter/a")


# Interceptors -----------------------------------------------------------------------------


class Trace(Interceptor):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    async def call(self, info: CallInfo, proceed: Any) -> Any:
        info.headers["via"] = info.headers.get("via", "") + self.name
        self.log.append(f"{self.name} call {info.actor}.{info.method}{info.args}")
        try:
            return await proceed()
        finally:
            self.log.append(f"{self.name} answered")

    async def turn(self, info: CallInfo, proceed: Any) -> Any:
        self.log.append(f"{self.name} turn via {info.headers.get('via')}")
        return await proceed()


async def test_interceptors_see_calls_and_turns_in_their_order(autojump_clock: MockClock) -> None:
    log: list[str] = []
    async with actors.open_system(interceptors=[Trace("a", log), Trace("b", log)]) as system:
        assert await system.ref(Counter, "c").add(3) == 3
        assert log == [
            "a call Counter/c.add(3,)", "b call Counter/c.add(3,)",
            "a turn via ab", "b turn via ab", "b answered", "a answered",
        ]  # fmt: skip
        log.clear()
        await system.ref(Counter, "c").add.tell(1)
        assert [i async for i in system.ref(Counter, "c").count(2)] == [0, 1]
        assert log == ["a turn via None", "b turn via None"] * 2


class Change(Interceptor):
    async def call(self, info: CallInfo, proceed: Any) -> Any:
        info.args = (info.args[0] * 10,)
        return await proceed() + 1

    async def turn(self, info: CallInfo, proceed: Any) -> Any:
        if info.args == (70,):
            return -1  # answered without the handler
        if info.args == (80,):
            raise LookupError("refused")
        return await proceed() + 100


async def test_an_interceptor_may_change_answer_and_refuse(autojump_clock: MockClock) -> None:
    async with actors.open_system(interceptors=[Change()]) as system:
        ref = system.ref(Counter, "c")
        assert await ref.add(1) == 111
        assert await ref.add(7) == 0
        with pytest.raises(actors.ActorError, match="LookupError: refused"):
            await ref.add(8)
        assert await ref.add(0) == 111


# Imports ----------------------------------------------------------------------------------


def test_importing_actors_imports_neither_asyncio_nor_redis_nor_the_test_kit() -> None:
    code = (
        "import sys, actors; "
        "bad = {'asyncio', 'redis', 'grpclib', 'uvloop', 'trio_asyncio', 'actors.testing'}; "
        "sys.exit(', '.join(sorted(bad & sys.modules.keys())) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
