"""What an old owner offers to a new one: an actor, quiesced, as bytes. A decision module: pure.

Design rule 7: the offer names (incarnation, epoch, generation) and carries the snapshot, the
stream table, the messages that were accepted and have not run, and the timers.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Waiting(msgspec.Struct, array_like=True):
    """A message that was accepted and has not run: from another host, or a tell from the old
    owner's. Its answer goes straight to ``incarnation``."""

    incarnation: str
    call: int
    attempt: int
    method: str
    mode: int
    content: int
    payload: bytes
    budget_ms: int
    chain: tuple[str, ...]
    headers: dict[str, str] | None
    credit: int


class TimerLeft(msgspec.Struct, array_like=True):
    """A pending timer: the method's name, seconds until it fires, and its period (0: once)."""

    method: str
    after_s: float
    every_s: float


class Offer(msgspec.Struct, array_like=True):
    """One actor."""

    kind: str
    key: str
    incarnation: str
    epoch: int
    generation: int
    snapshot: bytes
    streams: list[tuple[str, int, int]]  # (incarnation, stream, next number; -1: ended)
    waiting: list[Waiting]
    timers: list[TimerLeft]
    is_durable: bool
    is_urgent: bool  # the old owner drains: take it even if the ring says otherwise by now
    spawner: str = ""  # the actor that spawned it, and hears when it escalates
    trouble: str = ""  # what went wrong with it last, for people to see


class Outcome(StrEnum):
    """What became of an offer."""

    TAKEN = "taken"  # it runs at the new owner
    DECLINED = "declined"  # the new owner never claimed it
    HANDED_BACK = "handed back"  # claimed, but it could not be restored: it never activated


class Answer(msgspec.Struct, array_like=True):
    """The new owner's answer to one offer."""

    outcome: Outcome
    epoch: int = 0
    why: str = ""


_encoder = msgspec.msgpack.Encoder()
_offers = msgspec.msgpack.Decoder(list[Offer])
_answers = msgspec.msgpack.Decoder(list[Answer])


def encode(value: list[Offer] | list[Answer]) -> bytes:
    """A list of offers or answers as bytes."""
    return _encoder.encode(value)


def decode_offers(data: bytes) -> list[Offer]:
    """Raises msgspec.MsgspecError for what is none."""
    return _offers.decode(data)


def decode_answers(data: bytes) -> list[Answer]:
    """Raises msgspec.MsgspecError for what is none."""
    return _answers.decode(data)
