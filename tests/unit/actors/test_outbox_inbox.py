"""Outbox and inbox together: a sender, a receiver that moves, fills up and forgets, and links
that lose their sessions. Whatever the order of events, each message is taken once and in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from actors.calls import Sender
from actors.inbox import Inbox, Incoming, Verdict
from actors.outbox import ANY, Entry, Outbox, State, Told
from wire.ids import ActorId
from wire.items import Refusal

TARGET = ActorId("Kind", "key")


class Message(NamedTuple):
    """What an envelope says. ``number`` 0: its caller is gone."""

    stream: int
    seq: int
    attempt: int
    number: int
    replaces: tuple[int, ...] = ()


class Answer(NamedTuple):
    """Accepted (no reason), Refused, or Resume (seq -1)."""

    stream: int
    seq: int
    attempt: int = 0
    reason: Refusal | None = None
    expected: int = 0
    location: str = ""


def _number(entry: Entry) -> int:
    """The message's own; 0: its caller is gone."""
    return int(entry.payload) if isinstance(entry, Told) else cast(Any, entry.call) or 0


@dataclass
class Place:
    """A host that may run the actor, and the two ways between it and the sender."""

    name: str
    inbox: Inbox | None = None  # None: the actor is not here
    there: deque[list[Message]] = field(default_factory=deque)
    late: deque[list[Message]] = field(default_factory=deque)  # of a session that is over
    back: deque[Answer] = field(default_factory=deque)


