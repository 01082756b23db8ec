"""Actors in processes and threads of their own, in one local system."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest
import trio

from actors import (
    ActorError,
    ActorFailed,
    DeadlineExceeded,
    InvalidArgument,
    NoCapacity,
    OutcomeUnknown,
    SystemConfig,
    open_system,
    with_timeout,
)
from actors.isolation.processes import Processes
from placement.memory import MemoryStore
from tests.integration.isolated_app import (
    Dies,
    Isolated,
    Plain,
    Small,
    Stubborn,
    Threaded,
    Unwilling,
)
from tests.integration.shell import lives

PATIENCE_S = 20.0


@pytest.fixture
async def system():
    async with open_system([Isolated, Plain]) as system:
        yield system


async def pid_other_than(ref: Isolated, pid: int) -> int:
    """Its process once that is a new one. A call under way when the old one dies is lost."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                if (found := await ref.pid()) != pid:
                    return found
            except OutcomeUnknown:
                pass
            await trio.sleep(0.01)


async def gone(pid: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while lives(pid):
            await trio.sleep(0.01)


async def test_each_actor_has_a_process_of_its_own_forked_from_one_server(system):
    a, b = system.ref(Isolated, "a"), system.ref(Isolated, "b")
    pids = {await a.pid(), await b.pid()}
    assert len(pids | {os.getpid()}) == 3
    assert await a.parent() == await b.parent()
    assert await a.where() == "local"


async def test_a_child_finds_imported_what_is_listed_to_be_preloaded():
    module = "wsgiref.simple_server"  # nothing else imports it
    for preload in ((), (module,)):
        async with open_system([Isolated], config=SystemConfig(preload=preload)) as system:
            assert await system.ref(Isolated, "a").has_imported(module) == bool(preload)


async def test_calls_streams_errors_and_cycles_are_as_in_the_host(system):
    a, b = system.ref(Isolated, "a"), system.ref(Isolated, "b")
    assert await a.add(2) == 2
    await a.add.tell(3)
    assert await a.add(0) == 5
    assert [i async for i in a.count(100)] == list(range(100))
    assert await a.add_to(b, 7) == 7
    assert await a.sum_of(b, 50) == sum(range(50))
    assert await system.ref(Plain, "p").call(a) == 105
    with pytest.raises(ActorError, match="ValueError: on purpose") as caught:
        await a.boom()
    assert "in boom" in caught.value.remote_traceback
    with pytest.raises(InvalidArgument, match="'n'"):
        await system.ask("Isolated/a", "add", "x")
    with pytest.raises(ActorError, match="CallCycle"):
        await a.ask_plain_back(system.ref(Plain, "p"))


async def test_a_stream_that_is_left_ends_in_the_child(system):
    a = system.ref(Isolated, "a")
    async with a.count(10_000_000) as items:
        async for i in items:
            if i == 5:
                break
    assert await a.add(1) == 1


async def test_a_cancelled_call_is_cancelled_over_there(system):
    a = system.ref(Isolated, "a")
    with pytest.raises(DeadlineExceeded):
        await with_timeout(a, 0.1).slow(60)
    with trio.move_on_after(0.1):
        await a.slow(60)
    with trio.fail_after(PATIENCE_S):
        assert await a.add(1) == 1


async def test_state_outlives_a_stop_and_the_hook_has_run(system):
    a = system.ref(Isolated, "a")
    await a.add(5)
    pid = await a.pid()
    assert await system.stop(a)
    await gone(pid)
    assert await a.add(0) == 5
    assert await a.left() == "stopped"


async def test_state_moves_to_a_later_system_at_shutdown():
    store = MemoryStore()
    async with open_system([Isolated], store=store) as system:
        await system.ref(Isolated, "a").add(5)
        pid = await system.ref(Isolated, "a").pid()
    assert not lives(pid)
    async with open_system([Isolated], store=store) as system:
        assert await system.ref(Isolated, "a").add(0) == 5


@pytest.mark.parametrize("crash", ["crash", "loop"])
async def test_a_crash_or_an_endless_loop_hurts_nobody_else_and_is_supervised(system, crash):
    a, b = system.ref(Isolated, "a"), system.ref(Isolated, "b")
    await a.add(5)
    await a.save_now()
    await a.add(1)
    pid, other = await a.pid(), await b.pid()
    with pytest.raises((OutcomeUnknown, DeadlineExceeded)):
        await getattr(with_timeout(a, 0.3), crash)()
    with trio.fail_after(1.0):
        assert await b.pid() == other
    with trio.fail_after(PATIENCE_S):
        assert await a.add(0) == 5  # what was saved
    assert await a.pid() != pid
    await gone(pid)


async def test_a_process_killed_from_outside_starts_again(system):
    a = system.ref(Isolated, "a")
    pid = await a.pid()
    os.kill(pid, signal.SIGKILL)
    assert await pid_other_than(a, pid)


async def test_too_many_crashes_are_a_failure(system):
    a = system.ref(Isolated, "a")
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await a.crash()
    watched = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            watched.append(await system.watch(a))

        nursery.start_soon(watch)
        await trio.sleep(0.1)
        with pytest.raises(OutcomeUnknown):
            await a.crash()
    assert "SIGSEGV" in watched[0].error


async def test_a_crash_in_the_background_restarts_it(system):
    a = system.ref(Isolated, "a")
    pid = await a.pid()
    await a.fail_later()
    assert await pid_other_than(a, pid)


async def test_memory_is_bounded():
    async with open_system([Small, Isolated]) as system:
        small = system.ref(Small, "a")
        pid = await small.pid()
        assert await small.eat(16) == 16 << 20
        with pytest.raises((ActorError, OutcomeUnknown), match=r"MemoryError|process"):
            await small.eat(1024)
        assert await pid_other_than(small, pid)


async def test_timers_and_background_work_in_the_child(system):
    a = system.ref(Isolated, "a")
    await a.tick(0.05)
    with trio.fail_after(PATIENCE_S):
        while await a.add(0) < 1000:
            await trio.sleep(0.01)


async def test_an_actor_that_cannot_start_says_why_and_leaves_no_process():
    async with open_system([Unwilling, Dies]) as system:
        with pytest.raises(ActorFailed, match="RuntimeError: not today"):
            await system.spawn(Unwilling, "a")
        with pytest.raises(ActorFailed, match="exited with 3"):
            await system.spawn(Dies, "a")
        with trio.fail_after(PATIENCE_S):
            while system.activations:
                await trio.sleep(0.01)
        assert not system.processes._children


async def test_processes_are_capped_also_in_a_rush():
    async with open_system([Isolated], config=SystemConfig(processes_max=3)) as system:
        results = []

        async def spawn(n: int) -> None:
            try:
                results.append(await system.ref(Isolated, str(n)).pid())
            except NoCapacity:
                results.append(0)

        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(spawn, n)
        assert sorted(results)[:5] == [0] * 5
        assert len(set(results)) == 4


async def test_stubborn_children_are_ended_all_at_once():
    config = SystemConfig(deactivate_timeout_s=0.5)
    async with open_system([Stubborn], config=config) as system:
        refs = [system.ref(Stubborn, str(n)) for n in range(4)]
        pids = []
        for ref in refs:
            await ref.be_deaf()
            pids.append(await ref.pid())
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 6
    assert not any(lives(pid) for pid in pids)


async def test_children_end_themselves_past_the_lease(system, monkeypatch):
    a = system.ref(Isolated, "a")
    pid = await a.pid()
    monkeypatch.setattr(Processes, "_set_deadline", lambda self: None)
    system.processes._deadline.set(-math.inf)
    await gone(pid)


async def test_a_lost_fork_server_is_started_anew(system):
    a = system.ref(Isolated, "a")
    pid, server = await a.pid(), await a.parent()
    os.kill(server, signal.SIGKILL)
    await gone(pid)
    await pid_other_than(a, pid)
    assert await a.parent() != server


async def test_blocking_code_in_threads_leaves_the_loop_alone():
    async with open_system([Threaded]) as system:
        here = await system.ref(Threaded, "a").name()
        began_s = time.monotonic()
        names = []

        async def block(key: str) -> None:
            names.append(await system.ref(Threaded, key).block(0.3))

        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(block, str(n))
            assert await system.ref(Threaded, "x").name() == here
            assert time.monotonic() - began_s < 0.25
        assert time.monotonic() - began_s < 1.2
        assert here not in names
