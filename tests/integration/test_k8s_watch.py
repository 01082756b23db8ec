"""The watcher against a server that speaks the API's list and watch protocol."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest

from deploy.watch.config import ApiServer, NoCluster, WatchConfig, find_api, find_namespace
from deploy.watch.evidence import Evidence, Standing
from deploy.watch.watcher import Watcher, grace_problem, read_own_pod
from tests.k8s.api_double import ApiDouble
from tests.k8s.objects import NAMESPACE, ended, endpoint, endpoint_slice, pod

CONFIG = WatchConfig(
    NAMESPACE, not_ready_after_s=0.2, watch_timeout_s=5, idle_after_s=5.0,
    retry_min_s=0.02, retry_max_s=0.2,
)  # fmt: skip
DEADLINE_S = 10.0


def in_asyncio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test runs in an asyncio loop of its own, which is the watcher's."""

    @wraps(test)
    def run(**kwargs: object) -> None:
        asyncio.run(asyncio.wait_for(test(**kwargs), 30))  # type: ignore[arg-type]

    return run


class Seen:
    """What the watcher has told so far, and a way to wait for more."""

    def __init__(self) -> None:
        self.evidence: tuple[Evidence, ...] = ()
        self.history: list[tuple[Evidence, ...]] = []
        self.is_live = False
        self._changed = asyncio.Event()

    def take(self, evidence: tuple[Evidence, ...]) -> None:
        self.evidence = evidence
        self.history.append(evidence)
        self._changed.set()

    def live(self, is_live: bool) -> None:
        self.is_live = is_live
        self._changed.set()

    @property
    def standings(self) -> dict[str, Standing]:
        return {e.pod: e.standing for e in self.evidence}

    async def until(self, holds: Callable[[Seen], bool], what: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds(self):
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        assert holds(self), what

    async def until_standings(self, expected: dict[str, Standing]) -> None:
        try:
            await self.until(lambda seen: seen.standings == expected, "standings")
        except TimeoutError:
            raise AssertionError(f"{self.standings} is not {expected}") from None


@asynccontextmanager
async def watched(api: ApiDouble, config: WatchConfig = CONFIG) -> AsyncIterator[Seen]:
    seen = Seen()
    watcher = Watcher(config, on_evidence=seen.take, on_live=seen.live)
    task = asyncio.create_task(watcher.run(ApiServer(api.url)))
    try:
        yield seen
    finally:
        assert not task.done(), "the watcher ended by itself"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def fill(api: ApiDouble, *names: str) -> None:
    for name in names:
        api.put("pods", pod(name))
    api.put("endpointslices", endpoint_slice("s1", [endpoint(name) for name in names]))


def logged(caplog: pytest.LogCaptureFixture, part: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if part in r.getMessage()]


READY = Standing.READY


@in_asyncio
async def test_what_is_there_at_the_start_and_what_comes_later_are_both_seen() -> None:
    async with ApiDouble() as api:
        fill(api, "a", "b")
        async with watched(api) as seen:
            await seen.until_standings({"a": READY, "b": READY})
            fill(api, "a", "b", "c")
            await seen.until_standings({"a": READY, "b": READY, "c": READY})
            assert seen.is_live


@in_asyncio
async def test_nothing_is_told_before_both_lists_are_in() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api) as seen:
            await seen.until_standings({"a": READY})
            assert seen.history == [(Evidence("a", "uid-of-a", READY, (), seen.evidence[0][4]),)]


@in_asyncio
async def test_not_ready_comes_after_the_hysteresis_without_any_event() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api) as seen:
            await seen.until_standings({"a": READY})
            api.put("endpointslices", endpoint_slice("s1", [endpoint("a", ready=False)]))
            await seen.until_standings({"a": Standing.UNKNOWN})
            await seen.until_standings({"a": Standing.NOT_READY})


@in_asyncio
async def test_a_rolling_pod_is_seen_to_terminate_to_end_and_to_go() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api) as seen:
            await seen.until_standings({"a": READY})
            api.put("pods", pod("a", deleting=True))
            await seen.until_standings({"a": Standing.TERMINATING})
            end = ended("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z", "Completed", 0)
            api.delete("pods", "a", pod("a", deleting=True, state=end))
            await seen.until_standings({"a": Standing.GONE})
            assert [death.reason for death in seen.evidence[0].deaths] == ["Completed"]