class Stream(RuleBasedStateMachine):
    """One sender's messages to one actor."""

    @initialize(window=st.integers(1, 4), mailbox_max=st.integers(1, 3))
    def begin(self, window: int, mailbox_max: int) -> None:
        self.box = Outbox(1, Sender(), TARGET, window)
        self.places = [Place("a", Inbox()), Place("b"), Place("c")]
        self.home = self.places[0]
        self.mailbox_max = mailbox_max
        self.mailbox: deque[int] = deque()
        self.taken: list[int] = []
        self.pushed = 0
        self.abandoned: set[int] = set()
        self.lost: set[int] = set()
        self.next_stream = 1
        self._open("a")

    # The sender, as actors.outgoing drives it ---------------------------------------------

    def _open(self, place: str) -> None:
        self.box.incarnation = place
        self.box.state = State.OPEN
        self._pump()

    def _pump(self) -> None:
        self.send_run()
        while (entry := self.box.take()) is not None:
            self._transmit([entry])

    def _transmit(self, entries: Sequence[Entry]) -> None:
        box = self.box
        row = [
            Message(box.id, e.seq, box.attempt, _number(e), () if e.seq else box.replaces)
            for e in entries
        ]
        self._place(box.incarnation).there.append(row)

    def _place(self, name: str) -> Place:
        return next(place for place in self.places if place.name == name)

    def _renumber(self) -> None:
        self.next_stream += 1
        self.box.renumber(self.next_stream)

    def _on_answer(self, place: Place, answer: Answer) -> None:
        box = self.box
        if answer.stream != box.id:
            return
        if answer.seq < 0:
            if box.state is State.FULL:
                self._open(box.incarnation)
        elif answer.reason is None:
            box.accept(answer.seq)
            if box.waiting:
                self._pump()
        elif box.incarnation == place.name and box.go_back(answer.seq, answer.attempt):
            self._on_refused(answer)

    def _on_refused(self, answer: Answer) -> None:
        box = self.box
        match answer.reason:
            case Refusal.FULL:
                box.state = State.FULL
            case Refusal.MOVED:
                self._open(answer.location or self.home.name)
            case Refusal.UNKNOWN_STREAM:
                self._renumber()
                self._open(box.incarnation)
            case Refusal.GAP:
                oldest = min([e.seq for e in (*box.flight, *box.waiting) if e.seq >= 0],
                             default=box.next_seq)  # fmt: skip
                if answer.expected < oldest:
                    self._renumber()
                else:
                    box.rewind(answer.expected)
                self._open(box.incarnation)

    @rule(count=st.integers(1, 3))
    def push(self, count: int) -> None:
        for _ in range(count):
            self.pushed += 1
            self.box.push(cast(Any, self.pushed))
        self._pump()

    @precondition(lambda self: self.box.has_room())
    @rule(count=st.integers(1, 3))
    def tell(self, count: int) -> None:
        """Tells that wait for others to leave with."""
        for _ in range(count):
            if self.box.has_room():
                self.pushed += 1
                self.box.tell("note", str(self.pushed).encode())

    @rule()
    def send_run(self) -> None:
        if self.box.run:
            self._transmit(self.box.take_run())

    @precondition(lambda self: self.box.waiting or self.box.flight)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        """A caller waits no more for its message."""
        entries = [e for e in (*self.box.flight, *self.box.waiting) if e.call is not None]
        if entries:
            entry: Entry = data.draw(st.sampled_from(entries))
            self.abandoned.add(cast(Any, entry.call))
            self.box.drop(entry)

    # The receiver, as actors.receiver drives it -------------------------------------------

    @precondition(lambda self: any(place.there for place in self.places))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([p for p in self.places if p.there]))
        self._receive(place, place.there.popleft())

    def _receive(self, place: Place, row: list[Message]) -> None:
        """A row in one, if all of it may be taken; else one by one."""
        key, first = ("sender", row[0].stream), row[0]
        if (
            first.seq
            and all(message.number for message in row)
            and place.inbox is not None
            and len(self.mailbox) + len(row) <= self.mailbox_max
            and place.inbox.judge(key, first.seq, first.attempt) is Verdict.ACCEPT
        ):
            place.inbox.accept(key, 0.0, 100, len(row))
            self.mailbox.extend(message.number for message in row)
            return
        for message in row:
            self._receive_one(place, message)

    def _receive_one(self, place: Place, message: Message) -> None:
        if place.inbox is None:
            self._refuse(place, message, Refusal.MOVED, self.home.name)
            return
        key = ("sender", message.stream)
        verdict = place.inbox.judge(key, message.seq, message.attempt)
        if verdict is Verdict.GAP:
            self._refuse(place, message, Refusal.GAP)
        elif verdict is Verdict.UNKNOWN:
            self._refuse(place, message, Refusal.UNKNOWN_STREAM)
        elif verdict is Verdict.DUPLICATE:
            place.back.append(Answer(message.stream, place.inbox.streams[key].expected - 1))
        elif verdict is Verdict.ACCEPT:
            if message.number and len(self.mailbox) >= self.mailbox_max:
                self._refuse(place, message, Refusal.FULL)
                return
            place.inbox.accept(key, 0.0, 100)
            for over in message.replaces:
                place.inbox.end(("sender", over), 0.0, 100)
            if message.number:
                self.mailbox.append(message.number)

    def _refuse(self, place: Place, message: Message, reason: Refusal, location: str = "") -> None:
        key, expected = ("sender", message.stream), 0
        if place.inbox is not None:
            self._confirm(place)
            place.inbox.refuse(key, message.attempt, until_room=reason is Refusal.FULL)
            stream = place.inbox.streams.get(key)
            expected = stream.expected if stream is not None else 0
        place.back.append(
            Answer(message.stream, message.seq, message.attempt, reason, expected, location)
        )

    def _confirm(self, place: Place) -> None:
        assert place.inbox is not None
        for (_, number), stream in place.inbox.streams.items():
            if stream.acknowledged < stream.expected:
                stream.acknowledged = stream.expected
                place.back.append(Answer(number, stream.expected - 1))

    @precondition(lambda self: any(place.late for place in self.places))
    @rule(data=st.data())
    def deliver_late(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([p for p in self.places if p.late]))
        self._receive(place, place.late.popleft())

    @precondition(lambda self: any(place.back for place in self.places))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([p for p in self.places if p.back]))
        self._on_answer(place, place.back.popleft())

    @rule()
    def confirm_late(self) -> None:
        self._confirm(self.home)

    @precondition(lambda self: self.mailbox)
    @rule()
    def run(self) -> None:
        self.taken.append(self.mailbox.popleft())
        inbox = self.home.inbox
        assert inbox is not None
        if inbox.blocked and len(self.mailbox) * 2 <= self.mailbox_max:
            blocked, inbox.blocked = inbox.blocked, {}
            for _, stream in blocked:
                self.home.back.append(Answer(stream, -1))

    # What happens to the actor ------------------------------------------------------------

    @rule(to=st.sampled_from(["a", "b", "c"]))
    def move(self, to: str) -> None:
        """A handoff: the mailbox and the table of streams go along."""
        if to == self.home.name:
            return
        old, new = self.home, self._place(to)
        self._confirm(old)
        assert old.inbox is not None
        for _, stream in old.inbox.blocked:
            old.back.append(Answer(stream, -1))
        new.inbox = Inbox()
        for key, incoming in old.inbox.streams.items():
            stream_there = new.inbox.streams[key] = Incoming()
            stream_there.take_over(incoming.next_or_ended, 0.0)
        old.inbox, self.home = None, new

    @precondition(lambda self: not self.mailbox)
    @rule(to=st.sampled_from(["a", "b", "c"]))
    def passivate(self, to: str) -> None:
        """It stops, and starts again somewhere, with no memory of its streams: not before all
        that is under way from sessions that are over has come."""
        for place in self.places:
            place.late.clear()
        self._confirm(self.home)
        assert self.home.inbox is not None
        for _, stream in self.home.inbox.blocked:
            self.home.back.append(Answer(stream, -1))
        self.home.inbox = None
        self.home = self._place(to)
        self.home.inbox = Inbox()

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def lose_session(self, name: str) -> None:
        """The link's session is over, and both sides know: no answer comes any more, and what was
        on its way is gone, or comes late."""
        place, box = self._place(name), self.box
        place.late.extend(place.there)
        place.there.clear()
        place.back.clear()
        if place.inbox is not None:
            place.inbox.blocked.clear()
            for stream in place.inbox.streams.values():
                stream.acknowledged = stream.expected
        if box.incarnation == name:
            for entry in box.lose():
                self.lost.add(_number(entry))
            self._renumber()
            self._open(self.home.name)

    # What must hold -----------------------------------------------------------------------

    @invariant()
    def once_and_in_order(self) -> None:
        if hasattr(self, "taken"):
            came = [*self.taken, *self.mailbox]
            assert came == sorted(set(came)), came

    @invariant()
    def the_window_is_respected(self) -> None:
        if hasattr(self, "box"):
            assert len(self.box.flight) <= self.box.window
            assert len(self.mailbox) <= self.mailbox_max

    def teardown(self) -> None:
        """Left alone, everything arrives but what was abandoned, or under way in a lost session."""
        if not hasattr(self, "box"):
            return
        for _ in range(10_000):
            for place in self.places:
                while place.there:
                    self._receive(place, place.there.popleft())
                while place.back:
                    self._on_answer(place, place.back.popleft())
            if self.mailbox:
                self.run()
            elif self.box.is_idle:
                break
            elif self.box.run:
                self.send_run()
            else:
                self.confirm_late()
        self.once_and_in_order()
        missing = set(range(1, self.pushed + 1)) - set(self.taken)
        assert missing <= self.abandoned | self.lost, missing


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# One rule at a time -----------------------------------------------------------------------


