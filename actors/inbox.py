"""Inbox: which message an activation takes next from each sender on other hosts.

Design rule 10, the receiver's half. A decision module: pure.
"""

from __future__ import annotations

from enum import Enum, auto

StreamKey = tuple[str, int]  # (incarnation of the sender, its stream)


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
        stream = self.streams.get(key)
        if stream is None:
            if len(self.streams) >= streams_max:
                self._forget_longest_idle()
            stream = self.streams[key] = Incoming()
        stream.expected += count
        stream.touched_at = now
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
