"""A storm of tells at an actor that does not get on: it stops at the mailbox's bound, and harms
nobody else on the host."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import actors
import wire
from actors import MailboxFull, SystemConfig
from tests.integration.cluster import Cluster, keys_at, until
from tests.integration.cluster_app import STUCK_MAILBOX_MAX, Storm, Stuck, Tally

TELLS = 20_000
WINDOW = SystemConfig().window
NEIGHBOUR_ASKS = 200


async def stands_still(reading: Callable[[], Awaitable[int]]) -> int:
    """The value that a growing number has come to rest at."""
    last, since_s = -1, trio.current_time()

    async def rests() -> bool:
        nonlocal last, since_s
        now = await reading()
        if now != last:
            last, since_s = now, trio.current_time()
        return trio.current_time() - since_s > 0.5

    await until("the storm stands still", rests)
    return last


async def ask_latency_s(neighbour: Any) -> list[float]:
    took_s = []
    for _ in range(NEIGHBOUR_ASKS):
        began_s = trio.current_time()
        await neighbour.add(1)
        took_s.append(trio.current_time() - began_s)
    return took_s


@pytest.mark.parametrize("storm_at", ["host-1", "host-2"], ids=["its own host", "another host"])
def test_a_storm_of_tells_stops_at_the_mailbox_bound_and_others_stay_responsive(
    two_hosts: Cluster, storm_at: str
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        prefix = f"at-{storm_at}-"
        stuck = system.ref(Stuck, keys_at(system, Stuck, "host-1", 1, prefix)[0])
        storm = system.ref(Storm, keys_at(system, Storm, storm_at, 1, prefix)[0])
        neighbour = system.ref(Tally, keys_at(system, Tally, "host-1", 1, prefix)[0])
        await stuck.hold.tell()
        await until("it is stuck", stuck.holds)
        async with trio.open_nursery() as nursery:
            blow = storm.blow.with_options(timeout_s=60)
            nursery.start_soon(blow, stuck, TELLS)

            async def is_full() -> bool:
                return await storm.told() >= STUCK_MAILBOX_MAX

            await until("the mailbox is full", is_full)
            told = await stands_still(storm.told)
            # Those that wait in the mailbox, and from elsewhere those that the window has taken.
            most = STUCK_MAILBOX_MAX + (0 if storm_at == "host-1" else WINDOW)
            assert told <= most

            took_s = await ask_latency_s(neighbour)
            print(
                f"from {storm_at}: stopped after {told} tells; a neighbour answers within "
                f"{1000 * statistics.median(took_s):.1f} ms (median), {1000 * max(took_s):.1f} ms"
            )
            assert statistics.median(took_s) < 0.25
            with pytest.raises(MailboxFull, match=f"Stuck/{stuck.key}.note"):
                await stuck.note.with_options(timeout_s=1.5)(-1)
            assert await storm.told() <= most

            await stuck.release()

        async def all_have_run() -> bool:  # the last ones were on their way when told
            return len(await stuck.notes()) >= TELLS

        await until("all that was told has run", all_have_run)
        assert await stuck.notes() == list(range(TELLS))  # each once, in order

    two_hosts.play(scenario)


def test_tell_nowait_is_refused_at_once_by_a_full_mailbox_on_another_host(
    two_hosts: Cluster,
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        stuck = system.ref(Stuck, keys_at(system, Stuck, "host-1", 1, "nowait-")[0])
        await stuck.hold.tell()
        await until("it is stuck", stuck.holds)
        sent = 0
        refused = ""
        while not refused:
            try:
                stuck.note.tell_nowait(sent)
            except MailboxFull as exc:
                refused = str(exc)
            else:
                sent += 1
            await trio.lowlevel.checkpoint()
        assert f"Stuck/{stuck.key}.note" in refused
        assert STUCK_MAILBOX_MAX <= sent <= STUCK_MAILBOX_MAX + system.config.window
        # By another sender: our own release would wait its turn behind our own tells.
        async with wire.trio_connect(two_hosts.hosts["host-1"].address) as client:
            await client.ask("Stuck", stuck.key, "release")
        assert await stuck.notes() == list(range(sent))

    two_hosts.play(scenario)
