"""A link session delivers each item once and in order, whatever happens to its connections."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wire.errors import InvalidArgument, ProtocolError
from wire.items import (
    PROTOCOL_VERSION,
    Batch,
    Envelope,
    Hello,
    Item,
    Resume,
    decode_batch,
    encode_batch,
    encode_item,
    join_batch,
)  # fmt: skip
from wire.link_config import LinkConfig
from wire.session import LinkSession

SMALL = LinkConfig(
    payload_bytes_max=2000, credit_bytes=300, batch_items_max=4, batch_bytes_max=400,
    room_bytes=600, room_items=8, ack_batches=3, ack_bytes=300,
)  # fmt: skip


def envelope(number: int, size: int = 10) -> Envelope:
    return Envelope(0, number, 0, 0, "Kind", "key", "m", 0, 0, b"x" * size)


def sizes(batch: bytes | None) -> list[int]:
    assert batch is not None
    return [len(encode_item(item)) for item in decode_batch(batch).items]


def items_of(batch: bytes | None) -> list[Item]:
    assert batch is not None
    return decode_batch(batch).items


def take_all(session: LinkSession) -> list[bytes]:
    return list(iter(session.take, None))


def test_batches_of_encoded_items_are_what_encode_batch_writes() -> None:
    for count in (0, 1, 15, 16, 17, 300, 70_000):
        items: list[Item] = [Resume(number) for number in range(count)]
        joined = join_batch(300, 7, [encode_item(item) for item in items])
        assert joined == encode_batch(Batch(300, 7, items))


def test_other_items_overtake_envelopes_that_wait_for_credit() -> None:
    session = LinkSession(SMALL)
    for number in range(10):
        session.push(envelope(number, 100))
    while session.take() is not None:
        pass
    session.push(Resume(1))
    assert items_of(session.take()) == [Resume(1)]
    assert session.take() is None
    assert session.backlog_items > 0


def test_what_is_handed_over_leaves_ahead_of_what_comes_and_envelopes_stay() -> None:
    session, other = LinkSession(SMALL), LinkSession(SMALL)
    for item in (Resume(1), envelope(1), Resume(2)):
        session.push(item)
    session.hand_over(other)
    other.push(Resume(3))
    assert items_of(other.take()) == [Resume(1), Resume(2), Resume(3)]
    assert items_of(session.take()) == [envelope(1)]
    for each, count in ((session, 1), (other, 1)):
        each.resume(count)
        assert (each.backlog_bytes, each.backlog_items) == (0, 0)


def test_credit_bounds_the_envelopes_that_are_not_acknowledged() -> None:
    sender, receiver = LinkSession(SMALL), LinkSession(SMALL)
    for number in range(20):
        sender.push(envelope(number, 50))
    batches = take_all(sender)
    assert sum(sum(sizes(batch)) for batch in batches) <= SMALL.credit_bytes
    for batch in batches:
        receiver.receive(batch)
    sender.receive(receiver.ack())
    assert sender.take() is not None


def test_an_envelope_over_the_credit_goes_alone() -> None:
    session = LinkSession(SMALL)
    session.push(envelope(0, 1000))
    session.push(envelope(1))
    assert len(sizes(session.take())) == 1
    assert session.take() is None
    session.receive(join_batch(0, 1, ()))
    assert items_of(session.take()) == [envelope(1)]


def test_an_item_over_the_batch_size_goes_alone_and_batches_are_bounded() -> None:
    session = LinkSession(SMALL)
    session.push(Hello(1, "c" * 1000, "", "", "", "", "", 0))
    for number in range(9):
        session.push(Resume(number))
    counts = [len(items_of(batch)) for batch in take_all(session)]
    assert counts == [1, 4, 4, 1]


def test_batches_stay_within_their_bytes() -> None:
    config = LinkConfig(batch_bytes_max=500)
    session = LinkSession(config)
    for number in range(100):
        session.push(envelope(number, 90))
        session.push(Resume(number))
    assert all(sum(sizes(batch)) <= 500 for batch in take_all(session))


def test_an_item_over_the_limit_is_refused_by_name() -> None:
    session = LinkSession(LinkConfig(payload_bytes_max=10))
    with pytest.raises(InvalidArgument, match="payload_bytes_max"):
        session.push(envelope(0, 10 + (1 << 20)))
    assert session.settled


def test_room_ends_at_the_mark_and_returns_at_half_of_it() -> None:
    session = LinkSession(SMALL)
    number = 0
    while session.has_room:
        session.push(envelope(number, 1))
        number += 1
    assert number == SMALL.room_items
    assert not session.has_ample_room
    while not session.has_ample_room:
        batch = session.take()
        assert batch is not None
        session.receive(join_batch(0, decode_batch(batch).number, ()))
    assert 0 < session.backlog_items <= SMALL.room_items // 2


def test_a_session_over_its_backlog_says_so() -> None:
    session = LinkSession(LinkConfig(backlog_bytes_max=1000))
    for _ in range(12):
        session.push(envelope(0, 60))
    while session.take() is not None:
        pass
    assert session.overflowed


def test_an_acknowledgement_falls_due_after_so_many_batches_or_bytes() -> None:
    sender, receiver = LinkSession(SMALL), LinkSession(SMALL)
    for number in range(3):
        assert not receiver.ack_due
        sender.push(Resume(number))
        receiver.receive(sender.take() or b"")
        assert receiver.ack_owed
    assert receiver.ack_due
    receiver.ack()
    assert not receiver.ack_due
    assert not receiver.ack_owed
    sender.push(envelope(0, 300))
    receiver.receive(sender.take() or b"")
    assert receiver.ack_due


def test_a_batch_that_was_seen_is_dropped() -> None:
    sender, receiver = LinkSession(SMALL), LinkSession(SMALL)
    sender.push(Resume(1))
    batch = sender.take() or b""
    assert receiver.receive(batch) == [Resume(1)]
    assert receiver.receive(batch) == []


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        b"\xc1garbage",
        encode_batch(Batch(2, 0, [Resume(1)])),
        encode_batch(Batch(-1, 0, [])),
        encode_batch(Batch(0, 0, [Resume(1)])),
        encode_batch(Batch(1, 1, [])),
        encode_batch(Batch(1, 0, [Hello(PROTOCOL_VERSION, "", "", "", "", "", "", 0)])),
    ],
    ids=["empty", "garbage", "gap", "negative", "items-unnumbered", "ack-unsent", "hello"],
)
def test_what_breaks_the_protocol_is_refused(batch: bytes) -> None:
    session = LinkSession(SMALL)
    with pytest.raises(ProtocolError):
        session.receive(batch)
    assert session.received == 0


def test_what_is_acknowledged_while_it_waits_to_go_again_stays_here() -> None:
    sender = LinkSession(SMALL)
    for number in range(3):
        sender.push(Resume(number))
        sender.take()
    sender.resume(0)
    sender.receive(join_batch(0, 2, ()))
    assert items_of(sender.take()) == [Resume(2)]
    assert sender.take() is None


def test_resuming_before_what_was_acknowledged_is_refused() -> None:
    session = LinkSession(SMALL)
    session.push(Resume(1))
    session.take()
    session.receive(join_batch(0, 1, ()))
    with pytest.raises(ProtocolError):
        session.resume(0)
    with pytest.raises(ProtocolError):
        session.resume(2)
    session.resume(1)


class _Side:
    def __init__(self) -> None:
        self.session = LinkSession(SMALL)
        self.sent: tuple[list[int], list[int]] = ([], [])  # envelopes, others
        self.got: tuple[list[int], list[int]] = ([], [])
        self.out: deque[bytes] = deque()  # under way on the connection that stands
        self.delivered = b""  # the last batch that the other side got on it


class SessionsUnderFire(RuleBasedStateMachine):
    """Two sessions joined by connections that break, lose their tail and repeat themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = (_Side(), _Side())
        self.counter = 0

    @rule(who=st.integers(0, 1), size=st.integers(0, 500))
    def push_envelope(self, who: int, size: int) -> None:
        self._push(who, 0, envelope(self.counter, size))

    @rule(who=st.integers(0, 1))
    def push_other(self, who: int) -> None:
        self._push(who, 1, Resume(self.counter))

    @rule(who=st.integers(0, 1))
    def take(self, who: int) -> None:
        batch = self.sides[who].session.take()
        if batch is not None:
            self.sides[who].out.append(batch)

    @rule(who=st.integers(0, 1))
    def acknowledge(self, who: int) -> None:
        self.sides[who].out.append(self.sides[who].session.ack())

    @rule(who=st.integers(0, 1), count=st.integers(1, 5))
    def deliver(self, who: int, count: int) -> None:
        side = self.sides[who]
        for _ in range(min(count, len(side.out))):
            side.delivered = side.out.popleft()
            self._receive(1 - who, side.delivered)

    @rule(who=st.integers(0, 1))
    def repeat(self, who: int) -> None:
        if self.sides[who].delivered:
            self._receive(1 - who, self.sides[who].delivered)

    @rule(keep=st.tuples(st.integers(0, 3), st.integers(0, 3)))
    def break_and_resume(self, keep: tuple[int, int]) -> None:
        for who in (0, 1):
            self.deliver(who, keep[who])
            self.sides[who].out.clear()
            self.sides[who].delivered = b""
        received = [side.session.received for side in self.sides]
        for who in (0, 1):
            self.sides[who].session.resume(received[1 - who])

    @invariant()
    def what_arrived_is_the_beginning_of_what_was_sent(self) -> None:
        for who in (0, 1):
            for kind in (0, 1):
                got = self.sides[1 - who].got[kind]
                assert got == self.sides[who].sent[kind][: len(got)]

    @invariant()
    def envelopes_in_flight_stay_within_the_credit(self) -> None:
        for side in self.sides:
            session = side.session
            flying = [sent.envelope_bytes for sent in session._retained if sent.envelope_bytes]
            assert sum(flying) <= SMALL.credit_bytes or len(flying) == 1

    def teardown(self) -> None:
        while not all(side.session.settled for side in self.sides):
            before = [repr(side.session) for side in self.sides]
            for who in (0, 1):
                self.take(who)
                self.acknowledge(who)
                self.deliver(who, len(self.sides[who].out))
            assert before != [repr(side.session) for side in self.sides], "no progress"
        for who in (0, 1):
            assert self.sides[1 - who].got == self.sides[who].sent

    def _push(self, who: int, kind: int, item: Item) -> None:
        self.sides[who].session.push(item)
        self.sides[who].sent[kind].append(self.counter)
        self.counter += 1

    def _receive(self, who: int, batch: bytes) -> None:
        side = self.sides[who]
        for item in side.session.receive(batch):
            if isinstance(item, Envelope):
                side.got[0].append(item.seq)
            else:
                assert isinstance(item, Resume)
                side.got[1].append(item.stream)


TestSessionsUnderFire = SessionsUnderFire.TestCase
TestSessionsUnderFire.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
