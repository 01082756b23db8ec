"""Lists and watches, through the official Kubernetes client's asyncio flavour. An adapter.

Its generic ``ApiClient`` is used, not its typed APIs and its ``Watch``: the models of CoreV1Api
take 130 MB of every host's memory and refuse objects that they find malformed, and ``Watch``
swallows 410 Gone. The client is imported where there is a cluster to watch, and only there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from deploy.watch.config import ApiServer, WatchConfig
from deploy.watch.objects import Raw

T = TypeVar("T")

PAGE_ITEMS = 500


@dataclass(frozen=True)
class Collection:
    """A namespaced kind of objects, and how an RBAC rule calls it."""

    group: str
    version: str
    resource: str
    labels: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource

    def path(self, namespace: str) -> str:
        root = f"/apis/{self.group}" if self.group else "/api"
        return f"{root}/{self.version}/namespaces/{namespace}/{self.resource}"


class ApiError(Exception):
    """The API server did not answer as it should; ``status`` is 0 when it did not answer."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class Expired(ApiError):
    """410 Gone: the resource version is too old to go on from. List anew."""


class Forbidden(ApiError):
    """401 or 403: the service account may not do this."""


class Event:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    __slots__ = ("kind", "raw", "version")

    def __init__(self, kind: str, raw: Raw) -> None:
        self.kind = kind
        self.raw = raw
        self.version = str((raw.get("metadata") or {}).get("resourceVersion") or "")


def load_client() -> None:
    """Import what :class:`Api` will need; if it is not installed, the watch will say so."""
    with suppress(ImportError):
        import aiohttp  # noqa: F401
        import kubernetes.aio.client.api_client
        import kubernetes.aio.config  # noqa: F401


class Api:
    """One connection pool to the API server. Made within a running asyncio loop."""

    def __init__(self, server: ApiServer, config: WatchConfig) -> None:
        from kubernetes.aio.client.api_client import ApiClient
        from kubernetes.aio.client.configuration import Configuration
        from kubernetes.aio.config import load_incluster_config

        settings = Configuration()
        if server.url:
            settings.host = server.url
        else:
            load_incluster_config(settings)  # type: ignore[no-untyped-call]
        self._client = ApiClient(settings)
        self._config = config

    async def aclose(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, collection: Collection, name: str) -> Raw:
        """One object by name; raises ApiError."""
        return await self._read(f"{collection.path(self._config.namespace)}/{name}", {})

    async def list_all(self, collection: Collection) -> tuple[list[Raw], str]:
        """All objects, and the resource version to watch from; raises ApiError."""
        items: list[Raw] = []
        token = ""
        while True:
            query = {"labelSelector": collection.labels, "limit": str(PAGE_ITEMS)}
            if token:
                query["continue"] = token
            page = await self._read(collection.path(self._config.namespace), query)
            meta = page.get("metadata") or {}
            items += [item for item in page.get("items") or [] if isinstance(item, dict)]
            token = str(meta.get("continue") or "")
            if not token:
                return items, str(meta.get("resourceVersion") or "")

    @asynccontextmanager
    async def watch(
        self, collection: Collection, version: str
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Within the block the watch stands: the events after ``version``, until the server ends
        it, which it does in time.

        Raises Expired when ``version`` is too old, ApiError when the connection breaks.
        """
        query = {
            "labelSelector": collection.labels,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(self._config.watch_timeout_s),
        }
        path = collection.path(self._config.namespace)
        response = await self._open(path, query, self._config.watch_timeout_s + 30.0)
        try:
            yield _events(response)
        finally:
            response.close()

    async def _read(self, path: str, query: dict[str, str]) -> Raw:
        response = await self._open(path, query, 60.0)
        try:
            return _object(await _reading(response.read()))
        finally:
            response.close()

    async def _open(self, path: str, query: dict[str, str], total_s: float) -> Any:
        """The response, once its status is good; anything else raises."""
        import aiohttp

        request = await _reading(
            self._client.param_serialize(
                method="GET",
                resource_path=path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
        )
        timeout = aiohttp.ClientTimeout(
            total=total_s,
            sock_connect=self._config.connect_timeout_s,
            sock_read=self._config.idle_after_s,
        )
        answer = await _reading(self._client.call_api(*request, _request_timeout=timeout))
        response = answer.response
        if response.status != 200:
            try:
                body = await _reading(response.read())
            finally:
                response.close()
            raise _error(response.status, body, response.headers.get("Retry-After", ""))
        return response


async def _events(response: Any) -> AsyncIterator[Event]:
    while line := await _reading(response.content.readline()):
        yield _event(line)


async def _reading(step: Awaitable[T]) -> T:
    """Await one step of HTTP; every way in which it fails becomes an ApiError."""
    import aiohttp
    from kubernetes.aio.config import ConfigException

    try:
        return await step
    except TimeoutError as exc:
        raise ApiError("no answer in time") from exc
    except (aiohttp.ClientError, OSError, ValueError, ConfigException) as exc:
        raise ApiError(f"{type(exc).__name__}: {exc}".rstrip(": ")) from exc


def _event(line: bytes) -> Event:
    parsed = _object(line)
    kind, raw = parsed.get("type"), parsed.get("object")
    if not isinstance(kind, str) or not isinstance(raw, dict):
        raise ApiError(f"not a watch event: {line[:80]!r}")
    if kind == "ERROR":
        raise _status_error(raw)
    return Event(kind, raw)


def _object(body: bytes) -> Raw:
    try:
        parsed = json.loads(body)
    except ValueError as exc:
        raise ApiError(f"not JSON: {body[:80]!r}") from exc
    if not isinstance(parsed, dict):
        raise ApiError(f"not a JSON object: {body[:80]!r}")
    return cast("Raw", parsed)


def _error(status: int, body: bytes, retry_after: str) -> ApiError:
    try:
        error = _status_error(_object(body) | {"code": status})
    except ApiError:
        error = _status_error({"code": status, "message": body[:80].decode(errors="replace")})
    error.retry_after_s = float(retry_after) if retry_after.isdigit() else 0.0
    return error


_ERRORS: dict[int, type[ApiError]] = {401: Forbidden, 403: Forbidden, 410: Expired}


def _status_error(status: Raw) -> ApiError:
    """The error that a Status object stands for."""
    code = status.get("code")
    code = code if isinstance(code, int) else 0
    message = f"{code} {status.get('reason') or ''}: {status.get('message') or ''}".strip(": ")
    return _ERRORS.get(code, ApiError)(message, code)
