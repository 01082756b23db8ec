"""grpc.health.v1.Health, as Kubernetes' probes and grpc clients ask for it. An adapter.

The service "" is whether this host holds its lease; "ready" (also "roost.ready" and the names of
services) whether it takes new work, which a host that drains does not. "roost.alive" is whether its
process answers at all: a host without Redis joins again by itself, and a restart would cost time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthBase
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

ALIVE_NAME = "roost.alive"
READY_NAMES = frozenset({"ready", "roost.ready"})
WATCH_INTERVAL_S = 0.2


class Health(HealthBase):
    """Answers from ``health``, which returns (alive, ready) and is asked each time."""

    def __init__(
        self, health: Callable[[], tuple[bool, bool]], services: Collection[str] = ()
    ) -> None:
        self._health = health
        self._ready_names = READY_NAMES | set(services)

    async def Check(self, stream: Any) -> None:
        request: HealthCheckRequest = await stream.recv_message()
        status = self._status(request.service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise GRPCError(Status.NOT_FOUND, f"no service {request.service!r} here")
        await stream.send_message(HealthCheckResponse(status=status))

    async def Watch(self, stream: Any) -> None:
        """The status now, and again within WATCH_INTERVAL_S whenever it has changed."""
        request: HealthCheckRequest = await stream.recv_message()
        told = None
        while True:
            status = self._status(request.service)
            if status != told:
                await stream.send_message(HealthCheckResponse(status=status))
                told = status
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _status(self, service: str) -> Any:
        alive, ready = self._health()
        if service in self._ready_names:
            serving = ready
        elif service == "":
            serving = alive
        elif service == ALIVE_NAME:
            serving = True
        else:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
