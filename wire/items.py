"""What travels on a link: a batch of items, msgpack arrays with an integer tag in front.

These structs are the vocabulary between two hosts (design section 4). A batch is what one
``roost.v1.Frame`` carries. A decision module: pure data, encoded and decoded here only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum

import msgspec

from wire.errors import ProtocolError

PROTOCOL_VERSION = 2


class Mode(IntEnum):
    """What the caller waits for."""

    TELL = 0
    ASK = 1
    STREAM = 2


class Content(IntEnum):
    """How a payload is encoded."""

    MSGPACK = 0
    JSON = 1


class Refusal(IntEnum):
    """Why an envelope was not accepted. None of them means that it ran."""

    MOVED = 0  # not here; ``location`` names the incarnation that has it, "" if unknown
    FULL = 1  # mailbox full; a Resume follows when there is room
    GAP = 2  # not the next number; ``expected`` is
    UNKNOWN_STREAM = 3  # no memory of this stream and the number is not 0: open a new one
    NO_CAPACITY = 4  # this host is full; try the ring's next host
    ERROR = 5  # the call is wrong or the actor failed; ``code`` and ``message`` say how
    MOVING = 6  # it changes its host; a Resume or a Moved follows


#: Refusals after which word comes of when, or where, to go on.
BLOCKED = (Refusal.FULL, Refusal.MOVING)


class Hello(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """First item in each direction. ``target`` is the incarnation the dialer wants to reach.

    ``session`` is the dialer's name for the link session; ``received`` the number of the last
    batch of it that this side has accepted (0: none), so the other side resends what follows.
    ``resume`` says that the session was open before: where it is unknown, it must be refused.
    """

    protocol: int
    cluster: str
    host_id: str
    incarnation: str
    address: str
    target: str
    session: str
    received: int
    resume: bool = False


class Envelope(msgspec.Struct, array_like=True, tag=1, gc=False):
    """One message for an actor. Streams of envelopes are numbered per (sender, actor)."""

    stream: int  # the sender's stream, unique within the sending incarnation
    seq: int  # 0, 1, 2, ... within the stream
    attempt: int  # raised each time the sender goes back to an earlier number
    call: int  # unique within the sending incarnation; 0 for a tell
    kind: str
    key: str
    method: str
    mode: int
    content: int
    payload: bytes
    budget_ms: int = -1  # time left for the call when it was sent; -1: no deadline
    chain: tuple[str, ...] = ()  # running calls that wait for this one (cycle detection)
    headers: dict[str, str] | None = None
    credit: int = 0  # stream items that the producer may send before it needs a Grant
    version: int = 0  # the sender's view, so that an older receiver catches up first
    refused: tuple[str, ...] = ()  # incarnations without capacity that were asked before
    replaces: tuple[int, ...] = ()  # with number 0: streams that are over, whatever still comes


class Tells(msgspec.Struct, array_like=True, tag=14, gc=False):
    """Messages in a row of one stream, numbered from ``seq`` on: tells without headers to one
    method, their payloads msgpack. As good as an Envelope for each, at a fraction of the cost."""

    stream: int
    seq: int
    attempt: int
    kind: str
    key: str
    method: str
    payloads: list[bytes]
    version: int = 0
    refused: tuple[str, ...] = ()

    def envelopes(self) -> Iterator[Envelope]:
        """The same, one by one."""
        for seq, payload in enumerate(self.payloads, self.seq):
            yield Envelope(
                self.stream, seq, self.attempt, 0, self.kind, self.key, self.method, Mode.TELL,
                Content.MSGPACK, payload, version=self.version, refused=self.refused,
            )  # fmt: skip


class Reply(msgspec.Struct, array_like=True, tag=2, gc=False):
    """The result of an ask, or the normal end of a stream (``payload`` empty)."""

    call: int
    attempt: int
    epoch: int
    content: int
    payload: bytes


class Failure(msgspec.Struct, array_like=True, tag=3, gc=False):
    """The call ended in an error (see wire.errors for ``code``)."""

    call: int
    attempt: int
    epoch: int
    code: str
    message: str
    details: dict[str, str] | None = None


class Accepted(msgspec.Struct, array_like=True, tag=4, gc=False):
    """Everything of ``stream`` up to and including ``seq`` is in the actor's mailbox."""

    stream: int
    seq: int


