"""Supervision: what errors and crashes do to an actor, by the rules alone and in life."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
from actors import Actor, Reason, SystemConfig, handler
from actors.kinds import KindOptions
from actors.supervision import Escalate, Restart, Stop, after_crash, after_handler_error
from tests.unit.actors.test_life import Sums

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    seen.clear()


# The decisions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "directive"),
    [("resume", type(None)), ("restart", Restart), ("stop", Stop), ("escalate", Escalate)],
)
def test_a_kind_chooses_what_a_handlers_exception_does(on_error: Any, directive: type) -> None:
    assert isinstance(after_handler_error(KindOptions(on_error=on_error), (), 0.0), directive)


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1000), max_size=12).map(sorted),
    st.integers(1, 8),
    st.floats(1, 500),
)
def test_a_crash_restarts_unless_there_were_too_many_in_the_window(
    crashes: list[float], restarts_max: int, window_s: float
) -> None:
    options = KindOptions(restarts_max=restarts_max, restart_window_s=window_s)
    now = crashes[-1] if crashes else 0.0
    recent = sum(now - at < window_s for at in crashes)
    directive = after_crash(options, crashes, now)
    assert isinstance(directive, Stop if recent >= restarts_max else Restart)


def test_the_pause_doubles_up_to_its_bound() -> None:
    options = KindOptions(backoff_s=0.5, backoff_max_s=3.0, restarts_max=9)
    pauses = [after_crash(options, [0.0] * n, 1.0) for n in range(5)]
    assert pauses == [Restart(0.5), Restart(1.0), Restart(2.0), Restart(3.0), Restart(3.0)]


# Handlers that raise ----------------------------------------------------------------------


class Base(Actor):
    state: Sums

    async def on_activate(self) -> None:
        seen.append(("activate", trio.current_time(), self.state.total))

    async def on_deactivate(self, reason: Reason) -> None:
        seen.append(("deactivate", reason))

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        return self.state.total

    @handler
    async def keep(self) -> None:
        await self.save()

    @handler
    async def boom(self) -> None:
        self.state.total += 1000
        raise LookupError("boom")

    @handler
    async def wait(self) -> None:
        await trio.sleep_forever()


class Resumes(Base):
    pass


class Restarts(Base, on_error="restart", backoff_s=1.0, backoff_max_s=60.0, restarts_max=3):
    pass


class Stops(Base, on_error="stop"):
    pass


async def _boom(ref: Base) -> None:
    with pytest.raises(actors.ActorError, match="LookupError: boom"):
        await ref.boom()


async def test_resume_leaves_the_actor_as_it_is(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Resumes, "a")
        await _boom(ref)
        assert await ref.add(1) == 1001
        assert [e[0] for e in seen] == ["activate"]


async def test_restart_begins_again_from_the_saved_state_after_a_pause(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Restarts, "a")
        await ref.add(5)
        await ref.keep()
        await _boom(ref)
        assert await ref.add(1) == 6
        assert seen == [("activate", 0.0, 0), ("activate", 1.0, 5)]


async def test_restart_cancels_what_else_runs_and_keeps_what_waits(
    autojump_clock: MockClock,
) -> None:
    class Wide(Restarts, max_concurrency=2):
        pass

    async with actors.open_system() as system:
        ref = system.ref(Wide, "a")
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(actors.OutcomeUnknown):
                    await ref.wait()

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await _boom(ref)
            await ref.add.tell(3)
            assert await ref.add(4) == 7


async def test_too_many_restarts_stop_the_actor_as_failed(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Restarts, "a")
        heard: list[actors.Terminated] = []

        async def watch() -> None:
            heard.append(await system.watch(ref))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for _ in range(4):
                await _boom(ref)
        assert trio.current_time() == pytest.approx(7, abs=0.1)  # pauses of 1, 2 and 4 seconds
        assert heard[0].reason is Reason.FAILED
        assert "crashed 4 times within 60 s (restarts_max=3)" in heard[0].error
        assert "boom" in system.failures[actors.actor_id("Restarts", "a")][0]
        assert await ref.add(1) == 1, "its next message starts it again, from the saved state"


async def test_crashes_long_ago_do_not_count(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Restarts, "a")
        for _ in range(10):
            await _boom(ref)
            await trio.sleep(61)
        assert await ref.add(1) == 1


async def test_stop_fails_the_actor_its_waiting_calls_and_tells_watchers(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Stops, "a")
        results: list[Any] = []

        async def ask() -> None:
            try:
                await ref.add(1)
            except actors.RoostError as exc:
                results.append(type(exc))

        async def watch() -> None:
            results.append((await system.watch(ref)).reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await wait_all_tasks_blocked()
            nursery.start_soon(_boom, ref)
            nursery.start_soon(ask)
        assert Reason.FAILED in results
        assert ("deactivate", Reason.FAILED) in seen


# run() and background tasks ---------------------------------------------------------------


class Agent(Base, backoff_s=1.0, backoff_max_s=60.0, restarts_max=3):
    crashes = 1

    async def run(self) -> None:
        seen.append(("run", trio.current_time()))
        await trio.sleep(5)
        if Agent.crashes:
            Agent.crashes -= 1
            raise LookupError("run failed")
        seen.append("done")

    @handler
    async def start_task(self, fails: bool) -> None:
        self.nursery.start_soon(self._task, fails)

    async def _task(self, fails: bool) -> None:
        try:
            await trio.sleep(1)
            if fails:
                raise LookupError("task failed")
            await trio.sleep_forever()
        finally:
            seen.append(("task ended", trio.current_time()))

    @handler
    async def stop_tasks(self) -> None:
        self.nursery.cancel_scope.cancel()


async def test_run_starts_with_the_actor_and_restarts_it_when_it_crashes(
    autojump_clock: MockClock,
) -> None:
    Agent.crashes = 1
    async with actors.open_system() as system:
        ref = await system.spawn(Agent, "a")
        await trio.sleep(20)
        assert [e for e in seen if e[0] == "run"] == [("run", 0.0), ("run", 6.0)]
        assert seen[-1] == "done"
        assert await ref.add(1) == 1


async def test_an_agent_whose_run_goes_on_is_not_idle(autojump_clock: MockClock) -> None:
    Agent.crashes = 0
    async with actors.open_system(config=SystemConfig(idle_after_s=2)) as system:
        await system.spawn(Agent, "a")
        await trio.sleep(4.5)
        assert len(system.activations) == 1
        await trio.sleep(4.5)
        assert not system.activations


async def test_a_background_task_that_crashes_restarts_the_actor(
    autojump_clock: MockClock,
) -> None:
    Agent.crashes = 0
    async with actors.open_system() as system:
        ref = system.ref(Agent, "a")
        await ref.start_task(True)
        await trio.sleep(3)
        assert [e for e in seen if e[0] == "activate"] == [
            ("activate", 0.0, 0), ("activate", 2.0, 0),
        ]  # fmt: skip


async def test_background_tasks_end_with_the_actor(autojump_clock: MockClock) -> None:
    Agent.crashes = 0
    async with actors.open_system() as system:
        ref = system.ref(Agent, "a")
        await ref.start_task(False)
        await trio.sleep(3)
        await system.stop(ref)
        assert ("task ended", 3.0) in seen


async def test_a_nursery_that_the_actor_cancelled_opens_anew(autojump_clock: MockClock) -> None:
    Agent.crashes = 0
    async with actors.open_system() as system:
        ref = system.ref(Agent, "a")
        await ref.start_task(False)
        await trio.sleep(3)
        await ref.stop_tasks()
        await trio.sleep(1)
        assert ("task ended", 3.0) in seen
        await ref.start_task(False)
        await trio.sleep(3)
        await system.stop(ref)
        assert ("task ended", 7.0) in seen


class Hasty(Actor):
    async def on_activate(self) -> None:
        self.nursery.start_soon(self._task)
        await trio.sleep_forever()

    async def _task(self) -> None:
        raise LookupError("too early")

    @handler
    async def hi(self) -> None: ...


async def test_a_task_that_crashes_while_the_actor_starts_fails_the_start(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorFailed, match="LookupError: too early"):
            await system.ref(Hasty, "a").hi()
        await trio.sleep(1)
        assert not system.activations


class Ready(Actor):
    @handler
    async def start(self) -> str:
        return str(await self.nursery.start(self._task))

    async def _task(self, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("ready")
        await trio.sleep_forever()


async def test_nursery_start_waits_for_started(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        assert await system.ref(Ready, "a").start() == "ready"


# Timers -----------------------------------------------------------------------------------


class Clockwork(Actor):
    def __init__(self) -> None:
        self.timers: list[Any] = []
        self.running = 0

    async def on_activate(self) -> None:
        if self.key == "early":
            self.set_timer(self._tick, 0)
            await trio.sleep(1)

    @handler
    async def start(self, after_s: float, every_s: float = 0.0) -> None:
        self.timers.append(self.set_timer(self._tick, after_s, every_s=every_s))

    @handler
    async def cancel(self) -> None:
        for timer in self.timers:
            timer.cancel()
            timer.cancel()

    @handler
    async def busy(self, seconds: float) -> None:
        self.running += 1
        await trio.sleep(seconds)
        self.running -= 1

    async def _tick(self) -> None:
        assert not self.running, "a timer is a turn like any other"
        seen.append(round(trio.current_time(), 1))

    async def on_deactivate(self, reason: Reason) -> None:
        with pytest.raises(actors.NotDelivered):
            self.set_timer(self._tick, 1)


async def test_a_timer_fires_once_or_again_and_again(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Clockwork, "a")
        await ref.start(1.0)
        await ref.start(2.5, 2.0)
        await trio.sleep(7)
        assert seen == [1.0, 2.5, 4.5, 6.5]
        await ref.cancel()
        await trio.sleep(7)
        assert len(seen) == 4


async def test_a_timer_waits_for_the_turn_that_runs(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Clockwork, "a")
        await ref.start(1.0)
        await ref.busy(3.0)
        await ref.busy(0.0)
        assert seen == [3.0]


async def test_a_timer_set_in_on_activate_is_not_lost(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await system.spawn(Clockwork, "early")
        await trio.sleep(1)
        assert seen == [1.0]


async def test_timers_keep_an_actor_awake_and_end_with_it(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(idle_after_s=2)) as system:
        ref = system.ref(Clockwork, "a")
        await ref.start(10.0, 10.0)
        await trio.sleep(25)
        assert seen == [10.0, 20.0]
        await system.stop(ref)
        await trio.sleep(60)
        assert len(seen) == 2


# Watching ---------------------------------------------------------------------------------


async def test_watchers_hear_of_a_stop_and_of_nothing_else(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Resumes, "a")
        heard: list[actors.Terminated] = []

        async def watch() -> None:
            heard.append(await system.watch(ref))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(watch)
            await ref.add(1)
            await _boom(ref)
            await trio.sleep(10_000)
            assert heard == []
            await system.stop(ref)
        assert heard == [actors.Terminated(actors.actor_id("Resumes", "a"), Reason.STOPPED)] * 3


async def test_a_watcher_that_leaves_is_forgotten(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(idle_after_s=2)) as system:
        ref = system.ref(Resumes, "a")
        with trio.move_on_after(10):
            await system.watch(ref)
        await trio.sleep(5)
        assert not system.activations


async def test_watching_what_cannot_start_hears_of_its_failure(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        terminated = await system.watch(system.ref(Hasty, "a"))
        assert terminated.reason is Reason.FAILED
        assert "too early" in terminated.error


# Escalation -------------------------------------------------------------------------------


class Parent(Base, backoff_s=1.0):
    async def run(self) -> None:
        await trio.sleep_forever()

    @handler
    async def adopt(self, key: str) -> None:
        await self.system.spawn(Child, key)


class Child(Base, on_error="escalate"):
    pass


async def test_escalate_stops_the_actor_and_crashes_the_one_that_spawned_it(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        parent, child = system.ref(Parent, "p"), system.ref(Child, "c")
        await parent.adopt("c")
        heard: list[actors.Terminated] = []

        async def watch() -> None:
            heard.append(await system.watch(child))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await wait_all_tasks_blocked()
            seen.clear()
            await _boom(child)
        assert heard[0].reason is Reason.FAILED
        await trio.sleep(2)
        assert seen == [("deactivate", Reason.FAILED), ("activate", 1.0, 0)]
        assert await parent.add(1) == 1


async def test_an_actor_that_nobody_spawned_stops_as_failed(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        child = await system.spawn(Child, "c")
        await _boom(child)
        await trio.sleep(1)
        assert not system.activations
        assert "boom" in system.failures[actors.actor_id("Child", "c")][0]


# Code that means to end a program ---------------------------------------------------------


class Quitter(Actor):
    starts = 0

    async def on_activate(self) -> None:
        Quitter.starts += 1
        if self.key == "at once":
            raise SystemExit(4)

    @handler
    async def quit(self) -> None:
        raise SystemExit(3)

    @handler
    async def quit_inside(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._quit_later)

    @handler
    async def quit_later(self) -> None:
        self.nursery.start_soon(self._quit_later)

    async def _quit_later(self) -> None:
        raise SystemExit(5)

    @handler
    async def count(self) -> int:
        return self.starts


async def test_sys_exit_in_an_actor_ends_no_more_than_an_exception_does(
    autojump_clock: MockClock,
) -> None:
    Quitter.starts = 0
    async with actors.open_system() as system:
        quitter = system.ref(Quitter, "a")
        with pytest.raises(actors.ActorError, match="SystemExit: 3"):
            await quitter.quit()
        with pytest.raises(actors.ActorError, match="SystemExit: 5"):
            await quitter.quit_inside()
        assert await quitter.count() == 1
        await quitter.quit_later()
        await trio.sleep(1)
        assert await quitter.count() == 2  # as after any crash of a background task
        with pytest.raises(actors.ActorFailed, match="could not start: SystemExit: 4"):
            await system.ref(Quitter, "at once").count()
