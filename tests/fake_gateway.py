"""A host's gateway without a host (counters, echoes, streams), and a real server over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import trio

from wire import loops
from wire.errors import ActorError, InvalidArgument, MailboxFull, RoostError, UnknownKind
from wire.ids import ActorId
from wire.items import Content, Mode
from wire.ports import ClientCall, Described, HostInfo
from wire.server import Server, ServerConfig


def decode(content: int, payload: bytes) -> Any:
    return (msgspec.json if content == Content.JSON else msgspec.msgpack).decode(payload)


def encode(content: int, value: object) -> bytes:
    return msgspec.json.encode(value) if content == Content.JSON else msgspec.msgpack.encode(value)


class FakeGateway:
    """See wire.ports.Gateway. ``calls`` and ``cancelled`` tell what arrived."""

    def __init__(self) -> None:
        self.alive = self.ready = True
        self.calls: list[ClientCall] = []
        self.cancelled: list[ClientCall] = []
        self.granted: dict[int, int] = {}
        self.produced = 0
        self.ahead_max = 0
        self.counters: dict[ActorId, int] = {}
        self.refusals = 0
        self.stop_waits = trio.Event()

    # -- calls --------------------------------------------------------------------------

    def submit(self, call: ClientCall) -> None:
        self.calls.append(call)
        try:
            getattr(self, f"on_{call.method}", self._unknown)(call)
        except RoostError as exc:
            call.failed(exc)

    def cancel(self, call: ClientCall) -> None:
        self.cancelled.append(call)

    def grant(self, call: ClientCall, items: int) -> None:
        self.granted[id(call)] = self.granted.get(id(call), 0) + items
        if call.method == "count_up":
            self._produce(call)

    def _unknown(self, call: ClientCall) -> None:
        raise UnknownKind(f"kind {call.target.kind!r} has no handler {call.method!r}")

    def on_echo(self, call: ClientCall) -> None:
        call.finished(call.content, call.payload)

    def on_add(self, call: ClientCall) -> None:
        arguments = decode(call.content, call.payload)
        n = arguments["n"] if isinstance(arguments, dict) else arguments[0]
        if not isinstance(n, int):
            raise InvalidArgument(f"{call.target.kind}.add: argument 'n': expected int")
        self.counters[call.target] = self.counters.get(call.target, 0) + n
        payload = encode(call.content, self.counters[call.target])
        call.finished(call.content, b"" if call.mode == Mode.TELL else payload)

    def on_hang(self, call: ClientCall) -> None:
        pass

    def on_count_up(self, call: ClientCall) -> None:
        self.granted[id(call)] = 0
        self.produced = 0

    def on_explode(self, call: ClientCall) -> None:
        raise ActorError(
            "a\nlöng böom " * 500, {"type": "ValueError", "traceback": "frame\n" * 5000}
        )

    def on_busy(self, call: ClientCall) -> None:
        raise MailboxFull("mailbox of Counter/a is full (1024)")

    def on_session(self, call: ClientCall) -> None:
        call.finished(call.content, encode(call.content, [call.session, call.headers]))

    def on_timeout(self, call: ClientCall) -> None:
        call.finished(call.content, encode(call.content, call.timeout_s))

    def _produce(self, call: ClientCall) -> None:
        """As many items as are granted, each a running number padded to the size asked for."""
        count, size = decode(call.content, call.payload)
        while self.granted[id(call)] and self.produced < count:
            self.granted[id(call)] -= 1
            call.chunk(call.content, encode(call.content, [self.produced, "x" * size]))
            self.produced += 1
        if self.produced == count:
            call.finished(call.content, b"")

    # -- the rest -----------------------------------------------------------------------

    def _described(self, target: ActorId, status: str = "active") -> Described:
        return Described(
            target, status, "host-1", "127.0.0.1:1", "incarnation-1", 2**60, 3, 1, 0.5, ""
        )

    async def locate(self, target: ActorId) -> Described:
        await trio.lowlevel.checkpoint()
        if target.key == "hang":
            try:
                await trio.sleep_forever()
            finally:
                self.stop_waits.set()
        return self._described(target)

    async def spawn(
        self, target: ActorId, content: int, payload: bytes, durable: bool
    ) -> Described:
        await trio.lowlevel.checkpoint()
        arguments = decode(content, payload) if payload else None
        return self._described(target, f"durable={durable} arguments={arguments}")

    async def stop(self, target: ActorId) -> bool:
        await trio.lowlevel.checkpoint()
        return self.counters.pop(target, None) is not None

    async def list_actors(self, kind: str, limit: int, cursor: str) -> tuple[list[Described], str]:
        await trio.lowlevel.checkpoint()
        names = [ActorId(kind or "Counter", f"{n:03}") for n in range(250)]
        start = int(cursor or 0)
        end = min(start + limit, len(names))
        page = [self._described(name) for name in names[start:end]]
        return page, "" if end == len(names) else str(end)

    async def list_hosts(self) -> list[HostInfo]:
        await trio.lowlevel.checkpoint()
        return [HostInfo("host-1", "incarnation-1", "127.0.0.1:1", "up", 1.0, 100, 7, 42)]

    async def drain(self, host_id: str) -> bool:
        await trio.lowlevel.checkpoint()
        return host_id == "host-1"

    def health(self) -> tuple[bool, bool]:
        return self.alive, self.ready


class Served(NamedTuple):
    """A server on loopback over a FakeGateway, as tests see it."""

    gateway: FakeGateway
    crossing: loops.Crossing
    server: Server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def aio(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run ``fn(*args)`` on the asyncio side."""
        return await self.crossing.cross(fn, *args)


@asynccontextmanager
async def serving(*, services: Sequence[Any] = (), peer: Any = None, **config: Any) -> Any:
    """A Served; within ``wire.loops.run``."""
    async with loops.open_crossing() as crossing:
        gateway = FakeGateway()
        settings = ServerConfig(**{"host": "127.0.0.1", "port": 0, **config})
        server = Server(gateway, crossing, settings, peer=peer, services=services)
        await crossing.cross(server.start)
        try:
            yield Served(gateway, crossing, server)
        finally:
            with trio.CancelScope(shield=True):
                await crossing.cross(server.aclose)


def run_bounded(fn: Callable[..., Any], *args: Any, within_s: float = 60) -> None:
    """``wire.loops.run``, failed when it takes too long."""

    async def bounded() -> None:
        with trio.fail_after(within_s):
            await fn(*args)

    loops.run(bounded)


def served(**config: Any) -> Callable[[Callable[[Served], Any]], Callable[[], None]]:
    """Make a test of an async function that takes a Served."""

    def decorate(fn: Callable[[Served], Any]) -> Callable[[], None]:
        async def main() -> None:
            async with serving(**config) as it:
                await fn(it)

        def test() -> None:
            run_bounded(main)

        test.__name__, test.__doc__ = fn.__name__, fn.__doc__
        return test

    return decorate


async def until(condition: Callable[[], object], within_s: float = 5) -> None:
    """Wait for ``condition``; trio.TooSlowError when it does not come."""
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.001)