class Refused(msgspec.Struct, array_like=True, tag=5, gc=False):
    """``seq`` and everything sent after it in the same attempt was not accepted."""

    stream: int
    seq: int
    attempt: int
    reason: int
    expected: int = 0
    location: str = ""
    epoch: int = 0
    code: str = ""
    message: str = ""
    details: dict[str, str] | None = None


class Resume(msgspec.Struct, array_like=True, tag=6, gc=False):
    """The mailbox that refused ``stream`` as FULL has room again."""

    stream: int


class Cancel(msgspec.Struct, array_like=True, tag=7, gc=False):
    """The caller no longer waits for ``call``: cancel its handler."""

    call: int


class Chunk(msgspec.Struct, array_like=True, tag=8, gc=False):
    """One item that a stream handler yielded."""

    call: int
    content: int
    payload: bytes


class Grant(msgspec.Struct, array_like=True, tag=9, gc=False):
    """The consumer of stream ``call`` can take ``items`` more."""

    call: int
    items: int


class Goaway(msgspec.Struct, array_like=True, tag=10, gc=False):
    """The sending host drains: open nothing new towards it."""

    reason: str


class Request(msgspec.Struct, array_like=True, tag=11, gc=False):
    """A question from host to host (list, describe, hand over ...); ``op`` names it."""

    id: int
    op: str
    body: bytes


class Response(msgspec.Struct, array_like=True, tag=12, gc=False):
    """The answer to Request ``id``; ``code`` is "" when it went well, else an error code."""

    id: int
    code: str
    body: bytes


class Moved(msgspec.Struct, array_like=True, tag=13, gc=False):
    """The actor that ``stream`` goes to now lives at ``location``, and with it the memory of
    the stream: every call accepted so far will be answered from there."""

    stream: int
    location: str
    epoch: int


Item = (
    Hello | Envelope | Reply | Failure | Accepted | Refused | Resume | Cancel | Chunk | Grant
    | Goaway | Request | Response | Moved | Tells
)  # fmt: skip


class Batch(msgspec.Struct, array_like=True, gc=False):
    """One frame's body: its number in the session, the last number received, and the items.

    Number 0 is for what is outside the session's order (Hello, a bare acknowledgement).
    """

    number: int
    received: int
    items: list[Item]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)
_numbered_decoder = msgspec.msgpack.Decoder(Envelope | Tells)


def encode_batch(batch: Batch) -> bytes:
    """The bytes of one batch."""
    return _encoder.encode(batch)


#: What carries messages for actors: it needs room and credit, and is numbered.
MESSAGES = frozenset({Envelope, Tells})

#: The bytes of one item, for :func:`join_batch`.
encode_item: Callable[[Item], bytes] = _encoder.encode


def numbers_in(data: bytes) -> Iterator[tuple[int, int]]:
    """(stream, seq) of each message in what :func:`encode_item` made of an Envelope or Tells."""
    item: Envelope | Tells = _numbered_decoder.decode(data)
    count = len(item.payloads) if isinstance(item, Tells) else 1
    for seq in range(item.seq, item.seq + count):
        yield item.stream, seq


def join_batch(number: int, received: int, items: Sequence[bytes]) -> bytes:
    """The batch of items that are encoded already, as :func:`encode_batch` would write it."""
    count = len(items)
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    encode = _encoder.encode
    return b"".join((b"\x93", encode(number), encode(received), head, *items))


def decode_batch(data: bytes | memoryview) -> Batch:
    """The batch in ``data``; raises ProtocolError when it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError(f"malformed batch of {len(data)} bytes: {exc}") from exc
