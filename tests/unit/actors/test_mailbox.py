"""Mailboxes: order, bounds, and what a full one does to asks, tells and tell_nowait."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
from actors import Actor, SystemConfig, handler

BUSY_S = 10.0


class Recorder(Actor, mailbox_max=4):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @handler
    async def block(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @handler
    async def record(self, n: int) -> None:
        self.seen.append(n)

    @handler
    def all(self) -> list[int]:
        return self.seen


class Sender(Actor):
    @handler
    async def send(self, to: Recorder, n: int) -> None:
        for i in range(n):
            await to.record.tell(i)


async def _fill(ref: Recorder, count: int = 4) -> None:
    """One handler at work for BUSY_S, and ``count`` messages that wait."""
    await ref.block.tell(BUSY_S)
    await wait_all_tasks_blocked()
    for n in range(count):
        ref.record.tell_nowait(n)


async def test_messages_of_one_sender_run_in_the_order_sent(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        for n in range(0, 100, 2):
            await ref.record.tell(n)
            await ref.record(n + 1)
        assert await ref.all() == list(range(100))


async def test_many_senders_keep_their_own_order(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")

        async def send(base: int) -> None:
            for n in range(50):
                await ref.record.tell(base + n)

        async with trio.open_nursery() as nursery:
            for base in range(0, 1000, 100):
                nursery.start_soon(send, base)
        seen = await ref.all()
        assert len(seen) == 500
        for base in range(0, 1000, 100):
            assert [n for n in seen if base <= n < base + 100] == list(range(base, base + 50))


async def test_an_actor_too_is_a_sender_whose_order_holds(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await system.ref(Sender, "s").send(ref, 50)
        assert await ref.all() == list(range(50))


async def test_a_full_mailbox_delays_a_tell_until_there_is_room(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref)
        await ref.record.tell(99)
        assert trio.current_time() == pytest.approx(BUSY_S)
        assert await ref.all() == [0, 1, 2, 3, 99]


async def test_tell_nowait_raises_mailbox_full_at_once(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref)
        with pytest.raises(actors.MailboxFull, match=r"Recorder/a\.record"):
            ref.record.tell_nowait(99)
        assert trio.current_time() == 0
        assert await ref.all() == [0, 1, 2, 3]


async def test_an_ask_that_finds_no_room_by_its_deadline_is_mailbox_full(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref)
        with pytest.raises(actors.MailboxFull, match="until the deadline"):
            await actors.with_timeout(ref, 2).record(99)
        assert trio.current_time() == pytest.approx(2, abs=0.01)
        assert await ref.all() == [0, 1, 2, 3]


async def test_a_tell_that_its_handler_cannot_take_is_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await ref.record.tell("x")  # type: ignore[arg-type]
        assert await ref.all() == []
    assert "Recorder/a was told, and did not run: Recorder.record: argument 'n'" in caplog.text


async def test_a_tell_may_have_a_deadline_too(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref)
        with pytest.raises(actors.MailboxFull):
            await ref.record.with_options(timeout_s=3).tell(99)
        assert trio.current_time() == pytest.approx(3, abs=0.01)


async def test_those_who_wait_for_room_are_served_in_their_order(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref)
        async with trio.open_nursery() as nursery:
            for n in range(10, 20):
                nursery.start_soon(ref.record.tell, n)
                await wait_all_tasks_blocked()
            with pytest.raises(actors.MailboxFull):
                ref.record.tell_nowait(99)
        assert await ref.all() == [0, 1, 2, 3, *range(10, 20)]


async def test_a_cancelled_tell_that_waited_for_room_is_not_sent(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref)
        with trio.move_on_after(1):
            await ref.record.tell(99)
        assert await ref.all() == [0, 1, 2, 3]


async def test_a_cancelled_ask_makes_room_for_one_that_waits(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Recorder, "a")
        await _fill(ref, 3)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def ask() -> None:
                with scope:
                    await ref.record(98)

            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            nursery.start_soon(ref.record.tell, 99)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert trio.current_time() == 0
            assert not nursery.child_tasks
        assert await ref.all() == [0, 1, 2, 99]


async def test_a_stuck_actor_does_not_hold_up_its_neighbours(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await _fill(system.ref(Recorder, "stuck"))
        for n in range(20):
            await system.ref(Recorder, "free").record(n)
        assert trio.current_time() == 0


class Open(Actor):
    @handler
    async def block(self) -> None:
        await trio.sleep(BUSY_S)


async def test_a_kind_without_a_bound_of_its_own_has_the_systems(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system(config=SystemConfig(mailbox_max=2)) as system:
        ref = system.ref(Open, "a")
        await ref.block.tell()
        await wait_all_tasks_blocked()
        ref.block.tell_nowait()
        ref.block.tell_nowait()
        with pytest.raises(actors.MailboxFull):
            ref.block.tell_nowait()
        assert len(system.activations[ref.id].queue or ()) == 2


async def test_a_tell_to_what_cannot_start_is_no_error_of_the_teller(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Actor):
        async def on_activate(self) -> None:
            raise RuntimeError("not today")

        @handler
        async def hi(self) -> None: ...

    async with actors.open_system() as system:
        with pytest.raises(actors.ActorFailed):
            await system.ref(Bad, "a").hi.tell()
        system.ref(Bad, "a").hi.tell_nowait()
        await trio.sleep(1)
        assert "not today" in caplog.text


async def test_what_a_told_handler_raises_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(Actor):
        @handler
        async def hi(self) -> None:
            raise RuntimeError("nobody hears me")

    async with actors.open_system() as system:
        await system.ref(Raises, "a").hi.tell()
        await trio.sleep(1)
    assert "nobody hears me" in caplog.text
