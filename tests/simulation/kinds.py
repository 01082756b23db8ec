"""The actors of a simulation. Each tells a witness what it does, and when.

Every call carries the number of its operation, and an actor's state is the list of the operations
that it has seen: so a lost one, a doubled one, and the order of all are there to be read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import msgspec
import trio

from actors import Actor, handler
from tests.simulation.events import Ops


class Witness(Protocol):
    """What actors need of the world around them."""

    def ran(self, actor: Actor, op: int, stage: str) -> None:
        """A turn or hook is at that stage ("in", "did", "out")."""

    def linger_s(self, actor: Actor) -> float:
        """How long its clean-up ignores cancellation."""

    async def linger(self, actor: Actor, seconds: float) -> None:
        """Sleep whatever cancels it, unless its host dies."""

    def restore_fails(self, actor: Actor) -> bool:
        """Whether this snapshot shall be one that cannot be restored."""

    async def relayed(
        self, actor: Actor, target: str, mode: str, call: Callable[[int], Awaitable[Any]]
    ) -> Any:
        """Make ``call`` with a new operation of its own, noted as sent by ``actor``."""


class SimulatedFault(Exception):
    """What actors raise because they were asked to."""


_witnesses: list[Witness] = []


def install(witness: Witness | None) -> None:
    """Let all actors tell ``witness``; None: nobody."""
    _witnesses[:] = [witness] if witness is not None else []


def witness() -> Witness:
    return _witnesses[-1]


class Ledger(msgspec.Struct):
    ops: list[int] = msgspec.field(default_factory=list)


class Keeper(Actor):
    """What counting actors share."""

    state: Ledger

    @property
    def ops(self) -> Ops:
        return tuple(self.state.ops)

    @handler
    async def add(self, op: int, before_s: float, after_s: float) -> int:
        """Count ``op``; pause before and after."""
        witness().ran(self, op, "in")
        try:
            await _pause(before_s)
            self.state.ops.append(op)
            total = len(self.state.ops)
            witness().ran(self, op, "did")
            await _pause(after_s)
            return total
        finally:
            witness().ran(self, op, "out")

    @handler
    async def stubborn(self, op: int, seconds: float) -> int:
        """Count ``op`` and clean up for a while that nothing shortens."""
        witness().ran(self, op, "in")
        try:
            self.state.ops.append(op)
            total = len(self.state.ops)
            witness().ran(self, op, "did")
            await trio.sleep(seconds)
            return total
        finally:
            await witness().linger(self, seconds)
            witness().ran(self, op, "out")

    @handler
    async def numbers(self, op: int, count: int, pause_s: float) -> AsyncIterator[int]:
        """A stream that counts."""
        witness().ran(self, op, "in")
        try:
            for number in range(count):
                await _pause(pause_s)
                yield number
        finally:
            witness().ran(self, op, "out")

    @handler(idempotent=True)
    def read(self) -> list[int]:
        return list(self.state.ops)


class Counter(Keeper, persist="turn"):
    """Saves before each reply: what it acknowledged outlives its host."""

    state: Ledger


class Tally(Keeper):
    """Saves when it leaves: what it acknowledged outlives planned moves."""

    state: Ledger


class Vault(Actor):
    """Keeps its state in its own form, which cannot always be restored."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    @property
    def ops(self) -> Ops:
        return tuple(self.seen)

    def snapshot(self) -> bytes:
        return msgspec.json.encode(self.seen)

    def restore(self, snapshot: bytes) -> None:
        if witness().restore_fails(self):
            raise SimulatedFault("this snapshot cannot be restored here")
        self.seen = msgspec.json.decode(snapshot, type=list[int])

    async def on_activate(self) -> None:
        witness().ran(self, 0, "in")
        try:
            await trio.sleep(0.01)
        finally:
            witness().ran(self, 0, "out")

    async def on_deactivate(self, reason: object) -> None:
        witness().ran(self, 0, "in")
        try:
            await witness().linger(self, witness().linger_s(self))
        finally:
            witness().ran(self, 0, "out")

    @handler
    async def add(self, op: int, before_s: float, after_s: float) -> int:
        witness().ran(self, op, "in")
        try:
            await _pause(before_s)
            self.seen.append(op)
            total = len(self.seen)
            witness().ran(self, op, "did")
            await _pause(after_s)
            return total
        finally:
            witness().ran(self, op, "out")

    @handler(idempotent=True)
    def read(self) -> list[int]:
        return list(self.seen)


class Agent(Keeper, persist="turn"):
    """Has a loop of its own, a background task and a timer, all of which move with it."""

    state: Ledger

    async def on_activate(self) -> None:
        self.nursery.start_soon(self._background)
        self.set_timer(self.tick, 0.7, every_s=0.7)

    async def run(self) -> None:
        await self._work(0.3)

    async def _background(self) -> None:
        await self._work(0.5)

    async def _work(self, every_s: float) -> None:
        while True:
            witness().ran(self, 0, "in")
            try:
                await trio.sleep(every_s)
            finally:
                await witness().linger(self, witness().linger_s(self))
                witness().ran(self, 0, "out")

    async def tick(self) -> None:
        witness().ran(self, 0, "in")
        witness().ran(self, 0, "out")


class Relay(Actor):
    """Calls another actor for its caller: a chain of calls, and activations that send."""

    ops: Ops = ()

    @handler
    async def ask(self, kind: str, key: str) -> int:
        ref = self.system.ref(KINDS[kind], key)
        return int(
            await witness().relayed(self, f"{kind}/{key}", "ask", lambda op: ref.add(op, 0.0, 0.0))
        )

    @handler
    async def tell(self, kind: str, key: str) -> None:
        ref = self.system.ref(KINDS[kind], key)
        await witness().relayed(
            self, f"{kind}/{key}", "tell", lambda op: ref.add.tell(op, 0.0, 0.0)
        )


KINDS: dict[str, Any] = {cls.__roost_kind__: cls for cls in (Counter, Tally, Vault, Agent, Relay)}


def ops_in(data: bytes) -> Ops:
    """The operations in a saved state."""
    tag, body = data[:1], data[1:]
    if tag == b"\x02":
        return tuple(msgspec.json.decode(body, type=list[int]))
    return tuple(msgspec.msgpack.decode(body).get("ops", ()))


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await trio.sleep(seconds)
