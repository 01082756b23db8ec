"""The autoscaler at work: pods come and go under load, actors follow, and no call fails."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio

from actors.routing import choose
from deploy import embedded
from placement.records import Member
from placement.redis_registry import RedisRegistry
from placement.ring import Ring
from tests.integration.cluster import free_port
from tests.integration.shell import COUNTER, environment
from tests.k8s.api_double import api_in_thread
from tests.k8s.deployment import Deployment
from tests.k8s.objects import NAMESPACE
from wire import loops
from wire.errors import RoostError
from wire.ids import ActorId
from wire.trio_client import TrioClient, trio_connect

CALLERS = 6
ACTORS = 240
LEASE_TTL_S = 12.0
ADDRESSES = [f"127.0.0.{n}" for n in range(11, 19)]
BALANCED_WITHIN_S = 30.0


class Cluster:
    """A deployment, and what its registry says of its actors."""

    def __init__(self, deployment: Deployment, redis_url: str, port: int) -> None:
        self.deployment = deployment
        self.addresses = [f"{address}:{port}" for address in ADDRESSES]
        self._redis_url = redis_url

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[RedisRegistry]:
        async with loops.open_crossing() as crossing:
            registry = RedisRegistry(self._redis_url, "default", cross=crossing.cross)
            try:
                yield registry
            finally:
                await registry.aclose()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three pods that are ready."""
    port = free_port()
    with embedded.serve() as redis, api_in_thread() as api:
        embedded.settle(redis.url)
        environ = environment(
            REDIS_URL=redis.url, ROOST_APP=str(COUNTER), K8S_NAMESPACE=NAMESPACE,
            DRAIN_TIMEOUT="10", HEARTBEAT_INTERVAL="2", LOG_FORMAT="text",
            LEASE_TTL=f"{LEASE_TTL_S:g}",
        )  # fmt: skip
        with Deployment(api, environ, port, ADDRESSES) as deployment:
            deployment.wait_ready([deployment.create() for _ in range(3)])
            yield Cluster(deployment, redis.url, port)


class Load:
    """Callers that count without pause, each on actors of its own: every answer must be one more
    than the last, so that a call which ran twice or never shows."""

    def __init__(self, name: str) -> None:
        self.calls = 0
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self.totals = {f"{name}-{n}": 0 for n in range(ACTORS)}

    async def create(self, client: TrioClient) -> None:
        async with trio.open_nursery() as nursery:
            for caller in range(CALLERS):
                nursery.start_soon(self._count, client, caller, list(self._own(caller)))

    async def run(self, client: TrioClient, caller: int) -> None:
        """For ever."""
        rng = random.Random(caller)
        keys = list(self._own(caller))
        while True:
            await self._count(client, caller, [rng.choice(keys)])

    def _own(self, caller: int) -> Iterator[str]:
        return (key for n, key in enumerate(self.totals) if n % CALLERS == caller)

    async def _count(self, client: TrioClient, caller: int, keys: list[str]) -> None:
        for key in keys:
            began_s = time.monotonic()
            try:
                total = await client.ask("Counter", key, "add", 1)
            except RoostError as exc:
                self.failed.append(f"{key}: {type(exc).__name__}: {exc}")
                continue
            self.calls += 1
            self.totals[key] += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            if total != self.totals[key]:
                self.failed.append(f"{key}: {total} instead of {self.totals[key]}")


async def homes(registry: RedisRegistry, load: Load) -> dict[str, str]:
    """Where each actor lives, by host name; "" where it does not run now."""
    hosts = {m.incarnation: m.host_id for m in (await registry.view()).members}
    found = await registry.locate([f"Counter/{key}" for key in load.totals])
    return {
        key: hosts.get(where.incarnation, "") if where is not None else ""
        for key, where in zip(load.totals, found, strict=True)
    }


async def balanced(registry: RedisRegistry, load: Load, hosts: set[str]) -> dict[str, str]:
    """The homes, once ``hosts`` are all there are, and each actor is where their ring has it."""
    with trio.move_on_after(BALANCED_WITHIN_S):
        while True:
            view = await registry.view()
            ring, now = Ring(view), await homes(registry, load)
            if {m.host_id for m in view.members} == hosts and now == owners(ring, load):
                return now
            await trio.sleep(0.05)
    raise AssertionError(f"not balanced on {sorted(hosts)}: {view}")


