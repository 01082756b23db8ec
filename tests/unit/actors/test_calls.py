"""Calls: deadlines, cancellation, errors, cycles; in virtual time."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
from actors import Actor, SystemConfig, handler

log: list[Any] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Worker(Actor):
    @handler
    async def sleep(self, seconds: float) -> float:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            log.append(("cancelled", trio.current_time()))
            raise
        return seconds

    @handler
    async def relay(self, to: Worker, seconds: float) -> float:
        return await to.sleep(seconds)

    @handler
    async def stubborn(self, seconds: float) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)
            log.append("cleaned up")

    @handler
    async def fail(self, text: str) -> None:
        raise LookupError(text)

    @handler
    async def fail_in_nursery(self, text: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.fail, text)

    @handler
    async def fail_in_cleanup(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError("in cleanup")

    @handler
    async def hi(self) -> str:
        return "hi"

    @handler
    async def budget(self, to: Worker) -> float:
        start = trio.current_time()
        with pytest.raises(actors.DeadlineExceeded):
            await to.sleep(1000)
        return trio.current_time() - start

    @handler
    def wrong(self) -> int:
        return "not a number"  # type: ignore[return-value]

    @handler
    def unsendable(self) -> object:
        return object()


# Deadlines --------------------------------------------------------------------------------


async def test_an_ask_without_a_deadline_gets_the_systems(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(ask_timeout_s=7)) as system:
        with pytest.raises(actors.DeadlineExceeded, match=r"Worker/a\.sleep"):
            await system.ref(Worker, "a").sleep(100)
        assert trio.current_time() == pytest.approx(7, abs=0.01)


async def test_the_handler_is_cancelled_at_the_deadline(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        with pytest.raises(actors.DeadlineExceeded):
            await ref.sleep.with_options(timeout_s=2)(100)
        assert await ref.hi() == "hi"
        assert log == [("cancelled", pytest.approx(2, abs=0.01))]


async def test_a_deadline_never_fires_early(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        for n in range(1, 40):
            assert await ref.sleep.with_options(timeout_s=0.1 * n)(0.1 * n - 0.001)


async def test_with_timeout_holds_for_every_call_of_the_ref(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = actors.with_timeout(system.ref(Worker, "a"), 1)
        for _ in range(3):
            with pytest.raises(actors.DeadlineExceeded):
                await ref.sleep(5)
        assert trio.current_time() == pytest.approx(3, abs=0.05)


async def test_a_nested_call_inherits_what_is_left_of_the_deadline(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        a, b = system.ref(Worker, "a"), system.ref(Worker, "b")
        with pytest.raises(actors.DeadlineExceeded):
            await a.relay.with_options(timeout_s=3)(b, 100)
        await wait_all_tasks_blocked()
        assert log == [("cancelled", pytest.approx(3, abs=0.01))]


async def test_a_call_that_waits_in_the_mailbox_past_its_deadline_never_runs(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        await ref.sleep.tell(10)
        await wait_all_tasks_blocked()
        with pytest.raises(actors.DeadlineExceeded):
            await ref.sleep.with_options(timeout_s=1)(0)
        await trio.sleep(20)
        assert log == []


async def test_a_handler_that_will_not_be_cancelled_delays_nobody_but_its_actor(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        with pytest.raises(actors.DeadlineExceeded):
            await ref.stubborn.with_options(timeout_s=1)(5)
        assert trio.current_time() == pytest.approx(1, abs=0.01)
        assert await ref.hi() == "hi"
        assert log == ["cleaned up"]
        assert trio.current_time() == pytest.approx(6, abs=0.01)


# Cancellation -----------------------------------------------------------------------------


async def test_a_cancelled_caller_cancels_the_handler_at_once(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        with trio.move_on_after(2):
            await ref.sleep(100)
        assert await ref.hi() == "hi"
        assert log == [("cancelled", 2)]


async def test_cancellation_goes_down_a_chain_of_calls(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        a, b = system.ref(Worker, "a"), system.ref(Worker, "b")
        with trio.move_on_after(2):
            await a.relay(b, 100)
        await wait_all_tasks_blocked()
        assert log == [("cancelled", 2)]
        assert await a.hi() == await b.hi() == "hi"


async def test_a_cancelled_caller_of_a_waiting_message_takes_it_back(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        await ref.sleep.tell(10)
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await ref.fail("never runs")
        assert system.activations[ref.id].depth == 0


async def test_cancelling_one_turn_leaves_the_next_alone(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref, done = system.ref(Worker, "a"), []

        async def ask() -> None:
            done.append(await ref.sleep(3))

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                nursery.start_soon(ref.sleep, 0.5)
                await wait_all_tasks_blocked()
                nursery.start_soon(ask)
                await ref.sleep(100)
        assert done == [3]


async def test_an_error_raised_while_a_handler_is_cancelled_hurts_nobody_else(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        with trio.move_on_after(1):
            await ref.fail_in_cleanup()
        assert await ref.hi() == "hi"


# Errors -----------------------------------------------------------------------------------


async def test_what_a_handler_raises_reaches_its_caller_by_name_and_traceback(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        with pytest.raises(actors.ActorError) as caught:
            await ref.fail("no such thing")
        assert caught.value.type_name == "LookupError"
        assert caught.value.message == "no such thing"
        assert "in fail" in caught.value.remote_traceback
        assert caught.value.may_have_run
        assert await ref.hi() == "hi"


async def test_an_uncaught_actor_error_prints_the_handlers_traceback(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorError) as caught:
            await system.ref(Worker, "a").fail("no such thing")
        printed = "".join(traceback.format_exception(caught.value))
        assert "raised in the actor:" in printed
        assert "LookupError: no such thing" in printed.splitlines()


async def test_a_group_that_a_handler_raises_names_what_is_in_it(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorError, match="LookupError: lost") as caught:
            await system.ref(Worker, "a").fail_in_nursery("lost")
        assert caught.value.type_name == "ExceptionGroup"


async def test_a_result_that_is_not_what_the_handler_declares_is_the_actors_error(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Worker, "a")
        with pytest.raises(
            actors.ActorError, match=r"Worker\.wrong: wrong result: .*`int`"
        ) as caught:
            await ref.wrong()
        assert caught.value.may_have_run
        with pytest.raises(actors.ActorError, match="objects of type object cannot travel"):
            await ref.unsendable()


async def test_a_call_by_name_of_a_handler_that_is_none_names_those_there_are(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        await system.ref(Worker, "a").hi()
        with pytest.raises(actors.UnknownKind, match=r"no handler 'nope'.*'hi'"):
            await system.ask("Worker/a", "nope")
        with pytest.raises(actors.UnknownKind, match=r"Nobody"):
            await system.ask("Nobody/a", "hi")
        with pytest.raises(actors.InvalidArgument, match="not of the form Kind/key"):
            await system.ask("Worker", "hi")
        with pytest.raises(actors.InvalidArgument, match="no message that actors know"):
            await system.ask("Worker/a", "$boom")
        with pytest.raises(AttributeError, match=r"no handler 'nope'; it has \['budget'"):
            system.ref(Worker, "a").nope()  # type: ignore[attr-defined]


# Cycles -----------------------------------------------------------------------------------


class Node(Actor):
    """Calls on along a path of keys."""

    @handler
    async def walk(self, path: list[str]) -> list[str]:
        if not path:
            return [self.key]
        return [self.key, *await self.system.ref(type(self), path[0]).walk(path[1:])]

    @handler
    async def walk_in_nursery(self, path: list[str]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.system.ref(type(self), path[0]).walk, path[1:])

    @handler
    async def walk_later(self, path: list[str]) -> None:
        async def go() -> None:
            log.append(await self.system.ref(type(self), path[0]).walk(path[1:]))

        self.nursery.start_soon(go)
        await trio.sleep(1)

    @handler
    async def tell_on(self, path: list[str]) -> None:
        await self.system.ref(type(self), path[0]).walk.tell(path[1:])


class FreeNode(Node, reentrant=True):
    pass


class WideNode(Node, max_concurrency=2):
    pass


@pytest.mark.parametrize("path", [["a"], ["b", "a"], ["b", "c", "d", "a"], ["b", "c", "b"]])
async def test_a_call_cycle_is_an_error_at_once(autojump_clock: MockClock, path: list[str]) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorError) as caught:
            await system.ref(Node, "a").walk(path)
        assert caught.value.type_name == "CallCycle" or "CallCycle" in str(caught.value)
        assert trio.current_time() == 0


async def test_a_cycle_through_a_nursery_that_the_handler_waits_for_is_found(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorError) as caught:
            await system.ref(Node, "a").walk_in_nursery(["b", "a"])
        assert "CallCycle" in caught.value.remote_traceback


async def test_a_path_without_a_cycle_is_none(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        assert await system.ref(Node, "a").walk(["b", "c", "d"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kind", [FreeNode, WideNode])
async def test_actors_that_can_run_a_second_turn_are_in_no_cycle(
    autojump_clock: MockClock, kind: type[Node]
) -> None:
    async with actors.open_system() as system:
        assert await system.ref(kind, "a").walk(["b", "a"]) == ["a", "b", "a"]


async def test_a_wide_actor_whose_turns_are_all_taken_is_in_a_cycle(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorError, match="CallCycle"):
            await system.ref(WideNode, "a").walk(["b", "a", "c", "a"])


async def test_what_a_background_task_calls_is_no_part_of_the_handlers_chain(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        await system.ref(Node, "a").walk_later(["b", "a"])
        await trio.sleep(1)
        assert log == [["b", "a"]]


async def test_a_tell_to_a_waiting_actor_is_no_cycle(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await system.ref(Node, "a").tell_on(["a"])


class Starter(Actor):
    async def on_activate(self) -> None:
        if self.key == "a":
            await self.system.ref(Starter, "b").ask_back(self.ref)

    @handler
    async def ask_back(self, to: Starter) -> None:
        await to.hi()

    @handler
    async def hi(self) -> str:
        return "hi"


async def test_a_call_that_waits_for_an_actor_to_start_that_waits_for_it_is_a_cycle(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorFailed, match="CallCycle"):
            await system.ref(Starter, "a").hi()
        assert trio.current_time() == 0


class Leaver(Starter):
    async def on_activate(self) -> None: ...

    async def on_deactivate(self, reason: actors.Reason) -> None:
        if self.key == "a":
            try:
                await self.system.ref(Leaver, "b").ask_back(self.ref)
            except actors.RoostError as exc:
                log.append(str(exc))


async def test_so_is_one_that_waits_for_an_actor_to_stop(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await system.ref(Leaver, "a").hi()
        await system.stop(system.ref(Leaver, "a"))
        assert "CallCycle" in log[0]
        assert trio.current_time() == 0


async def test_a_chain_of_calls_has_a_longest_length(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(chain_max=5)) as system:
        path = [str(n) for n in range(4)]
        assert await system.ref(Node, "a").walk(path)
        with pytest.raises(actors.ActorError, match="chain of more than 5 calls"):
            await system.ref(Node, "a").walk([*path, "4", "5"])
