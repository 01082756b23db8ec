"""The load of a simulation: programs on the hosts, and clients outside, that call actors.

All that they do and hear is written down; no error of a call is theirs to mind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import trio

import actors
from tests.simulation.events import Kept, Streamed
from tests.simulation.kinds import KINDS
from tests.simulation.world import Life, World
from wire.errors import DeadlineExceeded, NotDelivered, RoostError, Unavailable
from wire.ids import ActorId
from wire.items import Content, Mode

COUNTING = ("Counter", "Tally", "Vault", "Agent")
KEYS = ("a", "b", "c")
KEY_WEIGHTS = (8, 3, 1)  # some are seldom called, and passivate
PAUSE_S = 0.15
STEWARDS_KEYS = ("p", "q", "r")
STEWARD_PAUSE_S = 0.7
STEWARD_PATIENCE_S = 10.0

#: What a program does next, and how often.
MIX = {
    "add": 10, "slow": 5, "tell": 5, "nowait": 2, "stubborn": 1, "stream": 2, "relay": 3,
    "relay tell": 1, "stop": 0.3, "durable": 0.2,
}  # fmt: skip


def draw_target(rng: Random) -> str:
    (key,) = rng.choices(KEYS, KEY_WEIGHTS)
    return f"{rng.choice(COUNTING)}/{key}"


async def program(world: World, life: Life, number: int) -> None:
    """One program on one host: a call after another, until the world closes or the host leaves."""
    rng = Random(f"{world.seed} {life.incarnation} {number}")
    caller = Caller(world, life, rng)
    life.programs += 1
    try:
        while not world.is_closing and not life.is_leaving:
            await trio.sleep(rng.expovariate(1 / PAUSE_S) * world.pace)
            (what,) = rng.choices(list(MIX), list(MIX.values()))
            with noting_errors(world, f"a program on {life.name}"):
                await caller.do(what)
    finally:
        life.programs -= 1


async def client(world: World, number: int) -> None:
    """A client outside of the cluster: it asks any host, and another when that one refuses."""
    rng = Random(f"{world.seed} client {number}")
    world.clients += 1
    while not world.is_closing:
        await trio.sleep(rng.expovariate(1 / PAUSE_S) * world.pace)
        with noting_errors(world, "a client"):
            await ask_from_outside(world, rng, f"client-{number}")
    world.clients -= 1


@contextmanager
def noting_errors(world: World, who: str) -> Iterator[None]:
    """Errors of calls are in the log already; any other is a breach."""
    try:
        yield
    except RoostError:
        pass
    except Exception as exc:
        world.broken(f"{who} got {type(exc).__name__}: {exc}")


class Caller:
    """Makes the calls of one program."""

    def __init__(self, world: World, life: Life, rng: Random) -> None:
        assert life.host is not None
        self._world = world
        self._rng = rng
        self._system = life.host.system

    async def do(self, what: str) -> None:
        rng = self._rng
        target = draw_target(rng)
        kind, _, key = target.partition("/")
        timeout_s = rng.choice((0.3, 2.0, 6.0, 6.0))
        ref = actors.with_timeout(self._system.ref(KINDS[kind], key), timeout_s)
        match what:
            case "add":
                await self._called(target, "add", "ask", lambda op: ref.add(op, 0.0, 0.0))
            case "slow":
                pauses = rng.choice((0.0, 0.1, 0.6)), rng.choice((0.0, 0.1, 0.6))
                await self._called(target, "add", "ask", lambda op: ref.add(op, *pauses))
            case "tell" | "nowait":
                patient = timeout_s > 2.0  # a tell without a deadline goes the shortest way
                told = self._system.ref(KINDS[kind], key) if patient else ref
                with trio.move_on_after(timeout_s):
                    await self._tells(target, told, what)
            case "stubborn" if kind != "Vault":
                seconds = rng.choice((0.1, 0.5, 2.0))
                await self._called(target, "stubborn", "ask", lambda op: ref.stubborn(op, seconds))
            case "stream" if kind != "Vault":
                await self._stream(target, ref)
            case "relay" | "relay tell":
                await self._relay(what, kind, key, timeout_s)
            case "stop" if kind != "Agent":  # agents may be durable, and stay so
                await self._system.stop(ref)
            case "durable":
                await self._spawn_durable()

    async def _called(self, target: str, method: str, mode: str, call: Any) -> Any:
        sender = self._system.me.incarnation
        return await self._world.called(sender, target, method, mode, call)

    async def _tells(self, target: str, ref: Any, what: str) -> None:
        for _ in range(self._rng.randint(1, 6)):
            if what == "tell":
                await self._called(target, "add", "tell", lambda op: ref.add.tell(op, 0.0, 0.0))
            else:
                await self._called(target, "add", "nowait", lambda op: _nowait(ref, op))

    async def _relay(self, what: str, kind: str, key: str, timeout_s: float) -> None:
        name = self._rng.choice(("x", "y"))
        relay = actors.with_timeout(self._system.ref(KINDS["Relay"], name), timeout_s)
        if what == "relay":
            await relay.ask(kind, key)
        else:
            await relay.tell(kind, key)

    async def _stream(self, target: str, ref: Any) -> None:
        count, pause_s = self._rng.randint(1, 8), self._rng.choice((0.0, 0.05, 0.2))
        slow_s = self._rng.choice((0.0, 0.1))

        async def consume(op: int) -> int:
            last = -1
            async with ref.numbers(op, count, pause_s) as stream:
                async for last in stream:
                    self._world.log(Streamed(trio.current_time(), op, last))
                    await trio.sleep(slow_s)
            return last + 1

        got = await self._called(target, "numbers", "stream", consume)
        if got != count:
            self._world.broken(f"a stream of {count} items ended well after {got}")

    async def _spawn_durable(self) -> None:
        key, run_id = self._rng.choice(KEYS), self._world.server.run_id
        await self._system.spawn(KINDS["Agent"], key, durable=True)
        self._world.spawned_durable(f"Agent/{key}", run_id)


async def steward(world: World) -> None:
    """Spawns durable actors that nobody else calls, and stops them, each time from another host."""
    rng = Random(f"{world.seed} steward")
    world.clients += 1
    while not world.is_closing:
        await trio.sleep(rng.expovariate(1 / STEWARD_PAUSE_S))
        lives = [life for life in world.up() if life.host is not None]
        if lives:
            with noting_errors(world, "the steward"):
                await _spawn_or_stop(world, rng.choice(lives), rng.choice(STEWARDS_KEYS))
    world.clients -= 1


async def _spawn_or_stop(world: World, life: Life, key: str) -> None:
    assert life.host is not None
    system, name, run_id = life.host.system, f"Agent/{key}", world.server.run_id
    is_wanted = name not in world.durables
    world.durables.pop(name, None)  # while nobody knows
    with trio.move_on_after(STEWARD_PATIENCE_S, shield=True) as scope:
        if is_wanted:
            await system.spawn(KINDS["Agent"], key, durable=True)
        else:
            await system.stop(system.ref(KINDS["Agent"], key))
    if scope.cancelled_caught:
        return
    if world.server.run_id == run_id:
        world.log(Kept(trio.current_time(), name, is_wanted, name in world.server.store.specs))
    if is_wanted:
        world.spawned_durable(name, run_id)


async def ask_from_outside(world: World, rng: Random, client: str) -> None:
    """One ask, sent again to another host as long as it certainly did not run."""
    target = draw_target(rng)
    timeout_s = rng.choice((0.3, 2.0, 6.0))

    async def ask(op: int) -> int:
        until = trio.current_time() + timeout_s
        while True:
            left_s = until - trio.current_time()
            try:
                return await _ask_once(world, rng, client, target, op, left_s)
            except (Unavailable, NotDelivered) as exc:
                if trio.current_time() > until:
                    raise NotDelivered(f"{exc}, and not delivered before the deadline") from exc
            await trio.sleep(rng.uniform(0.01, 0.2))

    await world.called(client, target, "add", "ask", ask)


async def _ask_once(
    world: World, rng: Random, client: str, target: str, op: int, left_s: float
) -> int:
    lives = [life for life in world.lives.values() if life.is_up and life.host is not None]
    if not lives:
        raise Unavailable("no host is up")
    life = rng.choice(lives)
    assert life.host is not None
    call = OutsideCall(f"{client}@{life.incarnation}", target, op, max(left_s, 0.01))
    life.host.serve(call)
    with trio.move_on_after(left_s + 0.5) as scope:
        await call.done.wait()
    if scope.cancelled_caught:
        life.host.hang_up(call)
        raise DeadlineExceeded("the host does not answer")
    return call.result()


class OutsideCall:
    """One ask through the gateway (wire.ports.ClientCall)."""

    def __init__(self, session: str, target: str, op: int, timeout_s: float) -> None:
        kind, _, key = target.partition("/")
        self.session = session
        self.target = ActorId(kind, key)
        self.method = "add"
        self.mode = Mode.ASK
        self.content = int(Content.JSON)
        self.payload = f"[{op}, 0.0, 0.0]".encode()
        self.timeout_s: float | None = timeout_s
        self.headers: dict[str, str] | None = None
        self.done = trio.Event()
        self._value = -1
        self._error: RoostError | None = None

    def result(self) -> int:
        if self._error is not None:
            raise self._error
        return self._value

    def chunk(self, content: int, payload: bytes) -> None:
        raise AssertionError("an ask has no items")

    def finished(self, content: int, payload: bytes) -> None:
        self._value = int(payload)
        self.done.set()

    def failed(self, error: RoostError) -> None:
        self._error = error
        self.done.set()


async def _nowait(ref: Any, op: int) -> None:
    ref.add.tell_nowait(op, 0.0, 0.0)
