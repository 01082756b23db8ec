"""Follow one collection for ever: list, watch, go on where it broke off. An adapter.

The recipe of client-go's reflector: a broken watch is resumed from the last resource version
(events and bookmarks both move it), 410 Gone means list anew, and every failure is retried
after a pause that doubles, with jitter. What was seen stays while the server is away.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from deploy.watch.api import Api, ApiError, Collection, Expired, Forbidden
from deploy.watch.config import WatchConfig
from deploy.watch.objects import Raw

log = logging.getLogger("roost.watch")


class Sink(Protocol):
    """Takes what a reflector sees; called in the asyncio loop, must not block or raise."""

    def listed(self, items: list[Raw]) -> None:
        """The complete list; it replaces everything before."""

    def event(self, kind: str, raw: Raw) -> None:
        """ADDED, MODIFIED or DELETED; perhaps once more than it happened."""

    def live(self, is_live: bool) -> None:
        """Whether what was seen is up to date: the list is in and the watch stands."""


class Reflector:
    """One collection. ``rng`` makes the jitter."""

    def __init__(
        self, api: Api, collection: Collection, sink: Sink, config: WatchConfig,
        rng: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._api = api
        self._collection = collection
        self._sink = sink
        self._config = config
        self._rng = rng
        self._version = ""  # "": list first
        self._failures = 0
        self._reported = ""
        self._stood_since_s: float | None = None

    async def run(self) -> None:
        """Until cancelled; API errors never come out."""
        while True:
            self._stood_since_s = None
            try:
                await self._follow()
            except ApiError as exc:
                self._sink.live(False)
                if isinstance(exc, Expired):
                    self._version = ""
                if self._stood_s() > self._config.retry_max_s:
                    self._recovered()
                self._failures += 1
                self._report(exc)
                await asyncio.sleep(self._pause_s(exc))

    async def _follow(self) -> None:
        """List if need be, then one watch, until the server ends it or it breaks."""
        if not self._version:
            items, self._version = await self._api.list_all(self._collection)
            self._sink.listed(items)
        async with self._api.watch(self._collection, self._version) as events:
            self._stood_since_s = time.monotonic()
            self._sink.live(True)
            async for event in events:
                self._recovered()
                self._version = event.version or self._version
                if event.kind != "BOOKMARK":
                    self._sink.event(event.kind, event.raw)
        if self._stood_s() < self._config.retry_min_s:
            raise ApiError("the watch ended as soon as it began")
        self._recovered()

    def _stood_s(self) -> float:
        """For how long the last watch stood."""
        since_s = self._stood_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def _pause_s(self, exc: ApiError) -> float:
        """How long to wait: doubled at each failure in a row, jittered by half; a first 410
        calls for a list at once."""
        if isinstance(exc, Expired) and self._failures == 1:
            return 0.0
        doubled = self._config.retry_min_s * 2.0 ** min(self._failures - 1, 16)
        pause_s = min(self._config.retry_max_s, doubled) * (0.5 + self._rng() / 2)
        return max(pause_s, min(exc.retry_after_s, self._config.retry_max_s))

    def _report(self, exc: ApiError) -> None:
        """One line when something goes wrong, none while it stays wrong in the same way."""
        line = explain(exc, self._collection, self._config.namespace)
        if isinstance(exc, Expired) or line == self._reported:
            return
        # A single break is routine: servers restart, connections age.
        if isinstance(exc, Forbidden) or self._failures > 1:
            self._reported = line
            log.warning(line)

    def _recovered(self) -> None:
        self._failures = 0
        if self._reported:
            self._reported = ""
            log.info("the Kubernetes API lets %s be watched again", self._collection)


def explain(exc: ApiError, collection: Collection, namespace: str) -> str:
    """One line that says what is wrong, what holds meanwhile, and what to do about it."""
    if isinstance(exc, Forbidden):
        return (
            f"the Kubernetes API refuses {collection} in namespace {namespace} ({exc}). The Role "
            f'of this pod\'s service account needs the rule {{apiGroups: ["{collection.group}"], '
            f'resources: ["{collection.resource}"], verbs: ["get", "list", "watch"]}}, as in '
            "deploy/k8s/agent-host.yaml. Until then Redis heartbeats alone tell who is there"
        )
    return (
        f"the Kubernetes API cannot be watched for {collection} in namespace {namespace} ({exc}): "
        "what it said last stays in force; trying again"
    )
