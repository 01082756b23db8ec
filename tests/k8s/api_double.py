"""A double of the Kubernetes API: lists and watches over real HTTP, and the ways they fail.

What it keeps of the protocol: one resource version for all writes, ``limit``/``continue``,
chunked watches that start after a version, bookmarks, 410 for versions that are forgotten (as an
HTTP status or as an event, servers do both), an object that stops matching the selector is
DELETED, Status objects for errors. What it adds: it can be told to misbehave.

    async with ApiDouble() as api: ...      # in the test's own asyncio loop, at api.url
    with api_in_thread() as api: ...        # for other processes; api.call(api.put, "pods", pod)
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from aiohttp import web

T = TypeVar("T")
Raw = dict[str, Any]

RESOURCES = ("pods", "endpointslices")
_KINDS = {"pods": "PodList", "endpointslices": "EndpointSliceList"}
_PATHS = (
    "/api/v1/namespaces/{ns}/{resource}",
    "/apis/discovery.k8s.io/v1/namespaces/{ns}/{resource}",
)


class _Written(NamedTuple):
    """One write: its place in the log, and what it was about."""

    number: int
    version: int
    resource: str
    kind: str
    raw: Raw
    before: Raw | None


class ApiDouble:
    """The state of one namespace's pods and EndpointSlices, and the server that shows it.

    Knobs, all off at first: ``forbidden`` holds (verb, resource) pairs; ``failing`` is an HTTP
    status that every request gets; ``delay_s`` delays every response; ``gone_as_event`` chooses
    how 410 is said. ``break_watches``, ``garble_watches``, ``compact``, ``away`` and ``back`` act
    at once. ``requests`` counts (verb, resource).
    """

    def __init__(self, namespace: str = "rustic-ai") -> None:
        self.namespace = namespace
        self.forbidden: set[tuple[str, str]] = set()
        self.failing = 0
        self.delay_s = 0.0
        self.gone_as_event = True
        self.requests: Counter[tuple[str, str]] = Counter()
        self.url = ""
        self._version = 1000
        self._compacted = 1000
        self._objects: dict[str, dict[str, Raw]] = {resource: {} for resource in RESOURCES}
        self._log: list[_Written] = []
        self._count = 0
        self._written = asyncio.Event()
        self._watchers: set[web.StreamResponse] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> ApiDouble:
        await self.back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.away()

    async def back(self) -> None:
        """Serve, at the same port as before if there was one."""
        app = web.Application()
        for path in _PATHS:
            app.router.add_get(path, self._serve)
            app.router.add_get(path + "/{name}", self._serve_one)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def away(self) -> None:
        """Stop serving: connections break and new ones are refused. The objects stay."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self.break_watches()
            await runner.cleanup()

    def put(self, resource: str, raw: Raw) -> None:
        """Create or replace an object, as a controller or kubelet would."""
        name = raw["metadata"]["name"]
        before = self._objects[resource].get(name)
        after = self._stamped(raw)
        self._objects[resource][name] = after
        self._append(resource, "ADDED" if before is None else "MODIFIED", after, before)

    def delete(self, resource: str, name: str, last: Raw | None = None) -> None:
        """Delete an object; ``last`` is its final state, if it is another than the stored."""
        before = self._objects[resource].pop(name)
        self._append(resource, "DELETED", self._stamped(last or before), before)

    def emit(self, resource: str, kind: str, raw: Raw) -> None:
        """Put an event on the wire as it is, stored nowhere: a repeated or late one."""
        self._append(resource, kind, copy.deepcopy(raw), None)

    def get(self, resource: str, name: str) -> Raw:
        return copy.deepcopy(self._objects[resource][name])

    def bookmark(self) -> None:
        """Send every watch the current version."""
        for resource in RESOURCES:
            meta = {"resourceVersion": str(self._version), "creationTimestamp": None}
            self._append(resource, "BOOKMARK", {"metadata": meta}, None)

    def compact(self) -> None:
        """Forget all events so far: watches from older versions get 410."""
        self._version += 1
        self._compacted = self._version
        self._log.clear()

    def break_watches(self) -> None:
        """Cut every watch's connection, without a word."""
        for task in list(self._tasks):
            task.cancel()

    async def garble_watches(self, line: bytes = b"{not json\n") -> None:
        """Send every watch a line that is none; those that have gone get nothing."""
        for response in list(self._watchers):
            with suppress(ConnectionResetError):
                await response.write(line)

    @property
    def watching(self) -> int:
        """How many watches stand now."""
        return len(self._watchers)

    def _stamped(self, raw: Raw) -> Raw:
        self._version += 1
        stamped = copy.deepcopy(raw)
        stamped["metadata"]["resourceVersion"] = str(self._version)
        return stamped

    def _append(self, resource: str, kind: str, raw: Raw, before: Raw | None) -> None:
        self._count += 1
        self._log.append(_Written(self._count, self._version, resource, kind, raw, before))
        written, self._written = self._written, asyncio.Event()
        written.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        resource = request.match_info["resource"]
        verb = "watch" if request.query.get("watch") == "true" else "list"
        refusal = await self._admit(verb, resource)
        if refusal is not None:
            return refusal
        if verb == "list":
            return self._list(resource, request)
        return await self._watch(resource, request)

    async def _serve_one(self, request: web.Request) -> web.StreamResponse:
        resource, name = request.match_info["resource"], request.match_info["name"]
        refusal = await self._admit("get", resource)
        if refusal is not None:
            return refusal
        found = self._in(request)[resource].get(name)
        return web.json_response(found) if found else _status(404, "NotFound", f"no {name}")

    async def _admit(self, verb: str, resource: str) -> web.Response | None:
        self.requests[verb, resource] += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.failing:
            return _status(self.failing, "InternalError", "told to fail")
        if (verb, resource) in self.forbidden:
            return _status(
                403, "Forbidden",
                f'{resource} is forbidden: User "system:serviceaccount:rustic-ai:agent-host" '
                f'cannot {verb} resource "{resource}" in the namespace "{self.namespace}"',
            )  # fmt: skip
        return None

    def _in(self, request: web.Request) -> dict[str, dict[str, Raw]]:
        """The objects of the namespace asked for: another one has none, and is no error."""
        if request.match_info["ns"] == self.namespace:
            return self._objects
        return {resource: {} for resource in RESOURCES}

    def _list(self, resource: str, request: web.Request) -> web.Response:
        selector = request.query.get("labelSelector", "")
        found = [raw for raw in self._in(request)[resource].values() if _matches(raw, selector)]
        version, start = str(self._version), 0
        if token := request.query.get("continue"):
            version, _, offset = token.partition("/")
            start = int(offset)
            if int(version) < self._compacted:
                return _status(410, "Expired", "the continue parameter is too old")
        end = start + int(request.query.get("limit") or len(found) or 1)
        meta = {"resourceVersion": version}
        if end < len(found):
            meta["continue"] = f"{version}/{end}"
        return web.json_response(
            {"kind": _KINDS[resource], "metadata": meta, "items": found[start:end]}
        )

    async def _watch(self, resource: str, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion") or 0)
        expired = since < self._compacted
        if expired and not self.gone_as_event:
            return _status(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if expired:
            await _send(response, "ERROR", _status_object(410, "Expired", "too old"))
            return response
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._watchers.add(response)
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._follow(response, resource, request, since)
        except TimeoutError:
            pass
        except (asyncio.CancelledError, ConnectionResetError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._tasks.discard(task)
            self._watchers.discard(response)
        return response

    async def _follow(
        self, response: web.StreamResponse, resource: str, request: web.Request, since: int
    ) -> None:
        selector = request.query.get("labelSelector", "")
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        here = request.match_info["ns"] == self.namespace
        sent = max((w.number for w in self._log if w.version <= since), default=0)
        while True:
            written = self._written
            for entry in [w for w in self._log if w.number > sent]:
                sent = entry.number
                kind = _as_seen(entry, selector)
                wanted = kind and (bookmarks or kind != "BOOKMARK")
                if here and entry.resource == resource and wanted:
                    await _send(response, kind, entry.raw)
            await written.wait()

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` in the server's loop; only for :func:`api_in_thread`'s double."""
        raise NotImplementedError


def _as_seen(entry: _Written, selector: str) -> str:
    """The event as a watch with ``selector`` gets it; "" for none."""
    if entry.kind == "BOOKMARK":
        return "BOOKMARK"
    is_now = _matches(entry.raw, selector)
    if entry.before is None or entry.kind == "DELETED":
        return entry.kind if is_now else ""
    was = _matches(entry.before, selector)
    return {(True, True): "MODIFIED", (True, False): "DELETED", (False, True): "ADDED"}.get(
        (was, is_now), ""
    )


def _matches(raw: Raw, selector: str) -> bool:
    labels = raw["metadata"].get("labels") or {}
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(labels.get(key) == value for key, _, value in terms)


async def _send(response: web.StreamResponse, kind: str, raw: Raw) -> None:
    await response.write(json.dumps({"type": kind, "object": raw}).encode() + b"\n")


def _status_object(code: int, reason: str, message: str) -> Raw:
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    }  # fmt: skip


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(_status_object(code, reason, message), status=code)


class _Threaded(ApiDouble):
    loop: asyncio.AbstractEventLoop

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        async def in_loop() -> T:
            return fn(*args)

        return asyncio.run_coroutine_threadsafe(in_loop(), self.loop).result(10)


@contextmanager
def api_in_thread(namespace: str = "rustic-ai") -> Iterator[ApiDouble]:
    """A double that serves from a thread of its own while the block runs."""
    started = threading.Event()
    made: list[_Threaded] = []
    stop: list[asyncio.Event] = []

    async def main() -> None:
        double = _Threaded(namespace)
        double.loop = asyncio.get_running_loop()
        async with double:
            made.append(double)
            stop.append(asyncio.Event())
            started.set()
            await stop[0].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    if not started.wait(10):
        raise RuntimeError("the API double did not start")
    try:
        yield made[0]
    finally:
        made[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)
