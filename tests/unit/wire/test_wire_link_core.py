"""What links decide, step by step, with pipes and a clock held in the hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.link_worlds import Recorder
from wire.errors import ProtocolError
from wire.handshake import read_hello, write_hello
from wire.items import (
    PROTOCOL_VERSION,
    Batch,
    Envelope,
    Goaway,
    Hello,
    Reply,
    decode_batch,
    encode_batch,
)  # fmt: skip
from wire.link_config import LinkConfig
from wire.link_core import LinkCore
from wire.link_end import LinkEnd
from wire.ports import Peer

ME = Peer("me", "me-1", "10.0.0.1:1")
THEM = Peer("them", "them-1", "10.0.0.2:1")


EARLY_ITEMS = LinkConfig().early_items


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Keeps what is to be called; ``turn`` calls what is due, ``expire`` what has a delay."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.timers: list[Timer] = []

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> None:
        self.soon.append(lambda: callback(*args))

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer:
        timer = Timer(lambda: callback(*args))
        self.timers.append(timer)
        return timer

    def turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def expire(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.call()


class Pipe:
    def __init__(self) -> None:
        self.writable = True
        self.written: list[Batch] = []
        self.closed = ""
        self.aborted = False

    def write(self, batch: bytes) -> None:
        assert self.writable
        self.written.append(decode_batch(batch))

    def close(self, reason: str) -> None:
        self.closed = reason

    def abort(self) -> None:
        self.aborted = True


class Links(LinkCore):
    def __init__(self) -> None:
        self.handler = Recorder(answers=True)
        self.handler.links = self
        self.loop = Loop()
        self.dialed: list[LinkEnd] = []
        super().__init__(ME, "c", self.handler, LinkConfig(), self.loop)

    def _dial(self, end: LinkEnd) -> None:
        self.dialed.append(end)

    def dial(self) -> tuple[LinkEnd, Pipe]:
        """Answer for THEM whom we dialed."""
        end, pipe = self.dialed[-1], Pipe()
        hello = read_hello(self.hello(end))
        self.welcome(end, their_hello(session=hello.session), pipe)
        return end, pipe


def their_hello(session: str = "them-1-1", received: int = 0, resume: bool = False) -> bytes:
    return write_hello(
        Hello(
            PROTOCOL_VERSION,
            "c",
            *THEM,
            target="me-1",
            session=session,
            received=received,
            resume=resume,
        )
    )


def call(number: int) -> Envelope:
    return Envelope(0, number, 0, number, "Kind", "key", "m", 1, 0, b"")


def batch(number: int, *items: Any, received: int = 0) -> bytes:
    return encode_batch(Batch(number, received, list(items)))


def test_what_comes_over_a_pipe_that_was_replaced_counts_no_more() -> None:
    links, old, new = Links(), Pipe(), Pipe()
    end = links.admit(their_hello(), old)
    links.receive(end, old, batch(1, call(1)))
    assert links.admit(their_hello(resume=True), new) is end
    assert old.aborted
    assert read_hello(encode_batch(new.written[0])).received == 1
    links.receive(end, old, batch(2, call(2)))
    links.broken(end, old, "late news")
    assert links.handler.calls == [1]
    assert end.pipe is new


def test_nothing_is_written_before_the_other_sides_hello() -> None:
    links = Links()
    links.send(THEM, call(1))
    links.loop.turn()
    _, pipe = links.dial()
    assert [item for written in pipe.written for item in written.items] == [call(1)]


def test_many_sends_make_one_batch() -> None:
    links = Links()
    links.send(THEM, Goaway("x"))
    _, pipe = links.dial()
    for number in range(EARLY_ITEMS - 1):
        links.send(THEM, call(number))
    assert len(pipe.written) == 1
    links.loop.turn()
    assert [len(written.items) for written in pipe.written] == [1, EARLY_ITEMS - 1]


def test_of_very_many_sends_the_first_leave_before_the_last_are_made() -> None:
    links = Links()
    links.send(THEM, Goaway("x"))
    _, pipe = links.dial()
    for number in range(2 * EARLY_ITEMS + 1):
        links.send(THEM, call(number))
    assert [len(written.items) for written in pipe.written] == [1, EARLY_ITEMS, EARLY_ITEMS]
    links.loop.turn()
    numbers = [item.call for written in pipe.written[1:] for item in written.items]
    assert numbers == list(range(2 * EARLY_ITEMS + 1))


def test_nothing_leaves_early_where_the_pipe_takes_nothing() -> None:
    links = Links()
    links.send(THEM, Goaway("x"))
    _, pipe = links.dial()
    pipe.writable = False
    for number in range(2 * EARLY_ITEMS):
        links.send(THEM, call(number))
    links.loop.turn()
    assert len(pipe.written) == 1


def test_an_acknowledgement_rides_on_the_answer_or_goes_alone_after_its_delay() -> None:
    links, pipe = Links(), Pipe()
    end = links.admit(their_hello(), pipe)
    links.receive(end, pipe, batch(1, call(1)))
    links.loop.turn()
    assert pipe.written[1:] == [Batch(1, 1, [Reply(1, 0, 0, 0, b"")])]
    links.loop.expire()
    assert len(pipe.written) == 2
    links.receive(end, pipe, batch(2, Goaway("x")))
    links.loop.turn()
    assert len(pipe.written) == 2
    links.loop.expire()
    assert pipe.written[2:] == [Batch(0, 2, [])]


def test_an_acknowledgement_that_could_not_be_written_is_not_forgotten() -> None:
    links, pipe = Links(), Pipe()
    end = links.admit(their_hello(), pipe)
    pipe.writable = False
    links.receive(end, pipe, batch(1, Goaway("x")))
    links.loop.expire()
    assert len(pipe.written) == 1
    pipe.writable = True
    links.flush(end)
    links.loop.expire()
    assert pipe.written[1:] == [Batch(0, 1, [])]


def test_a_pipe_that_is_not_writable_holds_back_what_waits() -> None:
    links = Links()
    links.send(THEM, call(1))
    end, pipe = links.dial()
    pipe.writable = False
    links.send(THEM, call(2))
    links.loop.turn()
    assert len(pipe.written) == 1
    pipe.writable = True
    links.flush(end)
    assert pipe.written[1].items == [call(2)]


def test_a_large_backlog_leaves_the_loop_its_turns() -> None:
    links = Links()
    links.send(THEM, call(0))
    _, pipe = links.dial()
    pipe.writable = False
    for number in range(1, 512 * 10):
        links.send(THEM, call(number))
    pipe.writable = True
    links.loop.soon.pop(0)()
    assert 0 < len(pipe.written) < 10
    links.loop.turn()
    assert sum(len(written.items) for written in pipe.written) == 512 * 10


def test_answers_take_the_session_their_call_came_on_and_calls_the_dialed_one() -> None:
    links, theirs = Links(), Pipe()
    links.send(THEM, call(7))
    _, ours = links.dial()
    end = links.admit(their_hello(), theirs)
    links.receive(end, theirs, batch(1, call(1)))
    links.send(THEM, call(8))
    links.loop.turn()
    assert theirs.written[1].items == [Reply(1, 0, 0, 0, b"")]
    assert [written.items for written in ours.written] == [[call(7)], [call(8)]]


def answer(number: int) -> Reply:
    return Reply(number, 0, 0, 0, b"")


def test_an_answer_does_not_overtake_those_that_left_on_the_dialed_session() -> None:
    """Of two sessions either may be the faster one: items of a stream came in a wrong order."""
    links, theirs = Links(), Pipe()
    links.send(THEM, answer(1))
    _, ours = links.dial()
    end = links.admit(their_hello(), theirs)
    links.receive(end, theirs, batch(1, call(2)))
    links.send(THEM, answer(3))
    links.loop.turn()
    assert [written.items for written in ours.written] == [
        [answer(1)], [answer(2), answer(3)]
    ]  # fmt: skip
    assert not any(written.number for written in theirs.written)


def test_answers_that_wait_for_a_connection_go_by_the_one_that_comes_first() -> None:
    links, theirs = Links(), Pipe()
    links.send(THEM, answer(1))
    links.send(THEM, call(7))
    links.admit(their_hello(), theirs)
    links.send(THEM, answer(2))
    links.loop.turn()
    assert [w.items for w in theirs.written if w.number] == [[answer(1)], [answer(2)]]
    _, ours = links.dial()
    links.send(THEM, answer(3))
    links.loop.turn()
    assert [w.items for w in ours.written] == [[call(7)]]
    assert theirs.written[-1].items == [answer(3)]


def test_a_loss_takes_both_sessions_and_is_told_once() -> None:
    links, theirs = Links(), Pipe()
    links.send(THEM, call(7))
    _, ours = links.dial()
    end = links.admit(their_hello(), theirs)
    links.lose(end, "enough")
    assert (theirs.closed, ours.closed) == ("enough", "enough")
    links.lose(end, "again")
    links.drop(THEM.incarnation, "again")
    assert links.handler.lost == [(THEM, "enough")]
    assert links.statistics() == ()


def test_the_welcome_of_a_session_that_is_over_is_refused() -> None:
    links = Links()
    links.send(THEM, call(1))
    hello = read_hello(links.hello(links.dialed[0]))
    links.drop(THEM.incarnation, "dead")
    with pytest.raises(ProtocolError, match="over"):
        links.welcome(links.dialed[0], their_hello(session=hello.session), Pipe())


def test_another_incarnation_of_this_host_ends_the_sessions_of_the_former() -> None:
    links, pipe = Links(), Pipe()
    links.admit(their_hello(), pipe)
    links.become(ME._replace(incarnation="me-2"), "rejoined")
    assert pipe.closed == "rejoined"
    assert links.handler.lost == [(THEM, "rejoined")]
    with pytest.raises(ProtocolError, match="me-2"):
        links.admit(their_hello(), Pipe())
    links.send(THEM, call(1))
    assert read_hello(links.hello(links.dialed[-1])).incarnation == "me-2"
