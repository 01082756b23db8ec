"""The child: the real actor, in a system whose only road leads to its parent. An adapter."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import traceback
from typing import Any

import msgspec
import trio

from actors.activation import Activation
from actors.isolation import linux, messages
from actors.isolation.child_calls import ChildInCall
from actors.isolation.child_system import ChildSystem
from actors.isolation.deadline import SharedDeadline
from actors.isolation.messages import Init, load_class
from actors.isolation.pipe import Pipe
from actors.reasons import Reason
from placement.records import Stored
from wire.errors import (
    ActorError,
    error_from_code,
)
from wire.ids import ActorId
from wire.items import (
    Accepted,
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

EXIT_LEASE_LOST = 70
WATCH_S = 0.1
BUSY_S = 0.2
LOG_CHARS_MAX = 20_000


def main(fd: int, deadline: SharedDeadline) -> int:
    """Be one actor until told to stop; the process's exit status."""
    threading.Thread(target=_watch, args=(deadline,), daemon=True).start()
    trio.run(_run, socket.socket(fileno=fd), deadline)
    return 0


def _watch(deadline: SharedDeadline) -> None:
    """End the process past the lease, whatever the loop is at."""
    while not deadline.is_past():
        time.sleep(WATCH_S)
    os._exit(EXIT_LEASE_LOST)


async def _run(end: socket.socket, deadline: SharedDeadline) -> None:
    pipe = Pipe(end)
    async with trio.open_nursery() as nursery:
        link = ParentLink(pipe, nursery, deadline)
        nursery.start_soon(pipe.write)
        await pipe.read(link.on_item)  # until the parent is gone
        os._exit(1)


class ParentLink:
    """What the parent says, and the way to it."""

    def __init__(self, pipe: Pipe, nursery: trio.Nursery, deadline: SharedDeadline) -> None:
        self.pipe = pipe
        self.nursery = nursery
        self.deadline = deadline
        self.turns: dict[int, ChildInCall] = {}
        self._system: ChildSystem | None = None
        self._activation: Activation | None = None
        self._answers: dict[int, _Answer] = {}
        self._last_id = 0
        self._init_id = 0

    def on_item(self, item: Item) -> None:
        match item:
            case Envelope():
                self._turn(item)
            case Cancel():
                if (turn := self.turns.get(item.call)) is not None:
                    turn.cancelled()
            case Grant():
                if (turn := self.turns.get(item.call)) is not None:
                    turn.grant(item.items)
            case Reply() | Failure() | Chunk() | Accepted():
                assert self._system is not None
                self._system.child_router.on_answer(item)
            case Response():
                if (answer := self._answers.get(item.id)) is not None:
                    answer.response = item
                    answer.done.set()
            case Request():
                self._request(item)

    # Turns --------------------------------------------------------------------------------

    def _turn(self, item: Envelope) -> None:
        system, activation = self._system, self._activation
        assert system is not None
        assert activation is not None
        expires_at = float("inf") if item.budget_ms < 0 else system.now() + item.budget_ms / 1000
        turn = ChildInCall(
            activation, item.method, item.payload, item.mode, item.content, expires_at, item.chain,
            item.headers, item.credit, link=self, call=item.call,
        )  # fmt: skip
        self.turns[item.call] = turn
        activation.admit(turn)

    # Questions ----------------------------------------------------------------------------

    def tell(self, op: str, body: object) -> None:
        """Tell the parent something to which there is no answer."""
        self.pipe.send(Request(0, op, msgspec.msgpack.encode(body)))

    async def ask(self, op: str, body: object) -> Any:
        """The parent's answer; raises the error that it answers with."""
        self._last_id += 1
        number = self._last_id
        answer = self._answers[number] = _Answer()
        try:
            self.pipe.send(Request(number, op, msgspec.msgpack.encode(body)))
            await answer.done.wait()
        finally:
            del self._answers[number]
        assert answer.response is not None
        found = msgspec.msgpack.decode(answer.response.body)
        if answer.response.code:
            raise error_from_code(answer.response.code, str(found))
        return found

    def _request(self, item: Request) -> None:
        match item.op:
            case messages.INIT:
                self._init_id = item.id
                self._init(msgspec.msgpack.decode(item.body, type=Init))
            case messages.SNAPSHOT:
                self._answer_with(item.id, self._snapshot)
            case messages.DEACTIVATE:
                reason = Reason(msgspec.msgpack.decode(item.body))
                self.nursery.start_soon(self._deactivate, item.id, reason)

    def _answer_with(self, number: int, function: Any) -> None:
        try:
            self.pipe.send(Response(number, "", msgspec.msgpack.encode(function())))
        except Exception as exc:
            self._answer_error(number, exc)

    def _answer_error(self, number: int, exc: BaseException) -> None:
        text = "".join(traceback.format_exception(exc))[-6_000:]
        body = (str(exc), {"type": type(exc).__name__, "traceback": text})
        self.pipe.send(Response(number, ActorError.code, msgspec.msgpack.encode(body)))

    # Life ---------------------------------------------------------------------------------

    def _init(self, init: Init) -> None:
        logging.getLogger().handlers[:] = [ToParent(self)]
        logging.getLogger().setLevel(init.log_level)
        try:
            if init.memory_bytes_max:
                linux.bound_memory(init.memory_bytes_max)
            cls = load_class(init.cls)
        except BaseException as exc:
            self._answer_error(self._init_id, exc)
            return
        self._system = system = ChildSystem(cls, init, self)
        kind = system.kinds.of(cls)
        self._activation = activation = Activation(system, ActorId(kind.name, init.key), kind)
        system.activations[activation.id] = activation
        self.nursery.start_soon(system.router.wheel.run)
        self.nursery.start_soon(self._tell_busy, activation)
        stored = Stored(init.epoch, 0, init.snapshot) if init.snapshot else None
        system.lifecycle.claimed(activation, init.epoch, stored)

    def started(self) -> None:
        """The actor runs."""
        if self._init_id:
            self.pipe.send(Response(self._init_id, "", b"\xc0"))
            self._init_id = 0

    def could_not_start(self, exc: BaseException) -> None:
        self._answer_error(self._init_id, exc)

    def _snapshot(self) -> bytes | None:
        assert self._activation is not None
        assert self._system is not None
        return self._system.lifecycle.snapshot(self._activation)

    async def _deactivate(self, number: int, reason: Reason) -> None:
        activation, system = self._activation, self._system
        assert activation is not None
        assert system is not None
        system.lifecycle.cancel_turns(activation)
        await activation.close_nursery()
        await system.lifecycle.deactivate(activation, reason)
        self._answer_with(number, self._snapshot)
        self.pipe.flush()
        logging.shutdown()
        os._exit(0)

    async def _tell_busy(self, activation: Activation) -> None:
        """The parent must not take it for idle while timers or background tasks keep it busy."""
        told = False
        while True:
            await trio.sleep(BUSY_S)
            if activation.has_background is not told:
                told = not told
                self.tell(messages.BUSY, told)


class _Answer:
    __slots__ = ("done", "response")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.response: Response | None = None


class ToParent(logging.Handler):
    """Log records become the parent's, so that a host has one log."""

    def __init__(self, link: ParentLink) -> None:
        super().__init__()
        self._link = link
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)[:LOG_CHARS_MAX]
            body = (record.name, record.levelno, text)
            if threading.get_ident() == self._thread:
                self._link.tell(messages.LOG, body)
            else:
                self._token.run_sync_soon(self._link.tell, messages.LOG, body)
        except Exception:
            self.handleError(record)
