"""Arguments, results and states as bytes: round trips, and mistakes that are named."""

from __future__ import annotations

import datetime
import enum
import inspect
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import actors
from actors import Actor, handler
from actors.codec import Hooks, encode
from actors.kinds import compile_kind
from placement.memory import MemoryStore
from wire.errors import InvalidArgument
from wire.items import Content

CONTENTS = (Content.MSGPACK, Content.JSON)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: float


class Item(msgspec.Struct):
    name: str
    points: list[Point] = []
    tags: dict[str, int] = {}


class Kit(Actor):
    """One handler for each way to take arguments."""

    @handler
    async def plain(self, a: int, b: str) -> None: ...

    @handler
    async def with_default(self, a: int, b: str = "x", c: float = 1.5) -> None: ...

    @handler
    async def keyword_only(self, a: int, *, b: str = "x", c: int) -> None: ...

    @handler
    async def positional_only(self, a: int = 1, b: int = 2, /, c: int = 3) -> None: ...

    @handler
    async def nothing(self) -> None: ...

    @handler
    async def rich(
        self, item: Item, colour: Colour, at: datetime.datetime, id: uuid.UUID,
        data: bytes, pair: tuple[int, str], many: set[int], maybe: int | None,
        literal: Literal["a", "b"],
    ) -> None: ...  # fmt: skip

    @handler
    async def untyped(self, a, b=2): ...  # type: ignore[no-untyped-def]

    @handler
    async def bounded(self, n: Annotated[int, msgspec.Meta(ge=0, le=10)]) -> None: ...

    @handler
    async def pair(self, pair: tuple[int, str]) -> None: ...

    @handler
    async def nested(self, items: list[Item]) -> None: ...

    @handler
    async def strange(self, a: Iterable[int]) -> None: ...

    @handler
    async def other(self, to: Kit, maybe: Kit | None = None) -> None: ...


class FakeRef:
    """What a system would make of a ref that arrived."""

    def __init__(self, cls: type | None, name: str) -> None:
        self.asked_for, self.__roost_ref__ = cls, name

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return Kit


KIND = compile_kind(Kit, Hooks(FakeRef))


def sent(name: str, *args: Any, **kwargs: Any) -> bytes:
    return KIND.handlers[name].signature.encode(args, kwargs)


def received(name: str, payload: bytes, content: int = Content.MSGPACK) -> dict[str, Any]:
    """What the handler is called with, by parameter; what it is not is left to its defaults."""
    spec = KIND.handlers[name]
    args, kwargs = spec.signature.decode(content, payload)
    bound = inspect.signature(spec.function).bind(None, *args, **kwargs)
    del bound.arguments["self"]
    return dict(bound.arguments)


# Round trips ------------------------------------------------------------------------------

INTS = st.integers(-(2**63), 2**63 - 1)
ITEMS = st.builds(
    Item,
    name=st.text(),
    points=st.lists(
        st.builds(Point, INTS, st.floats(allow_nan=False, allow_infinity=False)), max_size=3
    ),
    tags=st.dictionaries(st.text(), INTS, max_size=3),
)
RICH = st.fixed_dictionaries(
    {
        "item": ITEMS,
        "colour": st.sampled_from(Colour),
        "at": st.datetimes(timezones=st.just(datetime.UTC)),
        "id": st.uuids(),
        "data": st.binary(max_size=40),
        "pair": st.tuples(INTS, st.text()),
        "many": st.sets(INTS, max_size=4),
        "maybe": st.none() | INTS,
        "literal": st.sampled_from(["a", "b"]),
    }
)


def in_order(values: dict[str, Any]) -> list[Any]:
    names = [p for p in inspect.signature(Kit.rich).parameters if p != "self"]  # type: ignore[arg-type]
    return [values[name] for name in names]


@settings(deadline=None)
@given(RICH)
def test_typed_arguments_come_back_as_they_were(values: dict[str, Any]) -> None:
    assert received("rich", sent("rich", *in_order(values))) == values
    assert received("rich", sent("rich", **values)) == values


@settings(deadline=None)
@given(RICH)
def test_foreign_clients_may_send_them_as_json(values: dict[str, Any]) -> None:
    assert received("rich", msgspec.json.encode(values), Content.JSON) == values
    assert received("rich", msgspec.json.encode(in_order(values)), Content.JSON) == values


@settings(deadline=None)
@given(a=INTS, b=st.text(), c=st.floats(allow_nan=False), given=st.integers(1, 3))
def test_what_is_left_out_is_left_to_the_default(a: int, b: str, c: float, given: int) -> None:
    expected = dict(list({"a": a, "b": b, "c": c}.items())[:given])
    assert received("with_default", sent("with_default", *expected.values())) == expected
    assert received("with_default", sent("with_default", **expected)) == expected
    mixed = dict(list(expected.items())[1:])
    assert received("with_default", sent("with_default", a, **mixed)) == expected


