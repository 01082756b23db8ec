"""Two hosts ask each other's actors at full load, with windows and credit so small that each of
them waits for the other all the time: nobody may wait for ever."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actors
from tests.integration.cluster import count, keys_at, open_cluster
from tests.integration.cluster_app import Caller, Partner

PAIRS = 8
ASKS = count(100, 2_000)
PAYLOAD_BYTES = 500

TINY = [
    {"system": {"window": 1}, "link_credit_bytes": 100},  # less than one message
    {"system": {"window": 2, "mailbox_max": 2}, "link_credit_bytes": 1_500},
]


@pytest.mark.parametrize("config", TINY, ids=["one at a time", "two at a time"])
def test_hosts_that_ask_each_other_at_full_load_with_tiny_credits_do_not_deadlock(
    config: dict[str, Any],
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        partners = {
            name: [system.ref(Partner, key) for key in keys_at(system, Partner, name, PAIRS)]
            for name in ("host-1", "host-2")
        }
        answers: dict[str, int] = {}

        async def load(here: str, there: str) -> None:
            caller = system.ref(Caller, keys_at(system, Caller, here, 1)[0])
            ask = caller.load.with_options(timeout_s=100)
            answers[here] = await ask(partners[there], partners[here], ASKS, PAYLOAD_BYTES)

        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load, "host-1", "host-2")
            nursery.start_soon(load, "host-2", "host-1")
        took_s = trio.current_time() - began_s
        assert answers == {"host-1": PAIRS * ASKS, "host-2": PAIRS * ASKS}
        print(f"{config}: {2 * PAIRS * ASKS / took_s:.0f} asks/s, both ways together")

    with open_cluster() as cluster:
        for _ in range(2):
            cluster.add_host(config=config)
        cluster.wait_ready()
        cluster.play(scenario, within_s=120)
