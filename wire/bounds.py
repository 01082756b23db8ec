"""How large a payload and a gRPC message may be, wherever one is received. Pure."""

from __future__ import annotations

PAYLOAD_BYTES_MAX = 16 << 20
#: What a message may hold beside its payload: names, headers, a call chain, a whole batch.
OVERHEAD_BYTES = 1 << 20


def message_bytes_max(payload_bytes_max: int) -> int:
    """The largest gRPC message of a service whose payloads have at most that many bytes."""
    return payload_bytes_max + OVERHEAD_BYTES


def item_bytes_max(payload_bytes_max: int) -> int:
    """The largest encoded item of a link: its batch must still fit into one message."""
    return payload_bytes_max + OVERHEAD_BYTES // 2
