"""When a host looks for garbage among all that it has, in virtual time."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
from actors import Actor, collector, handler
from actors.collector import DUE, OVERDUE_S, SHARE_MAX, STILL_S, Collector
from actors.system import System
from actors.testing import open_cluster


class Thinker(Actor):
    @handler
    async def think(self, seconds: float) -> None:
        await trio.sleep(seconds)


@asynccontextmanager
async def at_rest() -> AsyncIterator[tuple[System, Collector]]:
    """A system whose one actor has started long ago, and what its collector makes of it."""
    async with actors.open_system() as system:
        await system.ref(Thinker, "a").think(0)
        chosen = Collector(system)
        chosen.is_time(trio.current_time(), 0)
        await trio.sleep(STILL_S)
        yield system, chosen


async def test_nothing_is_collected_before_it_is_due(autojump_clock: MockClock) -> None:
    async with at_rest() as (_, chosen):
        assert not chosen.is_time(trio.current_time(), DUE - 1)
        assert chosen.is_time(trio.current_time(), DUE)


async def test_a_turn_that_runs_is_waited_for_but_not_for_ever(autojump_clock: MockClock) -> None:
    async with at_rest() as (system, chosen), trio.open_nursery() as nursery:
        think = system.ref(Thinker, "a").think.with_options(timeout_s=10 * OVERDUE_S)
        nursery.start_soon(think, 9 * OVERDUE_S)
        await wait_all_tasks_blocked()
        assert not chosen.is_time(trio.current_time(), DUE)
        await trio.sleep(OVERDUE_S - 1)
        assert not chosen.is_time(trio.current_time(), DUE)
        await trio.sleep(1)
        assert chosen.is_time(trio.current_time(), DUE)
        nursery.cancel_scope.cancel()


async def test_actors_that_come_put_it_off(autojump_clock: MockClock) -> None:
    async with at_rest() as (system, chosen):
        await system.ref(Thinker, "b").think(0)
        assert not chosen.is_time(trio.current_time(), DUE)
        await trio.sleep(STILL_S)
        assert chosen.is_time(trio.current_time(), DUE)


async def test_long_collections_are_seldom(autojump_clock: MockClock) -> None:
    async with at_rest() as (_, chosen):
        chosen.collected(trio.current_time(), took_s=0.5)
        await trio.sleep(0.5 / SHARE_MAX - 1)
        assert not chosen.is_time(trio.current_time(), DUE)
        await trio.sleep(1)
        assert chosen.is_time(trio.current_time(), DUE)


async def test_garbage_goes_and_python_has_its_own_thresholds_back(
    autojump_clock: MockClock,
) -> None:
    before = gc.get_threshold()
    gone: list[bool] = []

    class Knot:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            gone.append(True)

    try:
        async with actors.open_system() as system, trio.open_nursery() as nursery:
            nursery.start_soon(collector.run, system)
            await trio.sleep(STILL_S + 1)
            assert gc.get_threshold() != before
            Knot()
            for _ in range(DUE):
                gc.collect(1)  # by now it is old
            with trio.fail_after(2 * OVERDUE_S):
                while not gone:
                    await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert gc.get_threshold() == before
    finally:
        gc.unfreeze()


class Brief(Actor):
    @handler
    async def echo(self, text: str) -> str:
        return text

    @handler
    async def rest(self) -> None:
        self.passivate()


def rings_left(kinds: set[str]) -> set[str]:
    """Which of our objects only the garbage collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return kinds & {type(found).__name__ for found in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


OURS = {
    "Activation", "Brief", "WaitingCall", "Call", "Entry", "LocalInCall", "LocalTell",
    "RemoteInCall",
}  # fmt: skip


@pytest.mark.parametrize("hosts", [1, 2])
async def test_neither_calls_nor_actors_that_leave_need_the_collector(
    autojump_clock: MockClock, hosts: int
) -> None:
    async with open_cluster([Brief], hosts=hosts) as cluster:
        refs = [cluster.hosts[0].ref(Brief, f"b{n}") for n in range(20)]

        async def use_all() -> None:
            for ref in refs:
                assert await ref.echo("x") == "x"
                await ref.echo.tell("y")
                await ref.rest.tell()
            await trio.sleep(1)

        await use_all()  # what is made once stays
        gc.collect()
        gc.disable()
        try:
            await use_all()
            assert rings_left(OURS) == set()
        finally:
            gc.enable()
