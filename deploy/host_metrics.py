"""The metrics of ``roost host``: a system's statistics as Prometheus sees them. An adapter (Trio).

Needs prometheus_client (extra ``metrics``): import it only when METRICS_PORT is set.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import trio

import actors
from actors.statistics import Statistics
from deploy.metrics import Histogram, MetricsSnapshot
from deploy.metrics_server import serve_metrics
from wire.errors import ConfigError

log = logging.getLogger("roost.metrics")

LAG_EVERY_S = 0.1


@dataclass
class LoopLag:
    """The longest that Trio's loop was late since it was last asked for (seconds)."""

    every_s: float = LAG_EVERY_S
    _worst_s: float = field(default=0.0, init=False)

    async def run(self) -> None:
        """Measure, for ever."""
        while True:
            due_s = trio.current_time() + self.every_s
            await trio.sleep_until(due_s)
            self._worst_s = max(self._worst_s, trio.current_time() - due_s)

    def take(self) -> float:
        """The worst, which is then forgotten."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s


class Metrics:
    """A port that is bound, and what will be served there. Made by :func:`open_metrics`."""

    def __init__(self, listeners: list[trio.SocketListener]) -> None:
        self._listeners = listeners

    @property
    def port(self) -> int:
        port: int = self._listeners[0].socket.getsockname()[1]
        return port

    async def serve(self, system: actors.HostSystem) -> None:
        """Answer scrapes with the numbers of ``system``, for ever."""
        lag = LoopLag()

        def source() -> MetricsSnapshot:
            return snapshot(system.statistics(), lag.take())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.run)
            nursery.start_soon(serve_metrics, source, self._listeners)


async def open_metrics(host: str, port: int) -> Metrics:
    """Bind the port; 0 leaves it to the system. Raises ConfigError when it cannot be had."""
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as exc:
        why = exc.strerror or str(exc)
        raise ConfigError(
            f"METRICS_PORT {port} on {host} cannot be used ({why}): choose another port"
        ) from exc
    metrics = Metrics(listeners)
    log.info("metrics at http://%s:%d/metrics", host, metrics.port)
    return metrics


def snapshot(now: Statistics, loop_lag_s: float) -> MetricsSnapshot:
    """The statistics in the words of the metrics."""
    moves, traffic = now.moves, now.traffic
    return MetricsSnapshot(
        actors=now.actors,
        activations=now.activations_total,
        passivations=now.passivations_total,
        processes=now.processes,
        processes_max=now.processes_max,
        handoffs={
            "moved": moves.moved,
            "given_up": moves.given_up,
            "refused": moves.refused,
        },
        adoptions=now.adopted_total,
        handoffs_running=moves.running,
        handoff_oldest_s=moves.oldest_s,
        mailbox_depth=now.mailbox_depth,
        mailbox_deepest=now.mailbox_deepest,
        asks=Histogram(counts=now.asks.counts, sum_s=now.asks.sum_s),
        errors=now.errors,
        no_capacity=now.no_capacity_total,
        links=traffic.links,
        link_bytes={"in": traffic.bytes_in, "out": traffic.bytes_out},
        link_items={"in": traffic.items_in, "out": traffic.items_out},
        lease_margin_s=now.lease_margin_s,
        leases_lost=now.leases_lost_total,
        view_generation=now.view_generation,
        view_version=now.view_version,
        view_members=now.members,
        is_ready=int(now.is_ready),
        loop_lag_s=loop_lag_s,
    )
