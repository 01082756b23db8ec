"""The actors of the tests on clusters. Times are CLOCK_MONOTONIC, which all processes of a machine
share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import trio

import actors
from actors import Actor, handler


class Total(msgspec.Struct):
    total: int = 0


class Tally(Actor, persist="turn"):
    """A sum that is saved before each answer."""

    state: Total

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total


class Brief(Actor):
    """A sum that is saved when it is told to rest."""

    state: Total

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total

    @handler
    async def rest(self) -> None:
        self.passivate()


class Sleeper(Actor):
    """A handler that takes long, and the time at which it ended."""

    def __init__(self) -> None:
        self._begun = 0
        self._ended_at = 0.0

    @handler
    async def sleep(self, seconds: float) -> None:
        self._begun += 1
        try:
            await trio.sleep(seconds)
        finally:
            self._ended_at = time.monotonic()

    @handler(reentrant=True)
    def begun(self) -> int:
        return self._begun

    @handler
    def ended_at(self) -> float:
        """Answered once no sleep runs."""
        return self._ended_at

    @handler
    async def ask(self, other: Sleeper, seconds: float, timeout_s: float) -> None:
        """Make another sleep, with a deadline of the call's own."""
        await actors.with_timeout(other, timeout_s).sleep(seconds)


class Source(Actor):
    @handler
    async def items(self, count: int, size: int) -> AsyncIterator[tuple[int, bytes]]:
        """As fast as they are taken."""
        filler = bytes(size)
        for number in range(count):
            yield number, filler


class Sink(Actor):
    """Takes a stream of another actor's, with a pause after each 256 items."""

    def __init__(self) -> None:
        self._taken = 0

    @handler
    async def take(self, source: Source, count: int, size: int, pause_s: float) -> int:
        self._taken = 0
        async for number, _ in source.items(count, size):
            assert number == self._taken
            self._taken += 1
            if self._taken % 256 == 0:
                await trio.sleep(pause_s)
        return self._taken

    @handler(reentrant=True)
    def taken(self) -> int:
        return self._taken


STUCK_MAILBOX_MAX = 100


class Stuck(Actor, mailbox_max=STUCK_MAILBOX_MAX):
    """Holds its mailbox up until it is released."""

    def __init__(self) -> None:
        self._holds = False
        self._released = trio.Event()
        self._notes: list[int] = []

    @handler
    async def hold(self) -> None:
        self._holds = True
        await self._released.wait()

    @handler(reentrant=True)
    def holds(self) -> bool:
        return self._holds

    @handler(reentrant=True)
    def release(self) -> None:
        self._released.set()

    @handler
    def note(self, n: int) -> None:
        self._notes.append(n)

    @handler
    def notes(self) -> list[int]:
        return self._notes


class Storm(Actor):
    """Tells as fast as it is let."""

    def __init__(self) -> None:
        self._told = 0

    @handler
    async def blow(self, at: Stuck, tells: int) -> None:
        for number in range(tells):
            await at.note.tell(number)
            self._told = number + 1

    @handler(reentrant=True)
    def told(self) -> int:
        return self._told


class Recorder(Actor):
    """Notes who said what, in the order in which it came."""

    def __init__(self) -> None:
        self._heard: dict[str, list[int]] = {}

    @handler
    def record(self, sender: str, number: int, padding: bytes) -> int:
        self._heard.setdefault(sender, []).append(number)
        return number

    @handler
    def heard(self) -> dict[str, list[int]]:
        return self._heard


class Reporter(Actor):
    """Sends numbers to recorders in turn: mostly tells, now and then an ask."""

    @handler
    async def report(self, to: list[Recorder], numbers: int, padding: int) -> None:
        for number in range(numbers):
            for recorder in to:
                if number % 7 == 0:
                    assert await recorder.record(self.key, number, bytes(padding)) == number
                else:
                    await recorder.record.tell(self.key, number, bytes(padding))


class Partner(Actor, max_concurrency=64):
    """Answers at once, or only after it has asked another in its turn."""

    @handler
    def echo(self, data: bytes) -> bytes:
        return data

    @handler
    async def relay(self, data: bytes, by: Partner) -> bytes:
        return await by.echo(data)


class Caller(Actor):
    """Asks partners elsewhere at full load: directly, and through them its own neighbours."""

    @handler
    async def load(self, there: list[Partner], here: list[Partner], asks: int, size: int) -> int:
        answers = 0

        async def one(at: Partner, back: Partner) -> None:
            nonlocal answers
            for number in range(asks):
                data = bytes(size)
                answer = await (at.relay(data, back) if number % 2 else at.echo(data))
                answers += answer == data

        async with trio.open_nursery() as nursery:
            for at, back in zip(there, here, strict=True):
                nursery.start_soon(one, at, back)
        return answers


class Probe(Actor):
    """Looks at the host it lives on."""

    @handler
    def activations(self, kind: str) -> int:
        return sum(id.kind == kind for id in self.system.activations)

    @handler
    def activations_total(self) -> int:
        return self.system.activations_total
