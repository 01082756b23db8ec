"""A Deployment's controllers and kubelet, played: `roost host` processes as pods on 127.0.0.x,
whose pods and endpoints appear in an API double as Kubernetes would write them.

    with api_in_thread() as api, Deployment(api, environment(...)) as deployment:
        names = [deployment.create() for _ in range(3)]
        deployment.wait_ready(names)
        deployment.terminate(names[0])      # SIGTERM, while its endpoint is withdrawn
        deployment.wait_gone(names[:1])
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from tests.integration.shell import Running, started
from tests.k8s.api_double import ApiDouble, Raw
from tests.k8s.objects import ended, endpoint, endpoint_slice, pod


class FakePod:
    """One pod: its process, and what Kubernetes says of it."""

    def __init__(self, name: str, ip: str, process: Running) -> None:
        self.name = name
        self.ip = ip
        self.process = process
        self.began = _now()
        self.ready = False
        self.terminating = False

    @property
    def uid(self) -> str:
        return f"uid-of-{self.name}"

    def raw(self, state: Raw | None = None) -> Raw:
        running = {"running": {"startedAt": self.began}}
        return pod(
            self.name, uid=self.uid, ip=self.ip, ready=self.ready, deleting=self.terminating,
            state=state or running,
        )  # fmt: skip

    def endpoint(self) -> Raw:
        return endpoint(
            self.name, uid=self.uid, ip=self.ip, ready=self.ready, terminating=self.terminating
        )


class Deployment:
    """See the module. ``addresses`` are those that pods may get, in their order; one that is free
    again is given to the next pod."""

    def __init__(
        self, api: ApiDouble, environ: Mapping[str, str], port: int, addresses: Sequence[str]
    ) -> None:
        self.pods: dict[str, FakePod] = {}
        self._api = api
        self._environ = dict(environ) | {"GRPC_PORT": str(port), "K8S_API": api.url}
        self._addresses = addresses
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def create(self) -> str:
        """Start one more pod, on the main thread; its name. It is not ready yet."""
        taken = {p.ip for p in self.pods.values()}
        ip = next(address for address in self._addresses if address not in taken)
        name = f"agent-host-{next(self._numbers)}"
        environ = self._environ | {
            "HOSTNAME": name, "POD_IP": ip, "GRPC_BIND": ip, "POD_UID": f"uid-of-{name}",
        }  # fmt: skip
        process = self._stack.enter_context(started("host", env=environ))
        self.pods[name] = FakePod(name, ip, process)
        self._write(name)
        return name

    def wait_ready(self, names: Sequence[str]) -> None:
        """Until each serves; then its endpoint is ready."""
        for name in names:
            self.pods[name].process.wait_for("ready at", 60)
            self.pods[name].ready = True
            self._write(name)

    def terminate(self, name: str) -> None:
        """As a kubelet and the endpoints' controller do at the same time: SIGTERM to the process,
        and its endpoint is no longer ready."""
        found = self.pods[name]
        found.terminating, found.ready = True, False
        found.process.signal(signal.SIGTERM)
        self._write(name)

    def crash(self, name: str) -> None:
        """Kill the container, and let its kubelet write that it has ended. The pod stays."""
        found = self.pods[name]
        found.process.signal(signal.SIGKILL)
        found.process.ended()
        found.ready = False
        self._api.call(self._api.put, "pods", found.raw(ended(found.began, _now(), "Error", 137)))
        self._write_slice()

    def wait_gone(self, names: Sequence[str]) -> list[int]:
        """Until each has ended; then pod and endpoint are deleted. Their exit statuses."""
        statuses = []
        for name in names:
            statuses.append(self.pods[name].process.ended(60))
            gone = self.pods.pop(name)
            last = gone.raw(ended(gone.began, _now(), "Completed", 0))
            self._api.call(self._api.delete, "pods", name, last)
            self._write_slice()
        return statuses

    def _write(self, name: str) -> None:
        self._api.call(self._api.put, "pods", self.pods[name].raw())
        self._write_slice()

    def _write_slice(self) -> None:
        points = [p.endpoint() for p in list(self.pods.values())]
        self._api.call(self._api.put, "endpointslices", endpoint_slice("agent-host", points))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
