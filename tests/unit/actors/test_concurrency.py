"""Turns: one at a time unless a handler or a kind says otherwise; blocking code in threads."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
import actors.testing
from actors import Actor, handler
from tests.unit.actors.cluster_kit import key_owned_by


class Turns(Actor):
    def __init__(self) -> None:
        self.now = self.most = 0
        self.order: list[int] = []

    @handler
    async def turn(self, n: int, seconds: float = 1.0) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        self.order.append(n)
        await trio.sleep(seconds)
        self.now -= 1
        return self.most

    @handler(reentrant=True)
    async def peek(self) -> int:
        return self.now


class Wide(Turns, max_concurrency=3):
    pass


class Free(Turns, reentrant=True):
    pass


async def _ask_at_once(ref: Turns, count: int) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(count):
            nursery.start_soon(ref.turn, n)
            await wait_all_tasks_blocked()


@pytest.mark.parametrize(("kind", "most", "seconds"), [(Turns, 1, 6), (Wide, 3, 2), (Free, 6, 1)])
async def test_as_many_turns_run_at_once_as_the_kind_allows(
    autojump_clock: MockClock, kind: type[Turns], most: int, seconds: float
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(kind, "a")
        await _ask_at_once(ref, 6)
        assert trio.current_time() == pytest.approx(seconds)
        assert await ref.turn(9) == most


@pytest.mark.parametrize("is_local", [True, False])
async def test_told_turns_run_beside_each_other_as_asked_ones_do(
    autojump_clock: MockClock, is_local: bool
) -> None:
    async with actors.testing.open_cluster([Wide], hosts=2) as cluster:
        caller, other = cluster.hosts
        ref = caller.ref(Wide, key_owned_by(caller if is_local else other, Wide))
        await ref.turn(0, 0)
        for n in range(6):
            await ref.turn.tell(n)
        assert await ref.turn(6) == 3


async def test_turns_of_a_wide_actor_start_in_the_order_of_their_messages(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Wide, "a")
        await _ask_at_once(ref, 9)
        activation = system.activations[actors.actor_id("Wide", "a")]
        assert activation.actor.order == list(range(9))  # type: ignore[attr-defined]


async def test_a_reentrant_handler_runs_while_another_does(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Turns, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.turn, 1)
            nursery.start_soon(ref.turn, 2)
            await wait_all_tasks_blocked()
            assert await ref.peek() == 1
            assert trio.current_time() == 0


class Crowded(Turns, mailbox_max=3):
    @handler(reentrant=True)
    async def beside(self, seconds: float) -> None:
        await trio.sleep(seconds)


class Other(Actor):
    @handler
    async def peek(self, at: Turns) -> int:
        return await at.peek()


async def test_a_reentrant_message_runs_beside_a_turn_that_it_came_with(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Turns, "a")
        for n in (1, 2):
            ref.turn.tell_nowait(n)  # all come before the actor has begun to run
        assert await ref.peek() == 1
        assert trio.current_time() == 0


class Notes(Actor):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @handler
    async def note(self, n: int) -> None:
        self.seen.append(n)

    @handler(reentrant=True)
    def all(self) -> list[int]:
        return self.seen


async def test_a_reentrant_message_overtakes_none_that_need_not_wait(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Notes, "a")
        for n in range(100):
            ref.note.tell_nowait(n)
            if n % 10 == 0:
                assert await ref.all() == list(range(n + 1))


async def test_a_full_mailbox_does_not_keep_out_what_runs_beside_its_handler(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Crowded, "a")
        async with trio.open_nursery() as nursery:
            for n in range(6):  # one runs, three wait in the mailbox, two for room
                nursery.start_soon(ref.turn, n)
                await wait_all_tasks_blocked()
            assert await system.ref(Other, "b").peek(ref) == 1
            assert trio.current_time() == 0


async def test_a_senders_own_order_holds_before_a_full_mailbox_too(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Crowded, "a")
        async with trio.open_nursery() as nursery:
            for n in range(6):
                nursery.start_soon(ref.turn, n)
                await wait_all_tasks_blocked()
            await ref.peek()
            assert trio.current_time() == 2  # when the last of its elders was let in


async def test_reentrant_turns_are_bounded_by_the_mailbox(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Crowded, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.turn, 0, 10)
            await wait_all_tasks_blocked()
            for _ in range(3):
                nursery.start_soon(ref.beside, 5)
            await wait_all_tasks_blocked()
            with pytest.raises(actors.MailboxFull, match=r"Crowded/a\.beside"):
                ref.beside.tell_nowait(1)
            await ref.beside(1)  # waits until there is room
            assert trio.current_time() == 6


async def test_a_sync_handler_is_a_turn_like_any_other(autojump_clock: MockClock) -> None:
    class Plain(Actor):
        @handler
        def double(self, n: int) -> int:
            return 2 * n

    async with actors.open_system() as system:
        assert await system.ref(Plain, "a").double(4) == 8


async def test_a_handler_may_call_its_siblings_directly(autojump_clock: MockClock) -> None:
    class Siblings(Actor):
        @handler
        async def inner(self) -> str:
            return self.key

        @handler
        async def outer(self) -> str:
            return await self.inner() + "!"

    async with actors.open_system() as system:
        assert await system.ref(Siblings, "a").outer() == "a!"


class Blocking(Actor):
    def __init__(self) -> None:
        self.thread = ""
        self.left_at = 0.0

    @handler
    async def block(self, gate: int) -> str:
        def work() -> str:
            assert GATES[gate].wait(10)
            return threading.current_thread().name

        self.thread = await self.run_blocking(work)
        return self.thread

    @handler
    async def fail(self) -> None:
        def work() -> None:
            raise LookupError("in the thread")

        await self.run_blocking(work)

    async def on_deactivate(self, reason: actors.Reason) -> None:
        LEFT.append(self.thread)


GATES: dict[int, threading.Event] = {}
LEFT: list[str] = []


async def test_blocking_code_runs_in_a_thread_and_others_go_on() -> None:
    GATES[1] = threading.Event()
    async with actors.open_system() as system:
        ref, names = system.ref(Blocking, "a"), []

        async def ask() -> None:
            names.append(await ref.block(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked(0.01)
            assert await system.ref(Turns, "b").turn(1, 0) == 1
            assert system.activations[actors.actor_id("Blocking", "a")].threads == 1
            GATES[1].set()
        assert names != [threading.current_thread().name]


async def test_stopping_waits_for_blocking_code() -> None:
    GATES[2] = threading.Event()
    LEFT.clear()
    async with actors.open_system() as system:
        ref = system.ref(Blocking, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.block, 2)
            await wait_all_tasks_blocked(0.01)
            nursery.start_soon(system.stop, ref)
            await wait_all_tasks_blocked(0.01)
            assert LEFT == []
            GATES[2].set()
        assert len(LEFT) == 1
        assert LEFT[0]


async def test_what_blocking_code_raises_is_the_handlers_error() -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorError, match="LookupError: in the thread"):
            await system.ref(Blocking, "a").fail()