@in_asyncio
async def test_a_broken_watch_goes_on_from_where_it_was_without_a_new_list() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api) as seen:
            await seen.until(lambda s: api.watching == 2, "watching")
            for name in "bcd":
                api.break_watches()
                await seen.until(lambda s: api.watching == 0, "cut")
                fill(api, "a", name)
                await seen.until(lambda s, n=name: n in s.standings, "the event in between")
                await seen.until(lambda s: api.watching == 2, "resumed")
            assert api.requests["list", "pods"] == api.requests["list", "endpointslices"] == 1


@in_asyncio
async def test_a_bookmark_moves_the_version_so_that_a_compaction_does_not_matter() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api, replace(CONFIG, watch_timeout_s=1)) as seen:
            await seen.until(lambda s: api.watching == 2, "watching")
            api.compact()
            api.bookmark()
            began = api.requests["watch", "pods"]
            await seen.until(lambda s: api.requests["watch", "pods"] > began, "watched anew")
            fill(api, "a", "b")
            await seen.until_standings({"a": READY, "b": READY})
            assert api.requests["list", "pods"] == 1


@pytest.mark.parametrize("as_event", [True, False], ids=["as an event", "as a status"])
@in_asyncio
async def test_410_gone_means_a_new_list(as_event: bool) -> None:
    async with ApiDouble() as api:
        api.gone_as_event = as_event
        fill(api, "a", "b")
        async with watched(api) as seen:
            await seen.until_standings({"a": READY, "b": READY})
            await api.away()
            api.delete("pods", "b")
            fill(api, "a", "c")
            api.compact()
            await api.back()
            await seen.until_standings({"a": READY, "b": Standing.GONE, "c": READY})
            assert api.requests["list", "pods"] == 2
            assert api.requests["list", "endpointslices"] == 2


@in_asyncio
async def test_the_last_view_stays_while_the_api_server_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "roost.watch")
    async with ApiDouble() as api:
        fill(api, "a", "b")
        async with watched(api) as seen:
            await seen.until_standings({"a": READY, "b": READY})
            before = list(seen.history)
            await api.away()
            await seen.until(lambda s: not s.is_live, "no longer live")
            await seen.until(lambda s: len(logged(caplog, "cannot be watched")) == 2, "two lines")
            api.failing = 503
            await api.back()
            await seen.until(lambda s: api.requests["watch", "pods"] > 5, "tried again and again")
            assert seen.history == before
            assert len(logged(caplog, "what it said last stays in force")) <= 4
            fill(api, "a")
            api.failing = 0
            await seen.until(lambda s: s.is_live, "live again")
            await seen.until(lambda s: s.standings["b"] is Standing.UNKNOWN, "up to date")


@in_asyncio
async def test_a_server_that_fails_is_asked_less_and_less_often() -> None:
    async with ApiDouble() as api:
        api.failing = 503
        began_s = time.monotonic()
        async with watched(api, replace(CONFIG, retry_min_s=0.1, retry_max_s=30.0)) as seen:
            await seen.until(lambda s: api.requests["list", "pods"] == 5, "five tries")
            # 0.1 + 0.2 + 0.4 + 0.8 s, each cut by half at most.
            assert time.monotonic() - began_s >= 0.75
            assert not seen.history


SLICES_RULE = 'apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"]'
PODS_RULE = 'apiGroups: [""], resources: ["pods"]'


