"""Outbox: the numbered stream of envelopes from one sender to one actor on another host.

Design rule 10, the sender's half. A decision module: pure. It says what to transmit next and what
an answer means; the router does the sending. Each transmission of an envelope gets one answer:
accepted (with all before it) or refused (with all after it, in the same attempt).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any, cast

import msgspec

from actors.calls import Call, Sender
from wire.errors import DeadlineExceeded, MailboxFull, NotDelivered, OutcomeUnknown, RoostError
from wire.ids import ActorId

#: Lost streams of which a new one reports, at most.
REPLACED_MAX = 16

#: In a refusal: it holds for every attempt so far.
ANY = -1


class State(Enum):
    """What the outbox waits for."""

    ROUTING = "routing"  # where the actor lives is not known
    OPEN = "open"  # envelopes go to ``incarnation`` as the window allows
    FULL = "full"  # the mailbox there is full: wait for Resume
    MOVING = "moving"  # the actor changes its host: wait for Moved or Resume


class Entry(msgspec.Struct, eq=False):
    """One message in an outbox, until it is accepted (tells) or answered (asks)."""

    call: Call | None  # None: abandoned, but its number is used up
    outbox: Outbox
    seq: int = -1  # given when it is first transmitted
    sent_to: str = ""  # the incarnation that has it unanswered; "" when none may have it
    accepted: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of it but its number."""
        return self.call is None

    def late(self, where: str, is_reachable: bool) -> RoostError:
        """The error of passing the deadline, by how far the message had come."""
        if not self.sent_to:
            if self.outbox.state is State.FULL:
                return MailboxFull(f"{where}: the mailbox stayed full until the deadline")
            if self.outbox.state is State.MOVING:
                return NotDelivered(
                    f"{where}: not delivered, as its actor moves, before the deadline"
                )
            return NotDelivered(f"{where}: not delivered before the deadline")
        if not is_reachable:
            return OutcomeUnknown(
                f"{where} may or may not have run: its host cannot be reached at the deadline"
            )
        return DeadlineExceeded(f"{where}: no answer before the deadline")


class Told(Entry, gc=False):
    """A tell on which nobody waits any more: what is sent again, if it must be, is all here.

    There are many, and they refer to nothing that refers to them: the collector need not know.
    """

    method: str = ""
    payload: bytes = b""

    @property
    def is_empty(self) -> bool:
        return False


