"""Rows: what is told again and again to one handler waits as bare payloads.

A tell needs an object of its own only when its turn comes. Until then a sender that tells one
handler of one actor many times in a row, as telemetry and streams of work do, adds a payload to
the row at the mailbox's end. Whatever else comes, or looks into the mailbox, finds in-calls.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from actors.incoming import CURRENT, InCall, LocalTell, RemoteTell
from actors.phase import Phase

if TYPE_CHECKING:
    from actors.activation import Activation
    from actors.calls import Sender
    from actors.kinds import BoundSpec

_ACTIVE = Phase.ACTIVE

#: Who tells, or runs what was told, lets others run after so many, or so long (seconds), at which
#: it looks now and then.
TOLD_PER_PASS, PASS_S, TOLD_PER_LOOK = 128, 0.0005, 32


class Row:
    """Tells of one sender to one handler, behind all else that waits in one mailbox."""

    __slots__ = ("activation", "current", "payloads", "room", "sender", "spec")

    def __init__(self, activation: Activation, sender: Sender | str, spec: BoundSpec) -> None:
        self.activation = activation
        self.sender = sender  # a string: the incarnation of a host
        self.spec = spec
        self.payloads: deque[bytes] = deque()
        self.room = 0  # how many may wait here; 0: something came behind, and this is over
        self.current: InCall | None = None  # the turn that its sender told the last one in

    def take(self, payload: bytes) -> bool:
        """Put one more tell of the same turn behind the others, while nothing stands against it
        and a worker is there to run it. The short way of a tell, for its sender."""
        if len(self.payloads) >= self.room or CURRENT.get() is not self.current:
            return False
        activation = self.activation
        if activation.phase is not _ACTIVE or activation.is_closing or not activation.running:
            return False
        self.payloads.append(payload)
        return True

    def go_on(self, payload: bytes) -> None:
        """Put one more tell behind the others, which the mailbox allows."""
        activation = self.activation
        self.payloads.append(payload)
        self.room = activation.kind.mailbox_max - activation.depth + len(self.payloads)
        self.current = CURRENT.get()

    def next(self) -> InCall:
        """The message whose turn it is."""
        return self._message(self.payloads.popleft())

    def _message(self, payload: bytes) -> InCall:
        if isinstance(self.sender, str):
            return RemoteTell.told(self.activation, self.spec, payload, self.sender)
        return LocalTell.told(self.activation, self.spec, payload, self.sender)

    def end(self) -> deque[InCall]:
        """Take no more; returns the messages that wait."""
        self.room = 0
        waiting = deque(map(self._message, self.payloads))
        self.payloads.clear()
        del self.activation, self.current, self.sender  # a ref may keep the row
        return waiting
