"""Settings of a system and of a host: frozen, checked once, units in the names. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from wire.errors import ConfigError

if TYPE_CHECKING:
    from wire.tls import TlsConfig

MIB = 1 << 20
PORT_MAX = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemConfig:
    """Bounds of one system. Each bound names the error that a caller sees at it."""

    #: Deadline of an ask that gives none, in seconds (DeadlineExceeded).
    ask_timeout_s: float = 30.0
    #: Messages that wait in one actor's mailbox (MailboxFull). A kind may choose its own.
    mailbox_max: int = 1_000
    #: Envelopes in flight, not yet in the mailbox, per (sender, actor) across hosts. Larger
    #: hides more latency; smaller bounds what a stuck actor makes others hold.
    window: int = 128
    #: Largest encoded argument list, result, stream item or state, in bytes (InvalidArgument).
    payload_bytes_max: int = 16 * MIB
    #: Items that a stream's producer may be ahead of its consumer.
    stream_window: int = 64
    #: Seconds without a message after which an actor is passivated; 0: never.
    idle_after_s: float = 900.0
    #: Longest that ``on_deactivate`` may take, in seconds; then it is cancelled.
    deactivate_timeout_s: float = 10.0
    #: Longest chain of nested calls (CallCycle).
    chain_max: int = 64
    #: Activations that this host takes (NoCapacity); 0: no bound. On n hosts of capacity c the
    #: fullest has at most c * n / actors times the mean; see docs/protocol.md, Bounded load.
    capacity: int = 0
    #: Child processes of this host, for kinds with isolation="process" (NoCapacity).
    processes_max: int = 100
    #: Bytes that each of them may map beyond what it starts with (then it crashes); 0: no bound.
    process_memory_bytes_max: int = 0
    #: Modules that their fork server imports besides those of the kinds, so that pages are shared.
    preload: tuple[str, ...] = ()
    #: Streams (senders) that one activation remembers; the longest idle is forgotten first.
    streams_max: int = 4_096
    #: Locations of remote actors that a host remembers; the oldest is forgotten first.
    locations_max: int = 100_000

    def __post_init__(self) -> None:
        _at_least(self, 0.001, "ask_timeout_s")
        _at_least(self, 1, "mailbox_max", "window", "stream_window", "chain_max", "streams_max")
        _at_least(self, 1, "locations_max", "payload_bytes_max")
        _at_least(self, 0, "idle_after_s", "capacity", "processes_max", "process_memory_bytes_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """What makes a system a host of a cluster: its name, its addresses, Redis, its lease."""

    redis_url: str
    cluster: str = "default"
    #: Stable name of this host (the pod's name); "" means the machine's host name.
    host_id: str = ""
    bind: str = "0.0.0.0"
    port: int = 50051
    #: ip:port at which other hosts reach this one; "" means derived from ``bind`` and ``port``.
    advertise: str = ""
    #: How long a host may act after the renewal it last sent (seconds).
    lease_ttl_s: float = 12.0
    #: A loop that has not ticked for this long loses its lease; None: half the lease.
    stall_limit_s: float | None = None
    heartbeat_interval_s: float = 20.0
    #: How long a start waits for a Redis that is out of reach, or still loads its data (seconds).
    redis_wait_s: float = 0.0
    #: Longest that a drain waits for running handlers (seconds).
    drain_timeout_s: float = 30.0
    weight: float = 1.0
    #: Bytes of envelopes sent to one host and not yet acknowledged; later ones wait. More hides
    #: more latency; less bounds what a broken connection makes the link hold and send again.
    link_credit_bytes: int = 4 * MIB
    #: The UID of the pod that this host runs in, for its record; "" outside of Kubernetes.
    pod_uid: str = ""
    tls: TlsConfig | None = None
    token: str | None = None
    #: Plaintext port that serves grpc.health.v1 only; None: none.
    health_port: int | None = None
    system: SystemConfig = field(default_factory=SystemConfig)

    def __post_init__(self) -> None:
        _at_least(self, 0.2, "lease_ttl_s")
        _at_least(self, 0.1, "heartbeat_interval_s")
        _at_least(self, 0, "drain_timeout_s", "port", "redis_wait_s")
        if self.port > PORT_MAX:
            raise ConfigError(f"port is {self.port}; it must be at most {PORT_MAX}")
        _at_least(self, 0.01, "weight")
        _at_least(self, 1, "link_credit_bytes")
        if self.stall_limit_s is not None and not 0 < self.stall_limit_s < self.lease_ttl_s:
            raise ConfigError(
                f"stall_limit_s is {self.stall_limit_s}; it must be above 0 and below "
                f"lease_ttl_s ({self.lease_ttl_s})"
            )
        if not self.cluster or any(c in self.cluster for c in "{} \t\n"):
            raise ConfigError(
                f"cluster is {self.cluster!r}; use a non-empty name without spaces and braces"
            )


def _at_least(config: object, least: float, *names: str) -> None:
    known = {f.name for f in fields(config)}  # type: ignore[arg-type]
    for name in names:
        assert name in known, name
        value = getattr(config, name)
        if not isinstance(value, (int, float)) or not value >= least:
            raise ConfigError(f"{name} is {value!r}; it must be a number of at least {least}")
