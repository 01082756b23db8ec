"""What to watch, how patiently, and which API server. Decisions: pure but for the file check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVICE_LABEL = "kubernetes.io/service-name"
ALONE = "running from Redis heartbeats alone"


@dataclass(frozen=True)
class WatchConfig:
    """One headless service and its pods. All times in seconds.

    ``pod_selector``: which pods are behind the service ("": those labelled ``app=SERVICE``; the
    Service itself is not read, which would need one more permission).
    ``container``: whose end proves a host's death; a pod with one container needs no match.
    ``not_ready_after_s``: how long a pod must be not ready before it gets no new actors. Short
    keeps actors off a sick host sooner, long bears flapping probes.
    ``watch_timeout_s``: when the server shall end a watch, to be resumed at once.
    ``idle_after_s``: a watch silent for this long is taken for broken and resumed. API servers
    send bookmarks about once a minute.
    ``retry_min_s``, ``retry_max_s``: bounds of the pause, doubled at each failure, between tries.
    """

    namespace: str
    service: str = "agent-host"
    pod_selector: str = ""
    container: str = "agent-host"
    not_ready_after_s: float = 10.0
    watch_timeout_s: int = 290
    idle_after_s: float = 90.0
    connect_timeout_s: float = 10.0
    retry_min_s: float = 0.5
    retry_max_s: float = 30.0

    @property
    def slice_labels(self) -> str:
        return f"{SERVICE_LABEL}={self.service}"

    @property
    def pod_labels(self) -> str:
        return self.pod_selector or f"app={self.service}"


@dataclass(frozen=True)
class ApiServer:
    """Where the API is. ``url`` "": the service account's, as Kubernetes gives it to pods."""

    url: str = ""


@dataclass(frozen=True)
class NoCluster:
    """There is no API to watch; ``reason`` is a line for the log."""

    reason: str


def find_api(
    environ: Mapping[str, str], url: str = "", account: Path = SERVICE_ACCOUNT
) -> ApiServer | NoCluster:
    """The API server: ``url`` (``kubectl proxy`` serves one), else the pod's own, else none."""
    if url:
        return ApiServer(url.rstrip("/"))
    if not environ.get("KUBERNETES_SERVICE_HOST"):
        return NoCluster(f"no Kubernetes API in reach (KUBERNETES_SERVICE_HOST is unset): {ALONE}")
    for name in ("token", "ca.crt"):
        if not (account / name).is_file():
            return NoCluster(f"no Kubernetes API in reach ({account / name} is missing): {ALONE}")
    return ApiServer()


def find_namespace(configured: str, account: Path = SERVICE_ACCOUNT) -> str:
    """The namespace: configured, else the service account's own, else ``default``."""
    if configured:
        return configured
    try:
        return (account / "namespace").read_text().strip() or "default"
    except OSError:
        return "default"