def test_json_arguments_that_are_neither_array_nor_object_say_what_they_must_be() -> None:
    with pytest.raises(InvalidArgument, match=r"by position.*by name.*not as `int`"):
        received("plain", b"3", Content.JSON)


def test_positional_only_parameters_keep_their_defaults_and_may_be_named_by_the_caller() -> None:
    assert received("positional_only", sent("positional_only")) == {"a": 1, "b": 2}
    assert received("positional_only", sent("positional_only", 5)) == {"a": 5, "b": 2}
    assert received("positional_only", sent("positional_only", b=5, c=6)) == {
        "a": 1, "b": 5, "c": 6,
    }  # fmt: skip


def test_keyword_only_parameters_may_come_by_name_alone() -> None:
    assert received("keyword_only", sent("keyword_only", 1, c=3)) == {"a": 1, "c": 3}
    assert received("keyword_only", sent("keyword_only", c=3, b="y", a=1)) == {
        "a": 1, "b": "y", "c": 3,
    }  # fmt: skip


@pytest.mark.parametrize("payload", [b"", b"\x90", b"\x80"])
def test_no_arguments_may_be_said_in_three_ways(payload: bytes) -> None:
    assert received("nothing", payload) == {}


@pytest.mark.parametrize("payload", [b"", b"[]", b" {}", b"{}"])
def test_so_they_may_in_json(payload: bytes) -> None:
    assert received("nothing", payload, Content.JSON) == {}


def test_untyped_parameters_take_anything() -> None:
    assert received("untyped", sent("untyped", {"x": [1, None]})) == {"a": {"x": [1, None]}}


# Mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "says"),
    [
        ("plain", ("x", "y"), {}, "Kit.plain: argument 'a': Expected `int`, got `str`"),
        ("plain", (1, 2), {}, "Kit.plain: argument 'b': Expected `str`, got `int`"),
        ("plain", (1,), {"b": 2}, "Kit.plain: argument 'b': Expected `str`, got `int`"),
        ("plain", (), {}, "Kit.plain: missing argument 'a'"),
        ("plain", (1,), {}, "Kit.plain: missing argument 'b'"),
        ("plain", (), {"b": "x"}, "Kit.plain: missing argument 'a'"),
        ("plain", (1, "x"), {"z": 1}, "Kit.plain: unexpected argument 'z'"),
        ("plain", (1, "x", 2), {}, "Kit.plain takes 2 arguments, got 3"),
        ("plain", (1, "x"), {"a": 2}, "Kit.plain: argument 'a' given twice"),
        ("with_default", (1, None), {}, "Kit.with_default: argument 'b': Expected `str`"),
        ("keyword_only", (1,), {}, "Kit.keyword_only: missing argument 'c'"),
        ("keyword_only", (1,), {"c": "x"}, "Kit.keyword_only: argument 'c': Expected `int`"),
        ("keyword_only", (1, "y", 3), {}, "Kit.keyword_only takes 1 arguments by position, got 3"),
        ("strange", (1,), {}, "argument 'a': Iterable is no type that can travel"),
        ("nothing", (1,), {}, "Kit.nothing takes 0 arguments, got 1"),
        ("nothing", (), {"x": 1}, "Kit.nothing: unexpected argument 'x'"),
        ("bounded", (11,), {}, "Kit.bounded: argument 'n': Expected `int` <= 10"),
        ("nested", ([{"name": 1}],), {}, "argument 'items' at [0].name: Expected `str`"),
        ("nested", ([{}],), {}, "argument 'items' at [0]: Object missing required field `name`"),
        ("nested", ([{"name": "x", "tags": {1: 1}}],), {}, "argument 'items' at [0].tags"),
        ("pair", ((1, 2, 3),), {}, "argument 'pair': Expected `array` of length 2, got 3"),
        ("other", ("Kit/a",), {}, "Kit.other: argument 'to': expected a ref of Kit, got str"),
        ("plain", (object(), "x"), {}, "Kit.plain: objects of type object cannot travel"),
        ("plain", (2**70, "x"), {}, "Kit.plain: "),
    ],
)
def test_a_mistake_names_the_handler_and_the_parameter(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        received(name, sent(name, *args, **kwargs))
    assert says in str(caught.value)
    assert not caught.value.may_have_run


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"a": "x", "b": "y"}', "argument 'a': Expected `int`, got `str`"),
        (b'{"a": 1}', "missing argument 'b'"),
        (b'{"a": 1, "b": "y", "q": 2}', "unexpected argument 'q'"),
        (b"[1]", "missing argument 'b'"),
        (b'[1, "y", 2]', "takes 2 arguments, got more"),
        (b"{", "Kit.plain: "),
        (b"3", "Kit.plain: "),
        (b"\xff\xfe", "Kit.plain: "),
    ],
)
def test_so_it_does_in_json(payload: bytes, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        received("plain", payload, Content.JSON)
    assert says in str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(CONTENTS), st.sampled_from(KIND.handler_names()))
