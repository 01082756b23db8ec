"""From the API's objects to evidence: how each pod behind the service stands. Pure decisions.

:class:`Findings` takes lists and events as they come, repeated or out of order, and says what
they add up to. It keeps no clock: ``now_s`` is an argument, in seconds that only grow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from deploy.watch.objects import Death, Endpoint, Pod, Raw, Slice, read_pod, read_slice, stamp

T = TypeVar("T")

#: How many deleted objects are remembered, so that late events do not bring them back.
DELETED_MAX = 512


class Standing(StrEnum):
    """What Kubernetes says of one pod."""

    UNKNOWN = "unknown"  # nothing yet that would justify a change
    READY = "ready"
    NOT_READY = "not ready"  # and has been for the hysteresis
    TERMINATING = "terminating"
    GONE = "gone"  # its object is deleted; the process may still run


class Evidence(NamedTuple):
    """One pod's standing, the ended runs of its container, which are proofs of death, and the
    start of the one that goes on (Unix seconds)."""

    pod: str
    pod_uid: str
    standing: Standing
    deaths: tuple[Death, ...] = ()
    running_since_s: float | None = None


class Findings:
    """All that the watch has seen of one service and the pods behind it.

    ``not_ready_after_s``: how long a pod must be not ready in one go before it counts.
    """

    def __init__(self, namespace: str, container: str, not_ready_after_s: float) -> None:
        self._namespace = namespace
        self._container = container
        self._not_ready_after_s = not_ready_after_s
        self._slices = _Objects[Slice]()
        self._pods = _Objects[Pod]()
        self._gone: OrderedDict[str, Pod] = OrderedDict()  # by uid
        self._not_ready_since: dict[str, float] = {}  # by uid

    def slices_listed(self, items: Iterable[Raw], now_s: float) -> None:
        """The complete list of the service's EndpointSlices."""
        self._slices.replace((raw, read_slice(raw, self._namespace)) for raw in items)
        self._note_readiness(now_s)

    def slice_event(self, kind: str, raw: Raw, now_s: float) -> None:
        """One watch event (ADDED, MODIFIED or DELETED) of an EndpointSlice."""
        if kind == "DELETED":
            self._slices.delete(raw)
        else:
            self._slices.put(raw, read_slice(raw, self._namespace))
        self._note_readiness(now_s)

    def pods_listed(self, items: Iterable[Raw], now_s: float) -> None:
        """The complete list of pods. Those that are missing from it are gone, as last seen."""
        missing = self._pods.replace((raw, read_pod(raw, self._container)) for raw in items)
        for pod in missing:
            self._bury(pod)
        self._note_readiness(now_s)

    def pod_event(self, kind: str, raw: Raw, now_s: float) -> None:
        """One watch event of a pod; a DELETED one carries the pod's last state."""
        pod = read_pod(raw, self._container)
        if kind != "DELETED":
            self._pods.put(raw, pod)
        elif self._pods.delete(raw):
            self._bury(pod)
        self._note_readiness(now_s)

    def evidence(self, now_s: float) -> tuple[Evidence, ...]:
        """What is known at ``now_s``, sorted by pod and uid."""
        pods = {pod.uid: pod for pod in self._pods.values()}
        endpoints = {u: e for u, e in self._endpoints().items() if u not in self._gone}
        found = [
            Evidence(pod.name, uid, Standing.GONE, pod.deaths) for uid, pod in self._gone.items()
        ]
        # A pod without endpoint tells of its end; an endpoint without pod (pods may be forbidden)
        # still tells whether it is ready.
        for uid in pods.keys() | endpoints.keys():
            pod = pods.get(uid) or Pod(endpoints[uid].pod, uid, False)
            standing = self._standing(pod, endpoints.get(uid), now_s)
            found.append(Evidence(pod.name, uid, standing, pod.deaths, pod.running_since_s))
        return tuple(sorted(found, key=lambda evidence: evidence[:2]))

    def next_change_s(self, now_s: float) -> float | None:
        """When, after ``now_s``, evidence changes by the mere passing of time, if it does."""
        due = [since + self._not_ready_after_s for since in self._not_ready_since.values()]
        return min((due_s for due_s in due if due_s > now_s), default=None)

    def complaints(self) -> tuple[str, ...]:
        """What cannot be used as it is, one line each, sorted."""
        return tuple(sorted({line for found in self._slices.values() for line in found.complaints}))

    def counts(self) -> tuple[int, int]:
        """(endpoints, pods) seen now."""
        return len(self._endpoints()), len(self._pods)

    def _standing(self, pod: Pod, endpoint: Endpoint | None, now_s: float) -> Standing:
        if pod.deleting or (endpoint and endpoint.terminating):
            return Standing.TERMINATING
        if endpoint is None:
            return Standing.UNKNOWN
        if endpoint.ready:
            return Standing.READY
        since_s = self._not_ready_since.get(pod.uid, now_s)
        settled = now_s >= since_s + self._not_ready_after_s
        return Standing.NOT_READY if settled else Standing.UNKNOWN

    def _endpoints(self) -> dict[str, Endpoint]:
        """By pod uid, merged: while endpoints move between slices a pod is in two of them."""
        merged: dict[str, Endpoint] = {}
        uids = {pod.name: pod.uid for pod in self._pods.values()}
        for endpoint in self._all_endpoints():
            uid = endpoint.pod_uid or uids.get(endpoint.pod, "")
            other = merged.get(uid, endpoint)
            merged[uid] = endpoint._replace(
                ready=endpoint.ready or other.ready,
                terminating=endpoint.terminating or other.terminating,
            )
        return merged

    def _all_endpoints(self) -> Iterator[Endpoint]:
        for found in self._slices.values():
            yield from found.endpoints

    def _note_readiness(self, now_s: float) -> None:
        endpoints = self._endpoints()
        waiting = {
            uid: self._not_ready_since.get(uid, now_s)
            for uid, endpoint in endpoints.items()
            if not endpoint.ready
        }
        self._not_ready_since = waiting

    def _bury(self, pod: Pod) -> None:
        self._gone[pod.uid] = pod
        while len(self._gone) > DELETED_MAX:
            self._gone.popitem(last=False)


class _Objects(Generic[T]):
    """Objects of one kind by uid, each in the newest version that was seen of it."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, T]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def values(self) -> Iterator[T]:
        return (value for _, value in self._held.values())

    def put(self, raw: Raw, value: T) -> None:
        """Take ``value``, unless a newer version is known or the object was deleted."""
        name, uid, version = stamp(raw)
        key = uid or name
        known = self._held.get(key)
        if key not in self._deleted and (known is None or version >= known[0]):
            self._held[key] = (version, value)

    def delete(self, raw: Raw) -> bool:
        """Forget the object; False when that is no news. A uid never comes back."""
        name, uid, _ = stamp(raw)
        key = uid or name
        if key in self._deleted:
            return False
        self._held.pop(key, None)
        if uid:
            self._remember(key)
        return True

    def replace(self, listed: Iterable[tuple[Raw, T]]) -> list[T]:
        """Take a complete list; returns what was known and is missing from it."""
        pairs = list(listed)
        keys = {stamp(raw).uid or stamp(raw).name for raw, _ in pairs}
        missing = {key: value for key, (_, value) in self._held.items() if key not in keys}
        for key in missing:
            del self._held[key]
            self._remember(key)
        for raw, value in pairs:
            self.put(raw, value)
        return list(missing.values())

    def _remember(self, key: str) -> None:
        self._deleted[key] = None
        while len(self._deleted) > DELETED_MAX:
            self._deleted.popitem(last=False)