@pytest.mark.parametrize(
    ("verb", "resource", "rule"),
    [
        ("list", "endpointslices", SLICES_RULE),
        ("watch", "endpointslices", SLICES_RULE),
        ("list", "pods", PODS_RULE),
    ],
)  # fmt: skip
@in_asyncio
async def test_a_refusal_names_the_missing_rbac_rule_once(
    verb: str, resource: str, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roost.watch")
    async with ApiDouble() as api:
        fill(api, "a")
        api.forbidden.add((verb, resource))
        async with watched(api) as seen:
            await seen.until(lambda s: api.requests[verb, resource] > 3, "retried")
            (line,) = logged(caplog, "refuses")
            assert rule in line
            assert 'verbs: ["get", "list", "watch"]' in line
            assert NAMESPACE in line
            assert "\n" not in line
            api.forbidden.clear()
            await seen.until_standings({"a": READY})
            await seen.until(lambda s: s.is_live, "live")


@in_asyncio
async def test_endpoints_are_used_while_pods_are_forbidden() -> None:
    async with ApiDouble() as api:
        fill(api, "a", "b")
        api.forbidden.add(("list", "pods"))
        async with watched(api) as seen:
            await seen.until_standings({"a": READY, "b": READY})


@in_asyncio
async def test_a_line_that_is_not_json_costs_the_connection_and_nothing_else() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api) as seen:
            await seen.until(lambda s: api.watching == 2, "watching")
            for n, line in enumerate(
                (b"{not json\n", b"[1]\n", b'{"type": "ADDED"}\n', b"\xff\xfe\n"), start=2
            ):
                await api.garble_watches(line)
                for kind in ("pods", "endpointslices"):
                    await seen.until(
                        lambda s, k=kind, n=n: api.requests["watch", k] >= n, "watched again"
                    )
            fill(api, "a", "b")
            await seen.until_standings({"a": READY, "b": READY})


@in_asyncio
async def test_a_server_that_goes_silent_is_noticed_and_left() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api, replace(CONFIG, idle_after_s=0.3)) as seen:
            await seen.until(lambda s: api.requests["watch", "pods"] >= 3, "left twice")
            api.delay_s = 5.0
            await seen.until(lambda s: not s.is_live, "not live while it does not answer")
            api.delay_s = 0.0
            await seen.until(lambda s: s.is_live, "live")


@in_asyncio
async def test_pages_of_a_long_list_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.watch.api.PAGE_ITEMS", 7)
    names = [f"p{n:02}" for n in range(20)]
    async with ApiDouble() as api:
        fill(api, *names)
        async with watched(api) as seen:
            await seen.until_standings(dict.fromkeys(names, READY))
            assert api.requests["list", "pods"] == 3


@in_asyncio
async def test_20_3_20_endpoints_in_random_order_with_repeated_and_late_events() -> None:
    rng = random.Random(7)
    names = [f"p{n:02}" for n in range(20)]
    async with ApiDouble() as api:
        fill(api, *names)
        async with watched(api) as seen:
            await seen.until_standings(dict.fromkeys(names, READY))
            gone = rng.sample(names, 17)
            await _scale_down(api, names, gone, rng)
            left = {n: READY for n in names if n not in gone}
            await seen.until_standings(left | dict.fromkeys(gone, Standing.GONE))
            assert all(len(e.deaths) == 1 for e in seen.evidence if e.standing is Standing.GONE)
            born = [f"q{n:02}" for n in range(17)]
            await _scale_up(api, list(left), born, rng)
            await seen.until_standings(
                left | dict.fromkeys(gone, Standing.GONE) | dict.fromkeys(born, READY)
            )


async def _scale_down(
    api: ApiDouble, names: list[str], gone: list[str], rng: random.Random
) -> None:
    """Each pod terminates, leaves the slice and ends, interleaved, with stale echoes between."""
    end = ended("2026-01-01T00:00:00Z", "2026-01-01T00:02:00Z", "Completed", 0)
    steps = [(name, step) for name in gone for step in range(3)]
    rng.shuffle(steps)
    progress = dict.fromkeys(gone, 0)
    for name, _ in steps:
        step, progress[name] = progress[name], progress[name] + 1
        stale = api.get("pods", name)
        if step == 0:
            api.put("pods", pod(name, deleting=True))
        elif step == 1:
            _slices(api, [n for n in names if progress.get(n, 0) < 2], rng)
        else:
            api.delete("pods", name, pod(name, deleting=True, state=end))
        api.emit("pods", "MODIFIED", stale)
        if rng.random() < 0.1:
            api.break_watches()
        await asyncio.sleep(0)


