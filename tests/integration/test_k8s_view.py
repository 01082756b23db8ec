"""From the API to the view, through both loops: what Kubernetes says changes who gets actors."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from deploy.watch.config import ApiServer, NoCluster, WatchConfig
from deploy.watch.keeper import Keeper, buried_by_counter
from deploy.watch.service import run_watch
from deploy.watch.verdicts import Birth
from placement.memory import MemoryRegistry, MemoryStore
from placement.records import Member, MemberState, View
from tests.k8s.api_double import ApiDouble
from tests.k8s.objects import NAMESPACE, ended, endpoint, endpoint_slice, pod, uid_of
from wire.loops import Crossing, open_crossing, run

STARTED_S = 1767225600.0  # 2026-01-01T00:00:00Z
CONFIG = WatchConfig(NAMESPACE, not_ready_after_s=0.1, retry_min_s=0.02, retry_max_s=0.2)


class World:
    """An API double, a registry in memory, and one host's watch between them."""

    def __init__(self, api: ApiDouble) -> None:
        self.api = api
        self.registry = MemoryRegistry(MemoryStore())
        self.counters: dict[str, int] = {}
        self.joined = 0
        self.keeper = Keeper(
            self.registry,
            births=self._births,
            bury=buried_by_counter(self.registry, lambda: self.counters),
            clock=trio.current_time,
            retry_s=0.05,
        )

    def _births(self, view: View) -> dict[str, Birth]:
        return {m.incarnation: Birth(uid_of(m.host_id), STARTED_S + 0.5) for m in view.members}

    async def join(self, *names: str) -> None:
        for name in names:
            self.joined += 1  # hosts of one address would shadow each other
            await self.registry.join(Member(name, f"inc-{name}", f"127.0.0.1:{self.joined}"))
            renewal = await self.registry.renew(f"inc-{name}", 1)
            self.counters = renewal.counters

    def show(self, *names: str) -> None:
        for name in names:
            self.api.put("pods", pod(name))
        self.slice_of(*names)

    def slice_of(self, *names: str, ready: bool = True) -> None:
        points = [endpoint(name, ready=ready) for name in names]
        self.api.put("endpointslices", endpoint_slice("s", points))

    def end(self, name: str) -> None:
        """The kubelet sees the pod's container end, and the pod goes."""
        state = ended("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z", "Completed", 0)
        self.api.delete("pods", name, pod(name, deleting=True, state=state))

    async def until(self, holds: Callable[[dict[str, Member]], bool], what: str) -> None:
        with trio.move_on_after(10):
            while True:
                members = {m.host_id: m for m in (await self.registry.view()).members}
                if holds(members):
                    return
                await trio.sleep(0.01)
        raise AssertionError(f"never {what}: {members}")


@asynccontextmanager
async def serving(crossing: Crossing) -> AsyncIterator[ApiDouble]:
    api = ApiDouble()
    await crossing.cross(api.back)
    try:
        yield api
    finally:
        with trio.CancelScope(shield=True):
            await crossing.cross(api.away)


@asynccontextmanager
async def watching(api: ApiDouble, crossing: Crossing) -> AsyncIterator[World]:
    """A world whose host, in pod ``a``, watches ``api``."""
    made = World(api)

    async def watch() -> None:
        await run_watch(
            ApiServer(api.url), CONFIG, made.keeper, made.registry, crossing,
            pod="a", drain_timeout_s=60.0,
        )  # fmt: skip

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield made
        nursery.cancel_scope.cancel()


