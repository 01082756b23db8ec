"""The first frame in each direction of a link: who is there, and is it whom we mean?

A decision module: pure. Nothing is delivered before both sides have checked the other's Hello,
so a reused address never gets another host's messages.
"""

from __future__ import annotations

from wire.errors import ProtocolError
from wire.items import PROTOCOL_VERSION, Batch, Hello, decode_batch, encode_batch
from wire.ports import Peer


class Mismatch(ProtocolError):
    """Well formed, but not the host, cluster, protocol or session that was meant."""


def write_hello(hello: Hello) -> bytes:
    """The first frame's batch."""
    return encode_batch(Batch(0, hello.received, [hello]))


def read_hello(data: bytes) -> Hello:
    """The Hello that must be alone in the first batch; raises ProtocolError when it is not."""
    batch = decode_batch(data)
    if batch.number == 0 and len(batch.items) == 1:
        hello = batch.items[0]
        if isinstance(hello, Hello):
            return hello
    raise ProtocolError(f"the first frame must hold one Hello, not {len(batch.items)} other items")


def check_dialer(hello: Hello, me: Peer, cluster: str) -> None:
    """Whether the host that dialed us meant us; raises Mismatch naming both values."""
    _check_common(hello, cluster)
    if hello.target not in ("", me.incarnation):
        raise Mismatch(
            f"host {me.host_id} at {me.address} is incarnation {me.incarnation!r}, "
            f"not {hello.target!r}"
        )
    if hello.incarnation == me.incarnation:
        raise Mismatch(f"incarnation {me.incarnation!r} dialed itself")
    if not hello.session:
        raise ProtocolError("the dialer's Hello names no session")


def check_acceptor(hello: Hello, target: Peer, cluster: str, session: str) -> None:
    """Whether the host that answered is the one we dialed; raises Mismatch naming both values."""
    _check_common(hello, cluster)
    if hello.incarnation != target.incarnation:
        raise Mismatch(
            f"at {target.address} lives incarnation {hello.incarnation!r}, "
            f"not {target.incarnation!r}"
        )
    if hello.session != session:
        raise Mismatch(f"the answer is for session {hello.session!r}, not {session!r}")


def _check_common(hello: Hello, cluster: str) -> None:
    if hello.protocol != PROTOCOL_VERSION:
        raise Mismatch(f"protocol version {hello.protocol} meets {PROTOCOL_VERSION}")
    if hello.cluster != cluster:
        raise Mismatch(f"cluster {hello.cluster!r} meets {cluster!r}")
    if not hello.incarnation:
        raise ProtocolError("the Hello names no incarnation")
