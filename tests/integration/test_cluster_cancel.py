"""Cancellation and deadlines across processes, measured on the clock that they share."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import trio

import actors
import wire
from actors import DeadlineExceeded
from tests.integration.cluster import Cluster, keys_at, until
from tests.integration.cluster_app import Sleeper, Source

TRIES = 9


async def cancel_when_it_runs(sleeper: Any, sleep: Any) -> float:
    """Call ``sleep``, cancel the call once its handler runs; how long that took to end it."""
    begun = await sleeper.begun()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)

        async def runs() -> bool:
            return bool(await sleeper.begun() > begun)

        await until("the handler runs", runs)
        nursery.cancel_scope.cancel()
        cancelled_at = time.monotonic()
    return float(await sleeper.ended_at()) - cancelled_at


@pytest.mark.parametrize("caller", ["a host", "a client of another host"])
def test_a_cancelled_scope_cancels_the_handler_on_another_host_within_100_ms(
    two_hosts: Cluster, caller: str
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        (key,) = keys_at(system, Sleeper, "host-1", 1)
        sleeper = system.ref(Sleeper, key)
        async with wire.trio_connect(two_hosts.hosts["host-2"].address) as client:

            async def sleep() -> None:
                if caller == "a host":
                    await sleeper.sleep(60)
                else:
                    await client.ask("Sleeper", key, "sleep", 60)

            took_s = [await cancel_when_it_runs(sleeper, sleep) for _ in range(TRIES)]
        shown = ", ".join(f"{1000 * one_s:.1f}" for one_s in sorted(took_s))
        print(f"cancelled by {caller}: handlers ended after {shown} ms")
        assert 0 < statistics.median(took_s) < 0.1, shown

    two_hosts.play(scenario)


def test_a_deadline_ends_the_handler_though_its_caller_can_say_nothing(two_hosts: Cluster) -> None:
    """The caller's process is frozen from before the deadline until after the handler's end."""

    async def scenario(system: actors.HostSystem) -> None:
        (asking,) = keys_at(system, Sleeper, "host-2", 1)
        (asked,) = keys_at(system, Sleeper, "host-1", 1, prefix="deadline")
        sleeper = system.ref(Sleeper, asked)
        errors: list[actors.ActorError] = []

        async def ask() -> None:
            try:
                await system.ref(Sleeper, asking).ask(sleeper, 60.0, 1.0)
            except actors.ActorError as exc:
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until("the handler runs", sleeper.begun)
            began_at = time.monotonic()
            two_hosts.hosts["host-2"].freeze()
            try:
                ended_at = await sleeper.ended_at()  # waits for the handler's end
            finally:
                two_hosts.hosts["host-2"].thaw()
        print(f"a deadline of 1 s ended the handler {ended_at - began_at:.3f} s after it was seen")
        assert 0 < ended_at - began_at < 2.0  # well inside the lease of the frozen host
        assert [exc.type_name for exc in errors] == ["DeadlineExceeded"]

    two_hosts.play(scenario)


def test_a_deadline_that_passes_is_told_to_the_caller_and_the_actor_goes_on(
    two_hosts: Cluster,
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        (key,) = keys_at(system, Sleeper, "host-1", 1, prefix="late")
        sleeper = system.ref(Sleeper, key)
        began_s = trio.current_time()
        with pytest.raises(DeadlineExceeded, match=f"Sleeper/{key}.sleep"):
            await sleeper.sleep.with_options(timeout_s=0.3)(60)
        assert 0.3 <= trio.current_time() - began_s < 2.0
        assert await sleeper.ended_at() > 0

    two_hosts.play(scenario)


def test_a_stream_left_early_ends_its_handler_on_the_other_host(two_hosts: Cluster) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        (key,) = keys_at(system, Source, "host-1", 1)
        source = system.ref(Source, key)
        async with source.items(1_000_000_000, 10) as items:
            assert (await anext(items))[0] == 0
            assert (await anext(items))[0] == 1
        # One message at a time: another stream of the actor's starts only after the first's end.
        with trio.fail_after(10):
            assert [number async for number, _ in source.items(3, 10)] == [0, 1, 2]

    two_hosts.play(scenario)
