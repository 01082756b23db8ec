"""The actors of the tests on moves. What they saw goes to a file that all hosts append to, since
a line of O_APPEND is written whole."""

from __future__ import annotations

import json
import os
import time

import msgspec
import trio

from actors import Actor, Reason, handler

JOURNAL = "TEST_JOURNAL"


class Page(msgspec.Struct):
    text: bytes = b""
    reads: int = 0


class Note(Actor):
    """An idle actor with some state."""

    state: Page

    @handler
    def write(self, text: bytes) -> None:
        self.state.text = text

    @handler
    def read(self) -> int:
        self.state.reads += 1
        return len(self.state.text)


class Seen(msgspec.Struct):
    numbers: dict[str, int] = {}
    out_of_order: list[str] = []


class Ordered(Actor, persist="turn"):
    """Takes numbered messages and notes each that is not the next of its sender."""

    state: Seen

    def _take(self, sender: str, number: int) -> int:
        expected = self.state.numbers.get(sender, 0)
        if number != expected:
            self.state.out_of_order.append(f"{sender}: {number} where {expected} was next")
        self.state.numbers[sender] = number + 1
        return number

    @handler
    async def ask(self, sender: str, number: int) -> int:
        await trio.sleep(0.001)
        return self._take(sender, number)

    @handler
    def told(self, sender: str, number: int) -> None:
        self._take(sender, number)

    @handler
    def report(self) -> Seen:
        return self.state


class Owned(msgspec.Struct):
    total: int = 0


class Watched(Actor, persist="turn"):
    """Writes begin and end of each of its activations into the journal."""

    state: Owned

    def _log(self, what: str) -> None:
        line = {
            "actor": str(self.id), "epoch": self.epoch, "host": os.environ["HOSTNAME"],
            "what": what, "at": time.clock_gettime(time.CLOCK_BOOTTIME),
        }  # fmt: skip
        with open(os.environ[JOURNAL], "a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")

    async def on_activate(self) -> None:
        self._log("begin")

    async def on_deactivate(self, reason: Reason) -> None:
        self._log("end")

    @handler
    async def add(self, n: int) -> int:
        self._log("act")
        self.state.total += n
        return self.state.total


class Form(msgspec.Struct):
    text: str = ""


class Versioned(Actor):
    """Has another state in the next version of this app: see moves_app_next."""

    state: Form

    @handler
    def put(self, text: str) -> None:
        self.state.text = text

    @handler
    def get(self) -> str:
        return self.state.text


class Stubborn(Actor):
    """Cannot be restored anywhere but where it began."""

    def __init__(self) -> None:
        self._value = 0

    @handler
    def put(self, value: int) -> None:
        self._value = value

    @handler
    def get(self) -> int:
        return self._value

    def snapshot(self) -> bytes:
        return b"%d" % self._value

    def restore(self, snapshot: bytes) -> None:
        raise RuntimeError("this snapshot is not to my taste")


class Hanging(Actor):
    """Does not want to leave."""

    state: Owned

    @handler
    def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total

    async def on_deactivate(self, reason: Reason) -> None:
        await trio.sleep_forever()
