"""What Prometheus gets to see of a host: a table of metrics, and its text. A decision module.

The host fills a :class:`MetricsSnapshot` when it is asked to; :func:`render` turns it into the
exposition format with prometheus_client (extra ``metrics``). Names, types and help stand in the
fields, so this table is the only place to add one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from actors.statistics import ASK_BOUNDS_S


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations by bucket. ``counts`` has one more than ``bounds_s``: those above them all."""

    bounds_s: tuple[float, ...] = ASK_BOUNDS_S
    counts: tuple[int, ...] = (0,) * (len(ASK_BOUNDS_S) + 1)
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds_s) + 1:
            raise ValueError(f"{len(self.counts)} counts for {len(self.bounds_s)} bounds")


def _metric(kind: str, name: str, meaning: str, default: Any, label: str = "") -> Any:
    metadata = {"kind": kind, "name": name, "meaning": meaning, "label": label}
    if isinstance(default, (Mapping, Histogram)):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _gauge(name: str, meaning: str, default: float = 0) -> Any:
    return _metric("gauge", name, meaning, default)


def _counter(name: str, meaning: str, label: str = "") -> Any:
    return _metric("counter", name, meaning, {} if label else 0, label)


def _histogram(name: str, meaning: str) -> Any:
    return _metric("histogram", name, meaning, Histogram())


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """A host at one moment. Counters count from the start of the process."""

    actors: int = _gauge("roost_actors", "Activations that live on this host")
    activations: int = _counter("roost_activations", "Activations started here")
    passivations: int = _counter("roost_passivations", "Activations passivated here")
    processes: int = _gauge("roost_processes", "Child processes of isolated actors")
    processes_max: int = _gauge("roost_processes_max", "MAX_PROCESSES of this host")
    handoffs: Mapping[str, int] = _counter(
        "roost_handoffs", "Moves out of this host, by outcome: moved, given_up, refused", "outcome"
    )
    adoptions: int = _counter("roost_adoptions", "Moves into this host")
    handoffs_running: int = _gauge("roost_handoffs_running", "Moves out of this host under way")
    handoff_oldest_s: float = _gauge(
        "roost_handoff_oldest_seconds", "Age of the oldest move under way, 0 without any"
    )
    mailbox_depth: int = _gauge("roost_mailbox_depth", "Messages that wait in all mailboxes here")
    mailbox_deepest: int = _gauge("roost_mailbox_deepest", "Messages in the fullest mailbox")
    asks: Histogram = _histogram(  # noqa: RUF009 (it makes a field)
        "roost_ask_latency_seconds",
        "Asks made from this host, from call to answer, errors included",
    )
    errors: Mapping[str, int] = _counter("roost_errors", "Calls that failed, by error", "code")
    no_capacity: int = _counter("roost_no_capacity", "Calls through this host that found no room")
    links: int = _gauge("roost_links", "Links to other hosts that stand")
    link_bytes: Mapping[str, int] = _counter(
        "roost_link_bytes", "Bytes on links, by direction: in, out", "direction"
    )
    link_items: Mapping[str, int] = _counter(
        "roost_link_items", "Items on links, by direction: in, out", "direction"
    )
    lease_margin_s: float = _gauge(
        "roost_lease_margin_seconds", "Time left until this host's lease ends; 0 when it has"
    )
    leases_lost: int = _counter("roost_leases_lost", "Leases that ended before they were renewed")
    view_generation: int = _gauge("roost_view_generation", "Generation of the registry's data")
    view_version: int = _gauge("roost_view_version", "Version of the view that this host acts on")
    view_members: int = _gauge("roost_view_members", "Hosts in that view")
    is_ready: int = _gauge("roost_ready", "1 when this host takes new actors, else 0")
    loop_lag_s: float = _gauge(
        "roost_loop_lag_seconds", "Longest that the loop was late since the last scrape"
    )


def names() -> Iterator[tuple[str, str]]:
    """(name as Prometheus sees it, type) of every metric, a histogram's three series included."""
    for row in fields(MetricsSnapshot):
        name, kind = row.metadata["name"], row.metadata["kind"]
        if kind == "histogram":
            yield from ((f"{name}_{part}", kind) for part in ("bucket", "sum", "count"))
        else:
            yield (f"{name}_total" if kind == "counter" else name), kind


def render(snapshot: MetricsSnapshot, accept: str = "") -> tuple[bytes, str]:
    """The body and its content type, in the format that the Accept header ``accept`` prefers."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return encode(registry), content_type


class _Collector:
    """What prometheus_client asks for metrics."""

    def __init__(self, snapshot: MetricsSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for row in fields(self._snapshot):
            yield _family(row.metadata, getattr(self._snapshot, row.name))


def _family(row: Mapping[str, str], value: Any) -> Metric:
    name, meaning, label = row["name"], row["meaning"], row["label"]
    if row["kind"] == "histogram":
        totals = [float(total) for total in accumulate(value.counts)]
        bounds = [*(f"{bound_s:g}" for bound_s in value.bounds_s), "+Inf"]
        buckets = list(zip(bounds, totals, strict=True))
        return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=value.sum_s)
    if row["kind"] == "gauge":
        return GaugeMetricFamily(name, meaning, value=value)
    if not label:
        return CounterMetricFamily(name, meaning, value=value)
    family = CounterMetricFamily(name, meaning, labels=[label])
    for labelled, count in sorted(value.items()):
        family.add_metric([labelled], count)
    return family