def box_with(count: int, window: int = 10) -> Outbox:
    box = Outbox(7, Sender(), TARGET, window)
    box.state, box.incarnation = State.OPEN, "a"
    for number in range(1, count + 1):
        box.push(cast(Any, number))
    return box


def take_all(box: Outbox) -> list[int]:
    taken: list[int] = []
    while (entry := box.take()) is not None:
        taken.append(entry.seq)
    return taken


def test_numbers_are_given_in_order_and_no_further_than_the_window() -> None:
    box = box_with(5, window=3)
    assert take_all(box) == [0, 1, 2]
    assert not box.has_room()
    assert [entry.seq for entry in box.accept(1)] == [0, 1]
    assert take_all(box) == [3, 4]


def test_a_refusal_takes_back_what_followed_and_raises_the_attempt() -> None:
    box = box_with(4)
    take_all(box)
    assert box.go_back(2, 0)
    assert box.attempt == 1
    assert [e.seq for e in box.flight] == [0, 1]
    assert [e.seq for e in box.waiting] == [2, 3]
    assert not box.go_back(3, 0), "of the attempt before: old news"
    assert take_all(box) == [2, 3]


def test_what_was_taken_on_trial_comes_back_whatever_the_attempt() -> None:
    box = box_with(2)
    take_all(box)
    box.go_back(1, 0)
    take_all(box)
    assert box.go_back(0, ANY)
    assert [e.seq for e in box.waiting] == [0, 1]