def owners(ring: Ring, load: Load) -> dict[str, str]:
    chosen = {key: choose(ring, ActorId("Counter", key)) for key in load.totals}
    return {key: m.host_id if isinstance(m, Member) else "" for key, m in chosen.items()}


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {key for key in before if before[key] != after[key]}


Play = Callable[[RedisRegistry, Load], Awaitable[None]]


def under_load(cluster: Cluster, name: str, play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """Run ``play`` while callers call; afterwards no call may have failed."""
    load = Load(name)

    async def main() -> None:
        with trio.fail_after(120):
            async with (
                trio_connect(cluster.addresses, timeout_s=30) as client,
                cluster.registry() as registry,
            ):
                await load.create(client)
                async with trio.open_nursery() as nursery:
                    for caller in range(CALLERS):
                        nursery.start_soon(load.run, client, caller)
                    await play(registry, load)
                    nursery.cancel_scope.cancel()

    loops.run(main)
    with capsys.disabled():
        print(f"\n  {load.calls} calls, {len(load.failed)} failed, slowest {load.slowest_s:.2f} s")
    assert load.failed == []
    assert load.calls > 3 * ACTORS


def test_an_hpa_event_moves_a_share_of_the_actors_and_fails_no_call(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = cluster.deployment

    def report(what: str, share: float, seconds: float) -> None:
        with capsys.disabled():
            print(f"\n  {what}: moved {share:.0%}, balanced {seconds:.1f} s after", end="")

    async def play(registry: RedisRegistry, load: Load) -> None:
        first = set(deployment.pods)
        at_three = await balanced(registry, load, first)

        fresh = [deployment.create() for _ in range(3)]
        await trio.to_thread.run_sync(deployment.wait_ready, fresh)
        ready_s = time.monotonic()
        at_six = await balanced(registry, load, first | set(fresh))
        took_s = time.monotonic() - ready_s
        went = moved(at_three, at_six)
        report("3 -> 6 pods", len(went) / ACTORS, took_s)
        assert {at_six[key] for key in went} == set(fresh)  # nothing moves between those that stay
        assert 0.35 < len(went) / ACTORS < 0.65
        assert took_s < 15

        leaving = random.Random(1).sample(sorted(deployment.pods), 3)
        began_s = time.monotonic()
        for name in leaving:
            deployment.terminate(name)
        statuses = await trio.to_thread.run_sync(deployment.wait_gone, leaving)
        at_end = await balanced(registry, load, set(deployment.pods))
        took_s = time.monotonic() - began_s
        went = moved(at_six, at_end)
        report("6 -> 3 pods", len(went) / ACTORS, took_s)
        assert statuses == [0, 0, 0]
        assert went == {key for key, host in at_six.items() if host in leaving}
        assert took_s < 15

    under_load(cluster, "hpa", play, capsys)


def test_a_rolling_restart_fails_no_call_though_addresses_are_used_again(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = cluster.deployment

    async def play(registry: RedisRegistry, load: Load) -> None:
        before = {pod.ip for pod in deployment.pods.values()}
        for old in list(deployment.pods):
            fresh = deployment.create()  # one surges, as the manifest has it
            await trio.to_thread.run_sync(deployment.wait_ready, [fresh])
            deployment.terminate(old)
            assert await trio.to_thread.run_sync(deployment.wait_gone, [old]) == [0]
        assert before & {pod.ip for pod in deployment.pods.values()}  # by other pods than before
        await balanced(registry, load, set(deployment.pods))

    under_load(cluster, "rolling", play, capsys)


def test_actors_of_a_container_that_the_kubelet_saw_end_do_not_wait_for_its_lease(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment, load = cluster.deployment, Load("crash")
    victim = min(deployment.pods)

    async def main() -> None:
        with trio.fail_after(60):
            async with (
                trio_connect(cluster.addresses, timeout_s=30) as client,
                cluster.registry() as registry,
            ):
                await load.create(client)
                before = await homes(registry, load)
                lost = [key for key, host in before.items() if host == victim]
                began_s = time.monotonic()
                await trio.to_thread.run_sync(deployment.crash, victim)
                for key in lost:
                    await client.ask("Counter", key, "add", 1)
                took_s = time.monotonic() - began_s
                with capsys.disabled():
                    print(f"\n  {len(lost)} actors of the dead answer after {took_s:.1f} s")
                assert lost
                assert took_s < LEASE_TTL_S / 2

    try:
        loops.run(main)
    finally:
        deployment.wait_gone([victim])
        deployment.wait_ready([deployment.create()])