def test_garbage_is_an_invalid_argument_and_nothing_else(
    payload: bytes, content: int, name: str
) -> None:
    said = f"Kit.{name}"
    try:
        received(name, payload, content)
    except InvalidArgument as exc:
        said = str(exc)
    assert said.startswith(f"Kit.{name}")


def test_depth_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidArgument):
        sent("untyped", endless)
    with pytest.raises(InvalidArgument):
        received("untyped", b"\x91" * 100_000 + b"\x90")


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | INTS | st.text() | st.binary(max_size=9),
                    lambda inner: st.lists(inner, max_size=3), max_leaves=8))  # fmt: skip
def test_encode_writes_what_msgspec_reads(value: Any) -> None:
    assert msgspec.msgpack.decode(encode(Content.MSGPACK, value)) == value


# Refs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", CONTENTS)
def test_a_ref_travels_as_its_name(content: int) -> None:
    ref = FakeRef(Kit, "Kit/a")
    payload = encode(content, [ref, None])
    values = received("other", payload, content)
    assert values["to"].__roost_ref__ == "Kit/a"
    assert values["maybe"] is None
    values = received("other", encode(content, {"to": ref, "maybe": ref}), content)
    assert values["maybe"].__roost_ref__ == "Kit/a"


class Friends(msgspec.Struct):
    best: Person | None = None
    all: list[Person] = []
    by_name: dict[str, Person] = {}
    anyone: Any = None


class Person(Actor):
    state: Friends

    @handler
    async def name(self) -> str:
        return self.key


class Sociable(Person, kind="Sociable"):
    @handler
    async def meet(self, best: Person, others: list[Person], by_name: dict[str, Person]) -> None:
        self.state.best = best
        self.state.all = others
        self.state.by_name = by_name
        self.state.anyone = {"deep": [best]}

    @handler
    async def best(self) -> Person | None:
        return self.state.best

    @handler
    async def everyone(self) -> list[Person]:
        return self.state.all

    @handler
    async def friends(self) -> Friends:
        return self.state

    @handler
    async def names(self) -> list[str]:
        assert self.state.best is not None
        deep: Person = self.state.anyone["deep"][0]
        refs = [self.state.best, *self.state.all, *self.state.by_name.values(), deep]
        return [await ref.name() for ref in refs]

    @handler
    async def anyone(self, who: Actor) -> str:
        return str(actors.ref.id_of(who))

    @handler
    async def myself(self) -> Sociable:
        return self.ref


async def test_refs_travel_in_arguments_results_and_state_and_nested_in_them(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        a, b, c = (system.ref(Person, key) for key in "abc")
        ref = system.ref(Sociable, "s")
        await ref.meet(a, [b, c], {"c": c})
        assert await ref.names() == ["a", "b", "c", "c", "a"]
    async with actors.open_system(store=store) as system:
        a, b, c = (system.ref(Person, key) for key in "abc")
        ref = system.ref(Sociable, "s")
        assert await ref.names() == ["a", "b", "c", "c", "a"], "they come back with the state"
        assert await ref.best() == a
        assert await ref.everyone() == [b, c]
        friends = await ref.friends()
        assert (friends.best, friends.all, friends.by_name) == (a, [b, c], {"c": c})
        assert await (await ref.everyone())[1].name() == "c"
        assert await ref.myself() == ref


async def test_a_ref_of_a_subclass_passes_where_its_base_is_asked_for(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        one, other = system.ref(Sociable, "one"), system.ref(Sociable, "other")
        await one.meet(other, [other], {})
        assert await one.best() == other
        assert isinstance(await one.best(), Sociable)
        assert await one.anyone(other) == "Sociable/other"
        assert await one.anyone(system.ref(Person, "p")) == "Person/p"


async def test_a_ref_of_another_kind_is_refused_by_name(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Sociable, "s")
        stranger: Any = system.ref(Kit, "k")
        with pytest.raises(actors.InvalidArgument, match="'best': expected a ref of Person"):
            await ref.meet(stranger, [], {})
        with pytest.raises(actors.InvalidArgument, match=r"'others' at .*expected a ref of Person"):
            await ref.meet(system.ref(Person, "p"), [stranger], {})


async def test_payloads_over_the_limit_are_refused_before_they_leave(
    autojump_clock: MockClock,
) -> None:
    config = actors.SystemConfig(payload_bytes_max=1_000)
    async with actors.open_system(config=config) as system:
        ref = system.ref(Kit, "k")
        await ref.untyped("x" * 900)
        for attempt in (ref.untyped, ref.untyped.tell):
            with pytest.raises(actors.InvalidArgument, match=r"1\d\d\d bytes exceeds"):
                await attempt("x" * 1_000)
        await trio.sleep(0)
