"""EndpointSlices and Pods as a cluster writes them, in JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Raw = dict[str, Any]

NAMESPACE = "rustic-ai"
SERVICE = "agent-host"


def uid_of(pod: str) -> str:
    return f"uid-of-{pod}"


def pod(
    name: str, *, uid: str = "", ready: bool = True, deleting: bool = False, ip: str = "10.0.0.1",
    state: Raw | None = None, last_state: Raw | None = None, grace_s: int = 90,
) -> Raw:  # fmt: skip
    """A pod of one container; ``state`` and ``last_state`` are container states."""
    meta: Raw = {
        "name": name, "namespace": NAMESPACE, "uid": uid or uid_of(name),
        "labels": {"app": SERVICE},
    }  # fmt: skip
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    status = {
        "name": "agent-host",
        "ready": ready,
        "state": state or {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "lastState": last_state or {},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {
            "containers": [{"name": "agent-host"}],
            "terminationGracePeriodSeconds": grace_s,
        },
        "status": {"phase": "Running", "podIP": ip, "containerStatuses": [status]},
    }


def ended(started: str, finished: str, reason: str = "Error", exit_code: int = 137) -> Raw:
    """The state of a container that has ended, times in RFC 3339."""
    return {
        "terminated": {
            "startedAt": started, "finishedAt": finished, "reason": reason, "exitCode": exit_code,
        }
    }  # fmt: skip


def endpoint(
    name: str, *, uid: str = "", ready: bool = True, terminating: bool = False,
    ip: str = "10.0.0.1",
) -> Raw:  # fmt: skip
    return {
        "addresses": [ip],
        "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
        "targetRef": {
            "kind": "Pod", "name": name, "namespace": NAMESPACE, "uid": uid or uid_of(name),
        },
    }  # fmt: skip


def endpoint_slice(name: str, endpoints: Iterable[Raw], family: str = "IPv4") -> Raw:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": f"uid-of-slice-{name}",
            "labels": {"kubernetes.io/service-name": SERVICE},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}],
    }  # fmt: skip
