"""The settings of a host's links to other hosts, validated. A decision module: pure."""

from __future__ import annotations

from dataclasses import dataclass

from wire.bounds import OVERHEAD_BYTES, PAYLOAD_BYTES_MAX, item_bytes_max, message_bytes_max


@dataclass(frozen=True)
class LinkConfig:
    """Bounds and times of every link of one host. Bytes are encoded bytes, times are seconds.

    Raises ValueError that names the setting. The last three are for links over gRPC only.
    """

    #: One payload. An item may have ``item_bytes_max``, a frame ``frame_bytes_max``.
    payload_bytes_max: int = PAYLOAD_BYTES_MAX
    #: Envelopes sent to one peer and not yet acknowledged. More: higher throughput over long
    #: distances; less: less to send again and to hold.
    credit_bytes: int = 4 << 20
    #: One frame holds at most so many items, and bytes unless a single item is larger.
    batch_items_max: int = 512
    batch_bytes_max: int = 256 << 10
    #: So many items leave at once, though more may follow in the same turn of the loop: the other
    #: side works on them meanwhile. More: fewer system calls; less: more that overlaps.
    early_items: int = 24
    #: Envelopes queued for one peer at which ``send`` says that there is no room.
    room_bytes: int = 8 << 20
    room_items: int = 65_536
    #: Everything queued or unacknowledged to one peer; beyond it the session is given up.
    backlog_bytes_max: int = 256 << 20
    #: Received and not acknowledged, at which an acknowledgement goes out at once ...
    ack_batches: int = 16
    ack_bytes: int = 64 << 10
    #: ... and how long it waits otherwise for a batch to ride on.
    ack_delay_s: float = 0.002
    #: How long a session that a peer dialed waits for that peer to come back.
    orphan_ttl_s: float = 30.0
    #: Dialing and handshake, and the polite end of a stream.
    connect_timeout_s: float = 5.0
    #: Between attempts to connect: doubles from the first to the second, with jitter.
    backoff_start_s: float = 0.05
    backoff_max_s: float = 1.0
    #: Sessions that peers may have open with this host.
    sessions_max: int = 10_000
    #: What a connection that we dialed may have in flight towards us (HTTP/2 windows).
    window_bytes: int = 8 << 20
    #: The name that a peer's certificate must carry instead of its address.
    tls_name: str | None = None
    #: Whether a dialer must show a certificate (mutual TLS).
    peer_certificate: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in ("tls_name", "peer_certificate") and not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        if self.batch_bytes_max > OVERHEAD_BYTES // 2:
            raise ValueError(
                f"batch_bytes_max {self.batch_bytes_max} is over {OVERHEAD_BYTES // 2}: a batch "
                "must fit into a frame whatever payload_bytes_max is"
            )
        if self.backoff_max_s < self.backoff_start_s:
            raise ValueError(
                f"backoff_max_s {self.backoff_max_s} is below backoff_start_s "
                f"{self.backoff_start_s}"
            )

    @property
    def item_bytes_max(self) -> int:
        return item_bytes_max(self.payload_bytes_max)

    @property
    def frame_bytes_max(self) -> int:
        return message_bytes_max(self.payload_bytes_max)
