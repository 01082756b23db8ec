"""What EndpointSlices and Pods say, read from their JSON. A decision module: pure.

Nothing here raises on what the API may send: an object that cannot be used as it is becomes a
complaint, one clear line, and what can be used of it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, cast

Raw = dict[str, Any]

STATUS_UNKNOWN = "ContainerStatusUnknown"


class Stamp(NamedTuple):
    """Which object, and which version of it. ``version`` is 0 when the server's are no numbers."""

    name: str
    uid: str
    version: int


class Endpoint(NamedTuple):
    """A pod as an EndpointSlice sees it."""

    pod: str
    pod_uid: str
    ready: bool
    terminating: bool


class Death(NamedTuple):
    """One run of the container that the kubelet saw end; times in Unix seconds."""

    started_s: float
    finished_s: float
    reason: str


class Pod(NamedTuple):
    """A pod: whether it has been asked to go, and which of its container's runs have ended.

    ``running_since_s``: when the run that goes on began (Unix seconds), if one does.
    """

    name: str
    uid: str
    deleting: bool
    deaths: tuple[Death, ...] = ()
    running_since_s: float | None = None
    grace_s: int | None = None


class Slice(NamedTuple):
    """What one EndpointSlice says, and one line for each thing in it that cannot be used."""

    endpoints: tuple[Endpoint, ...]
    complaints: tuple[str, ...]


def stamp(raw: Raw) -> Stamp:
    """The identity of any object."""
    meta = _dict(raw.get("metadata"))
    version = _text(meta.get("resourceVersion"))
    return Stamp(
        name=_text(meta.get("name")),
        uid=_text(meta.get("uid")),
        version=int(version) if version.isascii() and version.isdigit() else 0,
    )


def read_slice(raw: Raw, namespace: str) -> Slice:
    """The endpoints of one EndpointSlice, those of other objects than pods left out.

    Addresses are not looked at beyond complaining of them: a host dials the POD_IP that another
    wrote into Redis, and the handshake checks who answers.
    """
    name = stamp(raw).name or "without a name"
    endpoints: list[Endpoint] = []
    complaints = list(_slice_complaints(raw))
    for item in _list(raw.get("endpoints")):
        endpoint = _dict(item)
        complaint = _endpoint_complaint(endpoint, namespace)
        if complaint:
            complaints.append(complaint)
        else:
            endpoints.append(_endpoint(endpoint))
    return Slice(tuple(endpoints), tuple(f"EndpointSlice {name}: {c}" for c in complaints))


def _slice_complaints(raw: Raw) -> Iterator[str]:
    family = raw.get("addressType")
    if family == "IPv6":
        yield (
            "IPv6 addresses only; its readiness is used, "
            "and hosts dial the POD_IP that each has announced"
        )
    elif family != "IPv4":
        yield f"address type {family!r} is neither IPv4 nor IPv6; its readiness is used"
    ports = [_dict(port) for port in _list(raw.get("ports"))]
    if len(ports) > 1:
        names = ", ".join(f"{p.get('name') or 'unnamed'} {p.get('port')}" for p in ports)
        yield f"{len(ports)} ports ({names}) where one is expected; hosts dial the announced one"


def _endpoint_complaint(endpoint: Raw, namespace: str) -> str:
    """Why the endpoint cannot be used, else ""."""
    target = _dict(endpoint.get("targetRef"))
    addresses = [a for a in _list(endpoint.get("addresses")) if isinstance(a, str) and a]
    where = addresses[0] if addresses else "without address"
    if not addresses:
        return f"an endpoint ({target.get('name') or 'unnamed'}) has no addresses; ignored"
    if not target:
        return f"endpoint {where} has no targetRef, so it names no pod; ignored"
    if target.get("kind") != "Pod" or not _text(target.get("name")):
        return f"endpoint {where} refers to {target.get('kind')!r}, not to a named Pod; ignored"
    if target.get("namespace", namespace) != namespace:
        return f"endpoint {where} refers to a pod of namespace {target['namespace']!r}; ignored"
    return ""


def _endpoint(raw: Raw) -> Endpoint:
    conditions = _dict(raw.get("conditions"))
    target = _dict(raw["targetRef"])
    return Endpoint(
        pod=_text(target.get("name")),
        pod_uid=_text(target.get("uid")),
        # The API says that absent means ready, and that absent means not terminating.
        ready=conditions.get("ready") is not False,
        terminating=conditions.get("terminating") is True,
    )


def read_pod(raw: Raw, container: str) -> Pod:
    """The pod, with the ended runs of its container ``container`` (or of its only one)."""
    meta, spec, status = (_dict(raw.get(part)) for part in ("metadata", "spec", "status"))
    grace = spec.get("terminationGracePeriodSeconds")
    statuses = [_dict(item) for item in _list(status.get("containerStatuses"))]
    mine = [s for s in statuses if len(statuses) == 1 or s.get("name") == container]
    return Pod(
        name=_text(meta.get("name")),
        uid=_text(meta.get("uid")),
        deleting=bool(meta.get("deletionTimestamp")),
        deaths=tuple(_deaths(mine)),
        running_since_s=max(
            (since_s for s in mine if (since_s := _running_since_s(s))), default=None
        ),
        grace_s=grace if isinstance(grace, int) else None,
    )


def _running_since_s(status: Raw) -> float | None:
    return unix_s(_dict(_dict(status.get("state")).get("running")).get("startedAt"))


def _deaths(statuses: list[Raw]) -> Iterator[Death]:
    for status in statuses:
        for state in ("state", "lastState"):
            death = _death(_dict(_dict(status.get(state)).get("terminated")))
            if death:
                yield death


def _death(terminated: Raw) -> Death | None:
    """The end that a kubelet witnessed; None for one that it merely concluded (rule 16)."""
    reason = _text(terminated.get("reason"))
    started_s = unix_s(terminated.get("startedAt"))
    finished_s = unix_s(terminated.get("finishedAt"))
    if not reason or reason == STATUS_UNKNOWN or started_s is None or finished_s is None:
        return None
    return Death(started_s, finished_s, reason)


def unix_s(text: object) -> float | None:
    """The API's timestamp (RFC 3339, UTC) in Unix seconds; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    # A zero time means "never": the API writes the year 1 for it.
    return time.timestamp() if time.tzinfo and time.year > 1970 else None


def _dict(value: object) -> Raw:
    return cast("Raw", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