def test_a_lost_session_loses_what_was_under_way_but_not_what_never_left() -> None:
    box = box_with(5, window=4)
    take_all(box)
    gone = box.lose(unsent=[2, 3])
    assert [e.seq for e in gone] == [0, 1]
    assert [e.seq for e in box.waiting] == [2, 3, -1]
    assert box.state is State.ROUTING
    box.renumber(8)
    box.state = State.OPEN
    assert take_all(box) == [0, 1, 2]


@pytest.mark.parametrize(
    ("seq", "attempt", "verdict"),
    [(0, 1, Verdict.DUPLICATE), (1, 1, Verdict.ACCEPT), (2, 1, Verdict.GAP), (1, 0, Verdict.TOLD)],
)
def test_an_inbox_judges_by_number_and_attempt(seq: int, attempt: int, verdict: Verdict) -> None:
    inbox, key = Inbox(), ("a", 1)
    assert inbox.judge(key, 1, 0) is Verdict.UNKNOWN
    assert inbox.judge(key, 0, 0) is Verdict.ACCEPT
    inbox.accept(key, 0.0, 10)
    inbox.refuse(key, 0, until_room=False)
    assert inbox.judge(key, seq, attempt) is verdict


def test_an_inbox_remembers_so_many_streams_and_forgets_the_longest_idle() -> None:
    inbox = Inbox()
    for n in range(4):
        inbox.accept(("a", n), float(n), 3)
    assert list(inbox.streams) == [("a", 1), ("a", 2), ("a", 3)]
    inbox.forget_idle(before=2.5)
    assert list(inbox.streams) == [("a", 3)]


def test_tells_of_a_run_that_has_not_left_are_not_lost_with_the_session() -> None:
    box = box_with(1)
    take_all(box)
    box.tell("note", b"1")
    box.tell("note", b"2")
    assert [_number(entry) for entry in box.lose()] == [1]
    assert [_number(entry) for entry in box.waiting] == [1, 2]
    assert not box.run


def test_a_run_that_is_taken_back_does_not_leave_twice() -> None:
    box = box_with(1)
    take_all(box)
    box.tell("note", b"1")
    assert box.go_back(0, 0)
    assert not box.run
    assert take_all(box) == [0, 1]


def test_a_run_behind_what_is_asked_for_again_is_kept() -> None:
    box = box_with(0)
    box.tell("note", b"1")
    box.rewind(1)
    assert [told.seq for told in box.take_run()] == [0]


def test_a_told_message_keeps_its_place_and_what_it_says_when_a_new_stream_begins() -> None:
    box = box_with(0)
    box.tell("note", b"1")
    box.renumber(8)
    entry = box.take()
    assert isinstance(entry, Told)
    assert (entry.seq, entry.method, entry.payload) == (0, "note", b"1")


def test_what_a_lost_stream_still_brings_is_dropped_once_its_successor_has_begun() -> None:
    box, inbox = box_with(1), Inbox()
    take_all(box)
    assert [_number(entry) for entry in box.lose()] == [1]
    box.renumber(8)
    assert box.replaces == (7,)
    inbox.accept(("sender", 8), 0.0, 100)
    inbox.end(("sender", 7), 0.0, 100)
    assert inbox.judge(("sender", 7), 0, 0) is Verdict.TOLD
    moved = Incoming()
    moved.take_over(inbox.streams["sender", 7].next_or_ended, 0.0)
    assert moved.next_or_ended == -1


def test_a_stream_that_was_lost_with_nothing_under_way_has_left_nothing_behind() -> None:
    box = box_with(1)
    take_all(box)
    box.accept(0)
    assert box.lose() == []
    assert box.replaces == ()
