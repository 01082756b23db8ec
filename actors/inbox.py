"""Inbox: which message an activation takes next from each sender on other hosts.

Design rule 10, the receiver's half. A decision module: pure.
"""

from __future__ import annotations

from enum import Enum, auto

StreamKey = tuple[str, int]  # (incarnation of the sender, its stream)

#: As the attempt that has been refused last: all that the stream will ever make.
ENDED = 1 << 60


class Verdict(Enum):
    """What to do with an envelope, by its number alone."""

    ACCEPT = auto()
    DUPLICATE = auto()  # taken before: drop it, its answer goes or went its way
    TOLD = auto()  # follows one that was refused in the same attempt: drop it
    GAP = auto()  # refuse it, naming the number expected
    UNKNOWN = auto()  # refuse it: the sender must open a new stream


_ACCEPT = Verdict.ACCEPT


class Incoming:
    """One sender's stream, as the receiver remembers it."""

    __slots__ = ("acknowledged", "expected", "told", "touched_at")

    def __init__(self) -> None:
        self.expected = 0
        self.acknowledged = 0  # numbers below this have been confirmed to the sender
        self.told = -1  # the attempt in which a refusal has been sent
        self.touched_at = 0.0

    @property
    def next_or_ended(self) -> int:
        """The number that is expected next, for who takes the stream over; -1: it has ended."""
        return -1 if self.told == ENDED else self.expected

    def take_over(self, next_or_ended: int, now: float) -> None:
        """Go on where another host has stopped."""
        self.expected = self.acknowledged = max(0, next_or_ended)
        self.told = ENDED if next_or_ended < 0 else -1
        self.touched_at = now


class Inbox:
    """The stream table of one activation. It moves with the actor."""

    __slots__ = ("blocked", "streams")

    def __init__(self) -> None:
        self.streams: dict[StreamKey, Incoming] = {}
        self.blocked: dict[StreamKey, None] = {}  # refused as FULL: to be told of room

    def judge(self, key: StreamKey, seq: int, attempt: int) -> Verdict:
        """What the number says. Changes nothing."""
        stream = self.streams.get(key)
        if stream is None:
            return _ACCEPT if seq == 0 else Verdict.UNKNOWN
        if attempt <= stream.told:
            return Verdict.TOLD
        if seq == stream.expected:
            return _ACCEPT
        return Verdict.DUPLICATE if seq < stream.expected else Verdict.GAP

    def accept(self, key: StreamKey, now: float, streams_max: int, count: int = 1) -> Incoming:
        """Count what ``judge`` accepted: an envelope, or ``count`` in a row."""
        stream = self._stream(key, streams_max)
        stream.expected += count
        stream.touched_at = now
        return stream

    def end(self, key: StreamKey, now: float, streams_max: int) -> None:
        """Its sender has begun another stream in its place: what comes late is dropped."""
        stream = self._stream(key, streams_max)
        stream.told = ENDED
        stream.touched_at = now

    def _stream(self, key: StreamKey, streams_max: int) -> Incoming:
        stream = self.streams.get(key)
        if stream is None:
            if len(self.streams) >= streams_max:
                self._forget_longest_idle()
            stream = self.streams[key] = Incoming()
        return stream

    def refuse(self, key: StreamKey, attempt: int, *, until_room: bool) -> None:
        """Remember that ``attempt`` has been refused, so that what follows is dropped."""
        stream = self.streams.get(key)
        if stream is not None:
            stream.told = attempt
        if until_room:
            self.blocked[key] = None

    def forget_idle(self, before: float) -> None:
        """Forget the streams that have been idle since ``before``."""
        idle = [k for k, s in self.streams.items() if s.touched_at < before]
        for key in idle:
            del self.streams[key]

    def _forget_longest_idle(self) -> None:
        del self.streams[min(self.streams, key=lambda k: self.streams[k].touched_at)]
