"""Two hosts claim one actor at the same moment: both believe that the ring gives it to them, as
hosts do whose views differ. The registry's own contract is in tests/contract/test_registry.py."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import trio
from msgspec.structs import replace

import actors
from actors.system import System
from placement.ring import Ring
from tests.integration.cluster import Cluster, count, open_cluster, until
from tests.integration.cluster_app import Tally

ROUNDS = count(300, 1_000)


@contextmanager
def sole_owner(system: System) -> Any:
    """As long as the block lasts ``system`` takes itself for the ring's only member."""
    alone = [m for m in system.view.members if m.incarnation == system.me.incarnation]
    system.ring = Ring(replace(system.view, members=tuple(alone)))
    try:
        yield
    finally:
        system.ring = Ring(system.view)


async def two_hosts(cluster: Cluster, stack: AsyncExitStack) -> list[actors.HostSystem]:
    """Two hosts in this process, since only then is the moment really the same."""
    systems = [
        await stack.enter_async_context(
            actors.open_host(
                actors.HostConfig(
                    redis_url=cluster.redis_url, host_id=name, bind="127.0.0.1", port=0,
                    lease_ttl_s=3.0,
                ),
                [Tally],
            )
        )
        for name in ("left", "right")
    ]  # fmt: skip
    await until("both are up", lambda: all(_hosts_up(system) == 2 for system in systems))
    return systems


def _hosts_up(system: System) -> int:
    return sum(member.state == "up" for member in system.members.values())


def test_of_two_hosts_that_claim_at_once_one_wins_and_the_loser_routes_to_it() -> None:
    wins = {"left": 0, "right": 0}

    async def claim_once(systems: list[actors.HostSystem], epoch_before: int) -> int:
        refs = [system.ref(Tally, "a") for system in systems]
        target = refs[0].id
        for system in systems:
            system.router.ways.forget(target)  # nobody knows where it was
            outgoing = system.router.outgoing
            outgoing.sweep(outgoing.boxes(), math.inf)
        async with trio.open_nursery() as nursery:
            for ref in refs:
                nursery.start_soon(ref.add, 1)
        holders = [system for system in systems if target in system.activations]
        assert len(holders) == 1
        winner = holders[0]
        wins[winner.host_id] += 1
        epoch = winner.activations[target].epoch
        assert epoch > epoch_before
        loser = systems[1 - systems.index(winner)]
        assert loser.router.ways.get(target) == winner.me.incarnation
        assert await loser.stop(refs[0])
        return epoch

    async def main() -> None:
        async with AsyncExitStack() as stack:
            systems = await two_hosts(cluster, stack)
            epoch = 0
            with sole_owner(systems[0]), sole_owner(systems[1]):
                for _ in range(ROUNDS):
                    epoch = await claim_once(systems, epoch)
                attempts = sum(system.activations_total for system in systems)
                assert await systems[0].ref(Tally, "a").add(0) == 2 * ROUNDS
            assert attempts == 2 * ROUNDS  # both claimed, each time
            assert all(wins.values()), wins

    with open_cluster() as cluster:
        actors.run(bounded, main)


async def bounded(main: Any) -> None:
    with trio.fail_after(120):
        await main()
