"""What a type checker must make of refs. ``# E: text`` marks a line that must be an error with
that text in it; test_typing.py checks that these errors, and no others, are found.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import assert_type

import msgspec

import actors
from actors import Actor, Method, Stream, StreamMethod, System, handler


class State(msgspec.Struct):
    total: int = 0


class Counter(Actor, idle_after_s=60, persist="turn"):
    state: State

    @handler
    async def add(self, n: int, *, twice: bool = False) -> int:
        return n

    @handler
    def plain(self, text: str) -> str:
        return text

    @handler(idempotent=True)
    async def read(self) -> int:
        return self.state.total

    @handler
    async def tokens(self, query: str) -> AsyncIterator[str]:
        yield query

    @handler(reentrant=True)
    async def numbers(self, n: int) -> AsyncGenerator[int, None]:
        yield n

    @handler
    async def copy_from(self, other: Counter) -> list[Counter]:
        assert_type(await other.add(1), int)
        return [other, self.ref]

    async def hidden(self) -> None: ...

    @handler
    async def inside(self) -> int:
        own = await self.add(1)
        assert_type(own, int)
        timer: actors.Timer = self.set_timer(self.hidden, 1.0)
        timer.cancel()
        assert_type(self.system.host_id, str)
        return own


class Other(Actor):
    @handler
    async def hi(self) -> None: ...


async def asks(system: System) -> None:
    ref = system.ref(Counter, "a")
    assert_type(ref, Counter)
    assert_type(await ref.add(1), int)
    assert_type(await ref.add(n=1, twice=True), int)
    assert_type(await ref.plain("x"), str)
    assert_type(await ref.read(), int)
    assert_type(await ref.copy_from(ref), list[Counter])
    assert_type(await system.spawn(Counter, "b"), Counter)
    assert_type(actors.with_timeout(ref, 1.0), Counter)
    assert_type(await ref.add.with_options(timeout_s=1.0)(2), int)
    method: Method[[str], str] = ref.plain
    assert_type(await method("x"), str)

    await ref.add("x")  # E: Argument 1
    await ref.add()  # E: Missing positional argument "n"
    await ref.add(1, 2)  # E: Too many positional arguments
    await ref.add(m=1)  # E: Unexpected keyword argument "m"
    await ref.plain(1)  # E: Argument 1
    await ref.read(1)  # E: Too many arguments
    await ref.copy_from(system.ref(Other, "o"))  # E: incompatible type "Other"
    await ref.add.with_options(timeout_s="x")(1)  # E: incompatible type "str"
    text: str = await ref.add(1)  # E: Incompatible types in assignment
    ref.nope(text)  # E: has no attribute "nope"


async def tells(system: System) -> None:
    ref = system.ref(Counter, "a")
    await ref.add.tell(1)
    await ref.add.tell(1, twice=True)
    ref.add.tell_nowait(1)
    await ref.plain.with_options(headers={"a": "b"}).tell("x")

    await ref.add.tell("x")  # E: Argument 1
    await ref.add.tell()  # E: Missing positional argument "n"
    ref.add.tell_nowait(n="x")  # E: incompatible type "str"
    print(await ref.add.tell(1))  # E: does not return a value
    await ref.tokens.tell("x")  # E: has no attribute "tell"


async def streams(system: System) -> None:
    ref = system.ref(Counter, "a")
    async for token in ref.tokens("q"):
        assert_type(token, str)
    async with ref.numbers(3) as stream:
        assert_type(await stream.__anext__(), int)
    assert_type([n async for n in ref.numbers(3)], list[int])
    held: Stream[str] = ref.tokens.with_options(timeout_s=1.0)("q")
    await held.aclose()
    method: StreamMethod[[str], str] = ref.tokens
    assert_type(method("q"), Stream[str])

    async for token in ref.tokens(1):  # E: Argument 1
        print(token)
    await ref.tokens("q")  # E: Incompatible types in "await"
    async for number in ref.add(1):  # E: has no attribute "__aiter__"
        print(number)


class Wrong(Actor):
    @handler(idempotent="yes")  # E: No overload variant
    async def a(self) -> None: ...