def in_both_loops(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        with trio.fail_after(30):
            async with (
                open_crossing() as crossing,
                serving(crossing) as api,
                watching(api, crossing) as made,
            ):
                await test(made)

    def run_test() -> None:
        run(main)

    run_test.__name__ = test.__name__
    return run_test


@in_both_loops
async def test_not_ready_closes_a_host_to_new_actors_and_ready_opens_it(w: World) -> None:
    await w.join("a", "b")
    w.show("a", "b")
    w.api.put("endpointslices", endpoint_slice("s", [endpoint("a", ready=False), endpoint("b")]))
    await w.until(lambda m: not m["a"].ready and m["b"].ready, "a closed")
    w.slice_of("a", "b")
    await w.until(lambda m: m["a"].ready and m["b"].ready, "a open")


@in_both_loops
async def test_a_terminating_pod_drains_and_its_end_buries_it(w: World) -> None:
    await w.join("a", "b")
    w.show("a", "b")
    w.api.put("pods", pod("a", deleting=True))
    await w.until(lambda m: m["a"].state is MemberState.DRAINING, "a draining")
    w.end("a")
    await w.until(lambda m: set(m) == {"b"}, "a buried")


@in_both_loops
async def test_a_container_that_crashed_and_runs_again_buries_the_old_incarnation(w: World) -> None:
    await w.join("a")
    w.show("a")
    w.api.put("pods", pod(
        "a", state={"running": {"startedAt": "2026-01-01T00:02:10Z"}},
        last_state=ended("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z", "OOMKilled"),
    ))  # fmt: skip
    await w.until(lambda m: not m, "a buried")


@in_both_loops
async def test_a_pod_deleted_by_force_stays_until_its_lease_ends(w: World) -> None:
    await w.join("a", "b")
    w.show("a", "b")
    w.slice_of("a", "b", ready=False)
    await w.until(lambda m: not m["a"].ready, "the watch at work")
    w.slice_of("a", "b")
    await w.until(lambda m: m["a"].ready, "a open")
    w.api.delete("pods", "a")
    await w.until(lambda m: not m["a"].ready, "a gets no new actors")
    w.end("b")
    await w.until(lambda m: set(m) == {"a"}, "b buried and a not")


@in_both_loops
async def test_two_pods_that_swap_addresses_stay_who_they_are(w: World) -> None:
    await w.join("a", "b")
    w.show("a", "b")
    swapped = [endpoint("a", ip="10.0.0.2", ready=False), endpoint("b", ip="10.0.0.1")]
    w.api.put("endpointslices", endpoint_slice("s", swapped))
    await w.until(lambda m: not m["a"].ready and m["b"].ready, "a closed")


@in_both_loops
async def test_20_3_20_hosts_and_the_view_follows(w: World) -> None:
    rng = random.Random(3)
    names = [f"p{n:02}" for n in range(20)]
    await w.join(*names)
    w.show(*names)
    await w.until(lambda m: len(m) == 20 and all(x.ready for x in m.values()), "20 ready")
    gone = rng.sample(names, 17)
    for name in gone:
        w.api.put("pods", pod(name, deleting=True))
    left = [n for n in names if n not in gone]
    await w.until(
        lambda m: {n for n, x in m.items() if x.state is MemberState.UP} == set(left), "17 drain"
    )
    w.slice_of(*left)
    for name in rng.sample(gone, 17):
        w.end(name)
        if rng.random() < 0.2:
            w.api.break_watches()
    await w.until(lambda m: set(m) == set(left), "3 left")
    born = [f"q{n:02}" for n in range(17)]
    await w.join(*born)
    w.show(*rng.sample([*left, *born], 20))
    await w.until(
        lambda m: (
            set(m) == {*left, *born}
            and all(x.ready and x.state is MemberState.UP for x in m.values())
        ),
        "20 again",
    )


def test_without_a_cluster_the_watch_says_so_and_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "roost.watch")
    registry = MemoryRegistry(MemoryStore())

    async def bury(incarnation: str) -> bool:
        return False

    async def main() -> None:
        keeper = Keeper(registry, births=lambda v: {}, bury=bury, clock=trio.current_time)
        async with open_crossing() as crossing:
            await run_watch(
                NoCluster("no cluster: heartbeats alone"), CONFIG, keeper, registry, crossing,
                pod="a", drain_timeout_s=30.0,
            )  # fmt: skip

    run(main)
    assert [r.getMessage() for r in caplog.records] == ["no cluster: heartbeats alone"]


def test_a_drain_longer_than_the_grace_period_is_told(caplog: pytest.LogCaptureFixture) -> None:
    line = "the pod's terminationGracePeriodSeconds is 30"

    async def main() -> None:
        async with open_crossing() as crossing, serving(crossing) as api:
            api.put("pods", pod("a", grace_s=30))
            async with watching(api, crossing):
                with trio.fail_after(10):
                    while line not in caplog.text:
                        await trio.sleep(0.01)

    run(main)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ModuleNotFoundError("No module named 'kubernetes'"), "needs roost[k8s]"),
        (RuntimeError("a bug"), "the endpoint watch has ended"),
    ],
    ids=["not installed", "a bug"],
)
def test_a_watch_that_cannot_go_on_does_not_take_its_host_along(
    error: Exception, line: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("deploy.watch.watcher.Api", fail)

    async def main() -> None:
        async with open_crossing() as crossing, serving(crossing) as api, watching(api, crossing):
            with trio.fail_after(10):
                while line not in caplog.text:
                    await trio.sleep(0.01)

    run(main)
    assert "running from Redis heartbeats alone" in caplog.text


def test_a_bug_in_what_is_made_of_it_does_not_take_the_host_along(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("deploy.watch.keeper.decide", fail)

    async def main() -> None:
        async with open_crossing() as crossing, serving(crossing) as api:
            api.put("pods", pod("a"))
            api.put("endpointslices", endpoint_slice("s", [endpoint("a")]))
            async with watching(api, crossing):
                with trio.fail_after(10):
                    while "is not used any more" not in caplog.text:
                        await trio.sleep(0.01)

    run(main)
    assert "running from Redis heartbeats alone" in caplog.text
