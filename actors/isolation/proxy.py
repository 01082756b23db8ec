"""Proxy: an actor's half in its host. Turns go to the child, the child's calls to the router.

To the activation it is the actor: it has the hooks, and a snapshot. What the child says it does
on the child's behalf, as that actor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from actors.actor import Actor
from actors.foreign import ProcessDied, raised
from actors.incoming import InCall
from actors.isolation import messages
from actors.isolation.messages import Init, path_of
from actors.isolation.processes import ChildProcess
from actors.isolation.relay import RelayedCall, relay
from actors.isolation.turns import Turns
from actors.reasons import Reason
from wire.errors import OutcomeUnknown, ProtocolError, RoostError, Unavailable, error_from_code
from wire.ids import parse_actor_id
from wire.items import (
    Cancel,
    Chunk,
    Envelope,
    Failure,
    Grant,
    Item,
    Reply,
    Request,
    Response,
)

if TYPE_CHECKING:
    from actors.activation import Activation

log = logging.getLogger("roost.processes")

#: How long a child may take to hand out its state (seconds).
SNAPSHOT_S = 5.0
REQUESTS_MAX = 1_000


class _Asked:
    """A question to the child."""

    __slots__ = ("done", "response")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.response: Response | None = None


class Proxy(Actor, kind="roost.Proxy"):
    """See the module. Made by :func:`proxy_for`."""

    tagged: bytes | None  # the newest snapshot known here, as lifecycle.py tags it

    def __init__(self) -> None:
        self.calls: dict[int, RelayedCall] = {}
        self.is_busy = False
        self._child: ChildProcess | None = None
        self._turns = Turns(self)
        self._asked: dict[int, _Asked] = {}
        self._open = 0
        self._last_id = 0
        self._started = False
        self._ending = False
        self._is_fresh = False  # the snapshot was just sent: do not ask for it

    @property
    def activation(self) -> Activation:
        """Whose half this is."""
        return self._activation

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else 0

    # What the lifecycle calls -------------------------------------------------------------

    async def on_activate(self) -> None:
        """Fork a child and let it become the actor. Raises what its start raised."""
        system = self._activation.system
        self._ending = self._started = False
        self._child = await system.processes.fork()
        system.nursery.start_soon(self._serve, self._child)
        try:
            await self._ask(messages.INIT, self._init())
        except BaseException:
            await self.end_child()
            raise
        self._started = True

    def _init(self) -> Init:
        activation, system = self._activation, self._activation.system
        kind, me = activation.kind, system.me
        memory = kind.options.memory_bytes_max or system.config.process_memory_bytes_max
        return Init(
            path_of(kind.cls), activation.id.key, activation.epoch, me.host_id,
            f"{me.incarnation}.{self.pid}", me.address, system.config, self.tagged or b"",
            memory, logging.getLogger().getEffectiveLevel(),
        )  # fmt: skip

    async def on_deactivate(self, reason: Reason) -> None:
        """Let the child wind up and hand over its state; what does not end is ended."""
        if self._child is None:
            return
        self._ending = True
        try:
            self.tagged = await self._ask(messages.DEACTIVATE, reason.value) or self.tagged
            await self._child.exited.wait()
        except ProcessDied as exc:
            log.error("%s: %s while it was stopping", self.id, exc)
        finally:
            await self.end_child()

    async def refresh(self) -> None:
        """Have the newest snapshot here. Raises Unavailable when the child does not answer."""
        if self._child is None or self._ending or self._is_fresh:
            return
        with trio.move_on_after(SNAPSHOT_S) as scope:
            try:
                self.tagged = await self._ask(messages.SNAPSHOT, None) or self.tagged
            except ProcessDied as exc:
                raise Unavailable(f"{self.id}: {exc}") from exc
        if scope.cancelled_caught:
            raise Unavailable(f"{self.id} has not told its state within {SNAPSHOT_S:g} s")

    def kill(self) -> None:
        """End the child at once; ``end_child`` waits for it."""
        self._ending = True
        if self._child is not None:
            self._child.signal(9)

    async def end_child(self) -> None:
        """The child is gone when this returns, whatever it does."""
        self._ending = True
        if self._child is not None:
            await self._child.end()

    def invoke(self, call: InCall) -> Any:
        """Run a handler over there: an awaitable of Encoded, or an iterator of them."""
        return self._turns.invoke(call)

    # The child's life ---------------------------------------------------------------------

    async def _serve(self, child: ChildProcess) -> None:
        """Read and write until the child is gone; if it was not asked to go, it has crashed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.pipe.write)
            nursery.start_soon(self._read, child)
            await child.wait_exit()
            with trio.move_on_after(1.0):  # its last words are in the pipe
                await child.pipe.closed.wait()
            nursery.cancel_scope.cancel()
        self._lost(child)

    async def _read(self, child: ChildProcess) -> None:
        try:
            await child.pipe.read(self._on_item)
        except ProtocolError as exc:
            log.error("%s: its process sends what is no frame: %s", self.id, exc)
        child.signal(15)

    def _lost(self, child: ChildProcess) -> None:
        died = ProcessDied(child.describe_end())
        self._child = None
        self._activation.system.processes.forget(child)
        self._turns.lost(OutcomeUnknown(f"{self.id}: {died}"))
        for asked in self._asked.values():
            asked.done.set()
        for call in list(self.calls.values()):
            call.leave()
        if not self._ending:
            self._ending = True
            if self._started:
                self._activation.crashed(died)

    def check_running(self) -> None:
        """Raises ProcessDied when no turn can begin."""
        if self._child is None or self._ending:
            raise ProcessDied("its process is gone")

    def signal(self, number: int) -> bool:
        """Whether there was a child to send that signal to."""
        if self._child is None:
            return False
        self._child.signal(number)
        return True

    def send(self, item: Item) -> None:
        if self._child is not None:
            self._child.pipe.send(item)

    async def _ask(self, op: str, body: object) -> Any:
        """The child's answer; raises ProcessDied, or what it answered with."""
        child = self._child
        if child is None:
            raise ProcessDied("its process is gone")
        self._last_id += 1
        number = self._last_id
        asked = self._asked[number] = _Asked()
        try:
            self.send(Request(number, op, msgspec.msgpack.encode(body)))
            await asked.done.wait()
        finally:
            del self._asked[number]
        response = asked.response
        if response is None:
            raise ProcessDied(child.describe_end())
        if response.code:
            message, details = msgspec.msgpack.decode(response.body)
            raise raised(error_from_code(response.code, message, details))
        return msgspec.msgpack.decode(response.body)

    # What the child says ------------------------------------------------------------------

    def _on_item(self, item: Item) -> None:
        match item:
            case Reply() | Failure() | Chunk():
                self._turns.on_answer(item)
            case Envelope():
                relay(self, item)
            case Cancel():
                if (call := self.calls.get(item.call)) is not None:
                    call.leave()
            case Grant():
                if (call := self.calls.get(item.call)) is not None:
                    call.router.grant(call, item.items)
            case Response():
                if (asked := self._asked.get(item.id)) is not None:
                    asked.response = item
                    asked.done.set()
            case Request():
                self._on_request(item)
            case _:
                log.error("%s: its process sends a %s", self.id, type(item).__name__)

    def _on_request(self, item: Request) -> None:
        activation = self._activation
        body = msgspec.msgpack.decode(item.body)
        match item.op:
            case messages.LOG:
                name, level, text = body
                logging.getLogger(name).log(level, "%s", text, extra={"actor": str(self.id)})
            case messages.BUSY:
                self.is_busy = body
            case messages.PASSIVATE:
                activation.passivate()
            case messages.END:
                activation.end()
            case messages.CRASHED:
                if self._started and not self._ending:
                    self._ending = True
                    activation.crashed(raised(error_from_code(*body)))
            case _ if self._open < REQUESTS_MAX:
                self._open += 1
                activation.system.nursery.start_soon(self._answer, item, body)

    async def _answer(self, item: Request, body: Any) -> None:
        try:
            result = await self._operations[item.op](self, body)
            response = Response(item.id, "", msgspec.msgpack.encode(result))
        except RoostError as exc:
            response = Response(item.id, exc.code, msgspec.msgpack.encode(str(exc)))
        except Exception as exc:
            log.exception("%s: %s for its process failed", self.id, item.op)
            response = Response(item.id, "internal", msgspec.msgpack.encode(str(exc)))
        finally:
            self._open -= 1
        self.send(response)

    async def _save(self, tagged: bytes) -> None:
        self.tagged, self._is_fresh = tagged, True
        try:
            await self._activation.save()
        finally:
            self._is_fresh = False

    async def _stop(self, name: str) -> bool:
        return await self._activation.system.stop_id(parse_actor_id(name))

    async def _set_reminder(self, body: Any) -> None:
        await self._activation.set_reminder(*body)

    async def _drop_reminder(self, name: str) -> bool:
        return await self._activation.cancel_reminder(name)

    _operations: dict[str, Callable[[Proxy, Any], Any]] = {  # noqa: RUF012  # the same for all
        messages.SAVE: _save,
        messages.STOP: _stop,
        messages.SET_REMINDER: _set_reminder,
        messages.DROP_REMINDER: _drop_reminder,
    }


def proxy_for(activation: Activation, tagged: bytes | None) -> Proxy:
    """The half of ``activation``'s actor that is here; its child starts with ``on_activate``."""
    proxy = Proxy.__new__(Proxy)
    proxy._activation = activation
    proxy.__init__()  # type: ignore[misc]
    proxy.tagged = tagged
    return proxy
