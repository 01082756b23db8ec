"""The endpoint watch: EndpointSlices and pods in, evidence out, for ever. An adapter (asyncio)::

    watcher = Watcher(config, on_evidence=keeper.put, on_live=keeper.set_live)
    await crossing.cross(watcher.run, api_server)

Both callbacks run in the asyncio loop and must not block.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from deploy.watch.api import Api, Collection
from deploy.watch.config import ApiServer, WatchConfig
from deploy.watch.evidence import Evidence, Findings
from deploy.watch.objects import Pod, Raw, read_pod
from deploy.watch.reflector import Reflector

log = logging.getLogger("roost.watch")

COMPLAINTS_MAX = 256


def slices_of(config: WatchConfig) -> Collection:
    return Collection("discovery.k8s.io", "v1", "endpointslices", config.slice_labels)


def pods_of(config: WatchConfig) -> Collection:
    return Collection("", "v1", "pods", config.pod_labels)


class Watcher:
    """Calls ``on_evidence`` with all that is known whenever it changes, once both lists are in,
    and ``on_live`` when it turns true or false that this is up to date."""

    def __init__(
        self, config: WatchConfig, *,
        on_evidence: Callable[[tuple[Evidence, ...]], object],
        on_live: Callable[[bool], object] = lambda is_live: None,
    ) -> None:  # fmt: skip
        self._config = config
        self._on_evidence = on_evidence
        self._on_live = on_live
        self._findings = Findings(config.namespace, config.container, config.not_ready_after_s)
        found = self._findings
        self._streams = (
            _Stream(self, found.slices_listed, found.slice_event),
            _Stream(self, found.pods_listed, found.pod_event),
        )
        self._told: tuple[Evidence, ...] | None = None
        self._was_live = False
        self._complained: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, server: ApiServer) -> None:
        """Watch until cancelled. API errors are logged and retried, and never come out."""
        api = Api(server, self._config)
        collections = (slices_of(self._config), pods_of(self._config))
        try:
            async with asyncio.TaskGroup() as tasks:
                for collection, stream in zip(collections, self._streams, strict=True):
                    reflector = Reflector(api, collection, stream, self._config)
                    tasks.create_task(reflector.run())
        finally:
            if self._timer:
                self._timer.cancel()
            self._tell_live(False)
            await api.aclose()

    def changed(self) -> None:
        """A stream took something in, or the hysteresis of a pod is over: tell what follows."""
        slices, pods = self._streams
        if not slices.listed_once:
            return
        self._complain()
        now_s = time.monotonic()
        evidence = self._findings.evidence(now_s)
        # Without pods (their permission may be missing) endpoints still tell who is ready.
        if evidence != self._told and (pods.listed_once or pods.is_live is False):
            self._told = evidence
            self._on_evidence(evidence)
        self._tell_live(bool(slices.is_live))
        self._set_timer(now_s)

    def _set_timer(self, now_s: float) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due_s = self._findings.next_change_s(now_s)
        if due_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(due_s - now_s, self.changed)

    def _tell_live(self, is_live: bool) -> None:
        if is_live != self._was_live:
            self._was_live = is_live
            self._on_live(is_live)

    def _complain(self) -> None:
        """Log each complaint once; the oldest are forgotten when there are too many."""
        lines = [*self._findings.complaints(), *self._emptiness()]
        for line in lines:
            if line not in self._complained:
                log.warning(line)
        self._complained = set(lines[:COMPLAINTS_MAX])

    def _emptiness(self) -> list[str]:
        """A namespace or a name that is wrong shows as a list that is empty."""
        config, (endpoints, pods) = self._config, self._findings.counts()
        where = f"in namespace {config.namespace}"
        if not endpoints:
            return [
                f"no endpoint of service {config.service} {where}: Redis heartbeats alone tell who "
                "is there; if the service exists, check K8S_NAMESPACE and K8S_SERVICE"
            ]
        if not pods and self._streams[1].listed_once:
            return [
                f"no pod labelled {config.pod_labels} {where}, though service {config.service} "
                "has endpoints: a death is noticed by its lease only"
            ]
        return []


class _Stream:
    """One collection's way into the findings. A reflector's sink."""

    def __init__(
        self, watcher: Watcher,
        listed: Callable[[list[Raw], float], None], event: Callable[[str, Raw, float], None],
    ) -> None:  # fmt: skip
        self._watcher = watcher
        self._listed = listed
        self._event = event
        self.listed_once = False
        self.is_live: bool | None = None  # None: not tried yet

    def listed(self, items: list[Raw]) -> None:
        self._listed(items, time.monotonic())
        self.listed_once = True
        self._watcher.changed()

    def event(self, kind: str, raw: Raw) -> None:
        self._event(kind, raw, time.monotonic())
        self._watcher.changed()

    def live(self, is_live: bool) -> None:
        if is_live != self.is_live:
            self.is_live = is_live
            self._watcher.changed()


async def read_own_pod(server: ApiServer, config: WatchConfig, name: str) -> Pod:
    """This host's own pod, once; raises ApiError."""
    api = Api(server, config)
    try:
        return read_pod(await api.get(pods_of(config), name), config.container)
    finally:
        await api.aclose()


def grace_problem(pod: Pod, drain_timeout_s: float) -> str:
    """What is wrong with DRAIN_TIMEOUT against the pod's grace period, else ""."""
    if pod.grace_s is None or drain_timeout_s < pod.grace_s:
        return ""
    return (
        f"DRAIN_TIMEOUT is {drain_timeout_s:g}: the pod's terminationGracePeriodSeconds is "
        f"{pod.grace_s}, so a drain would be cut short by SIGKILL; set DRAIN_TIMEOUT below it"
    )