class Outbox:
    """Order, window and going back, for one (sender, actor)."""

    __slots__ = (
        "attempt", "flight", "id", "incarnation", "next_seq", "redirects", "refused", "replaces",
        "run", "run_bytes", "sender", "state", "target", "touched_at", "waiting", "window",
    )  # fmt: skip

    def __init__(self, id: int, sender: Sender, target: ActorId, window: int) -> None:
        self.id = id
        self.sender = sender
        self.target = target
        self.window = window
        self.state = State.ROUTING
        self.incarnation = ""
        self.next_seq = 0
        self.attempt = 0
        self.waiting: deque[Entry] = deque()
        self.flight: deque[Entry] = deque()
        #: The last of the flight, while OPEN: what has been told and leaves together, soon.
        self.run: list[Told] = []
        self.run_bytes = 0
        self.redirects = 0
        self.refused: tuple[str, ...] = ()
        self.replaces: tuple[int, ...] = ()  # streams of which messages may yet arrive, too late
        self.touched_at = 0.0

    def __repr__(self) -> str:
        return (
            f"<Outbox {self.id} to {self.target} {self.state.value} at {self.incarnation!r} "
            f"next={self.next_seq} attempt={self.attempt} flight={len(self.flight)} "
            f"run={len(self.run)} waiting={len(self.waiting)}>"
        )

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.flight

    @property
    def is_blocked(self) -> bool:
        """Whether it waits for word from where the actor is."""
        return self.state is State.FULL or self.state is State.MOVING

    def has_room(self) -> bool:
        """Whether the next message would go out at once."""
        return self.state is State.OPEN and not self.waiting and len(self.flight) < self.window

    def push(self, call: Call) -> Entry:
        """Put one more message at the end."""
        entry = Entry(call, self)
        self.waiting.append(entry)
        return entry

    def push_out(self, call: Call) -> Entry:
        """Put one more message straight into flight; only where ``has_room``."""
        entry = Entry(call, self, self.next_seq, self.incarnation)
        self.next_seq += 1
        self.flight.append(entry)
        return entry

    def tell(self, method: str, payload: bytes) -> None:
        """Put a tell into flight, and into the run; only where ``has_room``."""
        told = Told(None, cast(Any, None), self.next_seq, self.incarnation, False, method, payload)
        self.next_seq += 1
        self.flight.append(told)
        self.run.append(told)
        self.run_bytes += len(payload)

    def take_run(self) -> list[Told]:
        """What is to leave now: the caller transmits it."""
        run, self.run, self.run_bytes = self.run, [], 0
        return run

    def take(self) -> Entry | None:
        """The next entry to transmit now, or None while closed, full, or without window."""
        if self.state is not State.OPEN or not self.waiting or len(self.flight) >= self.window:
            return None
        entry = self.waiting.popleft()
        if entry.seq < 0:
            entry.seq = self.next_seq
            self.next_seq += 1
        entry.sent_to = self.incarnation
        self.flight.append(entry)
        return entry

    def accept(self, seq: int) -> list[Entry]:
        """Everything up to ``seq`` is in the mailbox; returns what is newly accepted."""
        flight = self.flight
        taken: list[Entry] = []
        while flight and flight[0].seq <= seq:
            entry = flight.popleft()
            entry.accepted = True
            taken.append(entry)
        if taken:
            self.redirects = 0
            self.refused = self.replaces = ()
        return taken

    def go_back(self, seq: int, attempt: int) -> bool:
        """``seq`` and all after it were refused in ``attempt``; False if that is old news.

        Attempt ``ANY`` takes back what had been taken on trial, whatever was said since.
        """
        if attempt not in (ANY, self.attempt) or not self.flight or self.flight[-1].seq < seq:
            return False
        self._return_flight(seq)
        self.attempt += 1
        return True

    def rewind(self, expected: int) -> None:
        """The receiver expects that number next: what is in flight from there goes again."""
        self._return_flight(expected)

    def _return_flight(self, seq: int) -> None:
        if self.run:
            self.run = [told for told in self.run if told.seq < seq]
            self.run_bytes = sum(len(told.payload) for told in self.run)
        while self.flight and self.flight[-1].seq >= seq:
            entry = self.flight.pop()
            entry.sent_to = ""
            self.waiting.appendleft(entry)

    def renumber(self, id: int) -> None:
        """Start anew under another stream id: nobody remembers the old one."""
        self._return_flight(-1)
        self.id = id
        self.next_seq = 0
        self.attempt = 0
        for entry in self.waiting:
            entry.seq = -1
        self.waiting = deque(e for e in self.waiting if not e.is_empty)

    def lose(self, unsent: Iterable[int] = ()) -> list[Entry]:
        """The session to ``incarnation`` is over: what was in flight there may have run.

        ``unsent`` are the numbers known never to have left; they go back to wait.
        """
        certain = {*unsent, *(told.seq for told in self.take_run())}
        gone = [e for e in self.flight if e.seq not in certain]
        if gone:
            self.replaces = (*self.replaces, self.id)[-REPLACED_MAX:]
        kept = [e for e in self.flight if e.seq in certain]
        self.flight.clear()
        for entry in reversed(kept):
            entry.sent_to = ""
            self.waiting.appendleft(entry)
        self.state = State.ROUTING
        self.incarnation = ""
        return gone

    def drop(self, entry: Entry) -> None:
        """The caller of ``entry`` waits no more."""
        if entry.seq < 0:
            self.waiting.remove(entry)
        entry.call = None  # a number once given is sent, as an empty message, to leave no gap
