"""What the scripts answer, read; and what this host has heard so far. A decision module: pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from placement.ports import Fenced, StaleGeneration
from placement.records import Claimed, Held, Load, Location, Member, Reminder, Renewal, Stored, View
from placement.view import make_view

_decode_member = msgspec.json.Decoder(Member).decode
_decode_load = msgspec.json.Decoder(Load).decode


class Heard:
    """The generation this host speaks for and the highest epoch it has heard of.

    One for all of a host's connections, the lease thread's too: each attribute is read and
    written whole, and only ever raised.

    Epochs count from a time in microseconds on (rule 6), so the host's own clock stands for what
    it has not heard: if all who knew the epochs are gone, and the server has forgotten them and its
    clock has gone back, none is given again.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.generation = 0
        self.epoch = int(clock() * 1_000_000)

    def check(self, reply: Sequence[Any]) -> Sequence[Any]:
        """``reply`` unless it says stale or fenced, which raise StaleGeneration and Fenced.

        Every reply begins with its status and the generation.
        """
        self.generation = self.generation or int(reply[1])
        if reply[0] == b"stale":
            known, view = self.generation, read_view(reply)
            self.generation = view.generation
            raise StaleGeneration(f"generation {known} is over; this is {view.generation}", view)
        if reply[0] == b"fenced":
            raise Fenced("the registry does not take this incarnation for a live member")
        return reply

    def view(self, reply: Sequence[Any]) -> View:
        """The view in a reply that carries one; from now on this host speaks for it."""
        view = read_view(reply)
        self.generation = view.generation
        return view

    def location(self, text: bytes) -> Location:
        epoch, _, incarnation = text.decode().partition(":")
        location = Location(incarnation, int(epoch))
        self.epoch = max(self.epoch, location.epoch)
        return location

    def specs(self, reply: Sequence[Any]) -> list[tuple[str, bytes, Location | None]]:
        """Durable actors, each with its spec and where it lives."""
        return [
            (actor.decode(), spec, None if text is None else self.location(text))
            for actor, spec, text in batched(reply[2], 3)
        ]

    def asserted(self, owned: Iterable[tuple[str, int]]) -> None:
        """This host is about to tell the registry of these epochs."""
        self.epoch = max(self.epoch, *(epoch for _, epoch in owned))

    def claims(self, reply: Sequence[Any]) -> list[Claimed | Held]:
        """The answers to a batch of claims, in the order asked."""
        _, _, epoch_text, held, states = reply
        epoch, states = int(epoch_text), iter(states)
        self.epoch = max(self.epoch, epoch)
        nothing_saved = Claimed(epoch, None)
        answers: list[Claimed | Held] = []
        for location in held:
            if location is not None:
                answers.append(Held(self.location(location)))
            else:
                state = next(states)
                answers.append(
                    nothing_saved if state is None else Claimed(epoch, read_stored(state))
                )
        return answers


def read_view(reply: Sequence[Any]) -> View:
    _, generation, version, records = reply
    return make_view(int(generation), int(version), map(_decode_member, records))


def read_renewal(reply: Sequence[Any]) -> Renewal:
    _, generation, version, counters = reply
    return Renewal(int(generation), int(version), {i.decode(): int(c) for i, c in pairs(counters)})


def read_loads(reply: Sequence[Any]) -> dict[str, Load]:
    return {i.decode(): _decode_load(load) for i, load in pairs(reply[2])}


def read_stored(text: bytes) -> Stored:
    epoch, save_no, data = text.split(b":", 2)
    return Stored(int(epoch), int(save_no), data)


def read_reminders(reply: Sequence[Any]) -> list[Reminder]:
    return [
        Reminder(actor.decode(), name.decode(), int(due_ms), int(every_ms) / 1000)
        for actor, name, due_ms, every_ms in batched(reply[2], 4)
    ]


def pairs(flat: Iterable[Any]) -> Iterable[tuple[Any, ...]]:
    """A hash as the server's flat list of field, value, field, value."""
    return batched(flat, 2)


def batched(flat: Iterable[Any], size: int) -> Iterable[tuple[Any, ...]]:
    """A flat list as the records of ``size`` values that it is made of."""
    return zip(*[iter(flat)] * size, strict=True)
