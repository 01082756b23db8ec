"""A cluster under everything at once: hosts die, join, drain and are cut off; links break. No
acknowledged turn is lost or done twice, no two hosts run one actor, and afterwards all answers.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import trio
from trio.testing import MockClock

import actors
import actors.testing
from actors.testing import Cluster, ClusterConfig
from tests.unit.actors import cluster_kit as kit
from tests.unit.actors.cluster_kit import Account

KEYS = [f"k{n}" for n in range(12)]
STORM_S = 20.0


class Ledger:
    """What callers know: what was acknowledged, and what may have happened."""

    def __init__(self) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()

    async def add(self, host: actors.HostSystem, key: str, seconds: float) -> None:
        try:
            await actors.with_timeout(host.ref(Account, key), 5).add(1, seconds)
        except actors.RoostError as exc:
            self.ends[exc.code] += 1
            if exc.may_have_run:
                self.unknown[key] += 1
        else:
            self.ends["ok"] += 1
            self.acknowledged[key] += 1


async def _use(cluster: Cluster, ledger: Ledger, rng: Random) -> None:
    while True:
        await ledger.add(rng.choice(cluster.hosts), rng.choice(KEYS), rng.uniform(0, 0.05))
        await trio.sleep(rng.uniform(0, 0.1))


async def _tell(cluster: Cluster, name: str, rng: Random) -> None:
    """Numbered tells from the first host that lives; the numbers go on where it dies."""
    n = 0
    while True:
        for key in KEYS[:3]:
            try:
                await actors.with_timeout(cluster.hosts[0].ref(Account, key), 5).record.tell(
                    name, n
                )
            except actors.RoostError:
                await trio.sleep(0.1)
        n += 1
        await trio.sleep(rng.uniform(0, 0.1))


async def _trouble(cluster: Cluster, rng: Random) -> None:
    until = trio.current_time() + STORM_S
    cut_off: set[str] = set()
    async with trio.open_nursery() as nursery:
        while trio.current_time() < until:
            await trio.sleep(rng.uniform(0.2, 3))
            host = rng.choice(cluster.hosts)
            match rng.choice(["kill", "drain", "add", "isolate", "heal", "cut", "partition"]):
                case "kill" if len(cluster.hosts) > 2:
                    await cluster.kill(host)
                case "drain" if len(cluster.hosts) > 2:
                    nursery.start_soon(cluster.drain, host, 3.0)
                case "add" if len(cluster.hosts) < 6:
                    nursery.start_soon(cluster.add_host)
                case "isolate" if not cut_off:
                    cut_off.add(host.host_id)
                    cluster.isolate(host)
                case "heal":
                    cut_off.clear()
                    cluster.heal()
                case "cut":
                    cluster.network.cut_all()
                case "partition":
                    other = rng.choice(cluster.hosts)
                    cluster.network.partition(host.address, other.address)
        cluster.heal()


@pytest.mark.parametrize("seed", range(2))
async def test_acknowledged_turns_are_neither_lost_nor_doubled(
    autojump_clock: MockClock, seed: int
) -> None:
    kit.turns.clear()
    rng, ledger = Random(seed), Ledger()
    config = ClusterConfig(
        lease_ttl_s=4, delay_s=(0.0, 0.01), registry_delay_s=(0.0, 0.01), drain_timeout_s=3
    )
    async with actors.testing.open_cluster([Account], config=config, seed=seed) as cluster:
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(_use, cluster, ledger, rng)
            for n in range(2):
                nursery.start_soon(_tell, cluster, f"t{n}", rng)
            await _trouble(cluster, rng)
            nursery.cancel_scope.cancel()
        await trio.sleep(config.lease_ttl_s)  # a lease that was nearly over may still end
        with trio.fail_after(60):
            await cluster.wait_settled()
        kit.assert_turns_never_overlap_between_epochs()
        for key in KEYS[:3]:
            seen = kit.in_order_and_once(await cluster.hosts[0].ref(Account, key).recorded())
            assert seen, "some of it came"
        for host in cluster.hosts:
            for key in KEYS:
                total = await host.ref(Account, key).total()
                assert ledger.acknowledged[key] <= total, (key, ledger.ends)
                # A cancelled caller knows nothing either: one may be under way at the end.
                assert total <= ledger.acknowledged[key] + ledger.unknown[key] + 6, key
    assert ledger.ends["ok"] > 100, ledger.ends


class Lazy(Account, persist="passivate", idle_after_s=0.5):
    """Saved only when it leaves: at passivation, and with each planned move."""


@pytest.mark.parametrize("seed", range(2))
async def test_while_hosts_only_come_and_go_no_call_fails_and_no_state_is_lost(
    autojump_clock: MockClock, seed: int
) -> None:
    kit.turns.clear()
    rng = Random(seed)
    done: Counter[str] = Counter()
    stop = trio.Event()
    config = ClusterConfig(delay_s=(0.0, 0.01), registry_delay_s=(0.0, 0.01))
    async with actors.testing.open_cluster([Lazy], config=config, seed=seed) as cluster:
        caller = cluster.hosts[0]

        async def use(keys: list[str]) -> None:
            while not stop.is_set():
                key = rng.choice(keys)
                done[key] += 1
                assert await caller.ref(Lazy, key).add(1, rng.uniform(0, 0.05)) == done[key]
                await trio.sleep(rng.uniform(0, 0.3))

        async with trio.open_nursery() as nursery:
            for n in range(6):
                nursery.start_soon(use, [f"u{n}-{i}" for i in range(5)])
            for _ in range(15):
                await trio.sleep(rng.uniform(0.1, 2))
                match rng.choice(["add", "drain", "cut"]):
                    case "add" if len(cluster.hosts) < 6:
                        await cluster.add_host()
                    case "drain" if len(cluster.hosts) > 2:
                        await cluster.drain(rng.choice(cluster.hosts[1:]))
                    case "cut":
                        cluster.network.cut_all()
            stop.set()
        for key, count in done.items():
            assert await caller.ref(Lazy, key).total() == count
        kit.assert_turns_never_overlap_between_epochs()