async def _scale_up(api: ApiDouble, left: list[str], born: list[str], rng: random.Random) -> None:
    there = list(left)
    for name in rng.sample(born, len(born)):
        api.put("pods", pod(name))
        there.append(name)
        _slices(api, there, rng)
        for _ in range(rng.randrange(3)):
            api.emit("pods", "ADDED", api.get("pods", rng.choice(there)))
        await asyncio.sleep(0)


def _slices(api: ApiDouble, names: list[str], rng: random.Random) -> None:
    """The endpoints over two slices, in random order; an old slice is repeated now and then."""
    shuffled = rng.sample(names, len(names))
    half = len(names) // 2
    for slice_name, part in (("s1", shuffled[:half]), ("s2", shuffled[half:])):
        api.put("endpointslices", endpoint_slice(slice_name, [endpoint(n) for n in part]))
        if rng.random() < 0.2:
            stale = api.get("endpointslices", slice_name)
            api.put("endpointslices", endpoint_slice(slice_name, [endpoint(n) for n in part]))
            api.emit("endpointslices", "MODIFIED", stale)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        (replace(CONFIG, namespace="elsewhere"), "service agent-host in namespace elsewhere"),
        (replace(CONFIG, service="nobody"), "service nobody in namespace rustic-ai"),
    ],
    ids=["namespace", "service"],
)
@in_asyncio
async def test_a_wrong_name_gives_one_clear_line_and_changes_nothing(
    config: WatchConfig, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        async with watched(api, config) as seen:
            await seen.until(lambda s: bool(logged(caplog, "no endpoint of")), "a line")
            await seen.until(lambda s: s.is_live, "watching on")
            api.bookmark()
            assert all(not evidence for evidence in seen.history)
            (line,) = logged(caplog, "no endpoint of")
            assert part in line
            assert "check K8S_NAMESPACE and K8S_SERVICE" in line


@in_asyncio
async def test_a_malformed_slice_is_complained_of_once_and_the_rest_is_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        api.put("endpointslices", endpoint_slice("bad", [{"addresses": ["10.0.0.9"]}]))
        async with watched(api) as seen:
            await seen.until_standings({"a": READY})
            fill(api, "a", "b")
            await seen.until_standings({"a": READY, "b": READY})
            assert len(logged(caplog, "EndpointSlice bad: endpoint 10.0.0.9 has no targetRef")) == 1


@in_asyncio
async def test_a_drain_longer_than_the_grace_period_is_told_from_the_pod_itself() -> None:
    async with ApiDouble() as api:
        fill(api, "a")
        own = await read_own_pod(ApiServer(api.url), CONFIG, "a")
        assert grace_problem(own, 60.0) == ""
        line = grace_problem(own, 90.0)
        assert "DRAIN_TIMEOUT is 90" in line
        assert "terminationGracePeriodSeconds is 90" in line


def test_without_a_cluster_the_reason_is_one_line() -> None:
    found = find_api({})
    assert found == NoCluster(
        "no Kubernetes API in reach (KUBERNETES_SERVICE_HOST is unset): "
        "running from Redis heartbeats alone"
    )


def test_a_pod_without_its_service_account_runs_from_heartbeats_alone(tmp_path: Path) -> None:
    account = tmp_path
    found = find_api({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, account=account)
    assert isinstance(found, NoCluster)
    assert "token is missing" in found.reason
    (account / "token").write_text("t")
    (account / "ca.crt").write_text("c")
    assert find_api({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, account=account) == ApiServer()
    assert find_api({}, url="http://127.0.0.1:8001/") == ApiServer("http://127.0.0.1:8001")


def test_the_namespace_is_the_configured_one_else_the_pods_own(tmp_path: Path) -> None:
    account = tmp_path
    assert find_namespace("", account) == "default"
    (account / "namespace").write_text("rustic-ai\n")
    assert find_namespace("", account) == "rustic-ai"
    assert find_namespace("mine", account) == "mine"


def test_the_pods_watched_are_the_service_s_own_unless_another_selector_is_given() -> None:
    assert WatchConfig("ns").pod_labels == "app=agent-host"
    other = WatchConfig("ns", service="x", pod_selector="tier=agents")
    assert other.slice_labels == "kubernetes.io/service-name=x"
    assert other.pod_labels == "tier=agents"
