"""One end of a link session: numbers, acknowledgements, resending and credit, without any I/O.

Items go in by :meth:`LinkSession.push` and leave as numbered batches by
:meth:`LinkSession.take`; what the other end has not acknowledged is kept and sent again on
the next connection (:meth:`LinkSession.resume`), which drops what it has seen already. So each
item arrives exactly once, and in the order of its class: envelopes wait for credit, all other
items need none and overtake them. A decision module: pure.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from wire.errors import InvalidArgument, ProtocolError
from wire.items import (
    MESSAGES,
    Hello,
    Item,
    decode_batch,
    encode_item,
    join_batch,
    numbers_in,
)  # fmt: skip
from wire.link_config import LinkConfig


class _Sent(NamedTuple):
    number: int
    batch: bytes
    envelope_bytes: int


class LinkSession:
    """See the module. ``received`` is the number of the last batch taken from the other end."""

    __slots__ = (
        "_acked", "_announced", "_config", "_credit", "_envelope_bytes", "_envelopes",
        "_item_bytes_max", "_owed", "_owed_bytes", "_queued_bytes", "_resending", "_retained",
        "_retained_bytes", "_sent", "_urgent", "items_in", "items_out", "received",
    )  # fmt: skip

    def __init__(self, config: LinkConfig) -> None:
        self._config = config
        self._item_bytes_max = config.item_bytes_max
        self._urgent: deque[bytes] = deque()
        self._envelopes: deque[bytes] = deque()
        self._queued_bytes = 0  # of both queues
        self._envelope_bytes = 0  # queued
        self._retained: deque[_Sent] = deque()
        self._retained_bytes = 0
        self._resending: deque[_Sent] = deque()
        self._credit = config.credit_bytes  # below 0 while a larger envelope is in flight
        self._sent = 0  # number of the last batch that take() made
        self._acked = 0
        self.received = 0
        self.items_in = self.items_out = 0
        self._announced = 0  # the last value of ``received`` that we told the other end
        self._owed = 0  # batches received since then
        self._owed_bytes = 0

    def push(self, item: Item) -> int:
        """Queue ``item``; returns how many of its class wait now.

        Raises InvalidArgument when it alone exceeds ``item_bytes_max``.
        """
        data = encode_item(item)
        size = len(data)
        if size > self._item_bytes_max:
            raise InvalidArgument(
                f"{type(item).__name__} of {size} bytes exceeds the link's limit of "
                f"{self._item_bytes_max} (payload_bytes_max and its overhead)"
            )
        self._queued_bytes += size
        if type(item) in MESSAGES:
            self._envelope_bytes += size
            self._envelopes.append(data)
            return len(self._envelopes)
        self._urgent.append(data)
        return len(self._urgent)

    def hand_over(self, to: LinkSession) -> None:
        """Let all that needs no credit go by ``to``; only while this session has sent nothing."""
        size = sum(map(len, self._urgent))
        to._urgent.extend(self._urgent)
        to._queued_bytes += size
        self._urgent.clear()
        self._queued_bytes -= size

    @property
    def has_room(self) -> bool:
        """Whether the caller may go on sending envelopes."""
        config = self._config
        return self._envelope_bytes < config.room_bytes and len(self._envelopes) < config.room_items

    @property
    def has_ample_room(self) -> bool:
        """Whether the queue has fallen to half of its mark: time to say that there is room."""
        config = self._config
        return (
            2 * self._envelope_bytes <= config.room_bytes
            and 2 * len(self._envelopes) <= config.room_items
        )

    @property
    def overflowed(self) -> bool:
        """Whether the backlog exceeds ``backlog_bytes_max``: give the session up."""
        return self.backlog_bytes > self._config.backlog_bytes_max

    @property
    def backlog_bytes(self) -> int:
        """Bytes queued or sent without an acknowledgement."""
        return self._queued_bytes + self._retained_bytes

    @property
    def backlog_items(self) -> int:
        """Items queued and not yet in a batch."""
        return len(self._urgent) + len(self._envelopes)

    @property
    def settled(self) -> bool:
        """Whether everything pushed so far was acknowledged."""
        return not (self._urgent or self._envelopes or self._retained)

    def unsent(self) -> frozenset[tuple[int, int]]:
        """(stream, seq) of the messages that no batch has taken yet."""
        return frozenset(number for data in self._envelopes for number in numbers_in(data))

    def take(self) -> bytes | None:
        """The next batch to send on the connection that stands, None if nothing may go now."""
        if self._resending:
            return self._resending.popleft().batch
        items: list[bytes] = []
        size = self._take_urgent(items)
        envelope_bytes = self._take_envelopes(items, size) if self._envelopes else 0
        if not items:
            return None
        self._sent += 1
        self.items_out += len(items)
        batch = join_batch(self._sent, self._announce(), items)
        self._credit -= envelope_bytes
        self._queued_bytes -= size + envelope_bytes
        self._envelope_bytes -= envelope_bytes
        self._retained.append(_Sent(self._sent, batch, envelope_bytes))
        self._retained_bytes += len(batch)
        return batch

    def _take_urgent(self, items: list[bytes]) -> int:
        queue, bytes_max = self._urgent, self._config.batch_bytes_max
        room = self._config.batch_items_max
        size = 0
        while queue and room and (size + len(queue[0]) <= bytes_max or not items):
            data = queue.popleft()
            size += len(data)
            room -= 1
            items.append(data)
        return size

    def _take_envelopes(self, items: list[bytes], size: int) -> int:
        queue, config = self._envelopes, self._config
        room = config.batch_items_max - len(items)
        credit, most = self._credit, config.batch_bytes_max - size
        if not items:
            most = max(most, len(queue[0]))
        if credit == config.credit_bytes:  # nothing in flight: a larger one must leave too
            credit = max(credit, len(queue[0]))
        most = min(most, credit)
        taken = 0
        while queue and room and taken + len(queue[0]) <= most:
            data = queue.popleft()
            taken += len(data)
            room -= 1
            items.append(data)
        return taken

    def _announce(self) -> int:
        self._announced = self.received
        self._owed = self._owed_bytes = 0
        return self.received

    @property
    def announced(self) -> int:
        """The last batch of the other end's that it was told has arrived."""
        return self._announced

    @property
    def ack_owed(self) -> bool:
        """Whether the other end has not been told of all that arrived."""
        return self._announced < self.received

    @property
    def ack_due(self) -> bool:
        """Whether so much is owed that it should be told at once."""
        return self._owed >= self._config.ack_batches or self._owed_bytes >= self._config.ack_bytes

    def ack(self) -> bytes:
        """A bare acknowledgement: a batch outside the numbering, without items."""
        return join_batch(0, self._announce(), ())

    def receive(self, data: bytes) -> list[Item]:
        """The new items in a batch off the connection; none if the batch was seen before.

        Raises ProtocolError when it is malformed, leaves a gap, or acknowledges what was
        never sent.
        """
        batch = decode_batch(data)
        self._acknowledge(batch.received)
        number = batch.number
        if Hello in map(type, batch.items):
            raise ProtocolError("a Hello in the middle of a session")
        if number == self.received + 1:
            self.received = number
            self._owed += 1
            self._owed_bytes += len(data)
            self.items_in += len(batch.items)
            return batch.items
        if number > self.received or (number == 0 and batch.items) or number < 0:
            raise ProtocolError(f"batch {number} came after batch {self.received}")
        return []

    def resume(self, received: int) -> None:
        """A new connection stands, whose other end has ``received``: send what follows again.

        Raises ProtocolError when that number is none that the other end can have.
        """
        self._acknowledge(received, exact=True)
        self._resending = deque(self._retained)
        self._announce()

    def _acknowledge(self, number: int, exact: bool = False) -> None:
        if number > self._sent or (exact and number < self._acked):
            raise ProtocolError(
                f"acknowledged batch {number}, where {self._acked} to {self._sent} were possible"
            )
        while self._acked < number:
            sent = self._retained.popleft()
            self._acked = sent.number
            self._credit += sent.envelope_bytes
            self._retained_bytes -= len(sent.batch)
            if self._resending and self._resending[0] is sent:
                self._resending.popleft()

    def __repr__(self) -> str:
        return (
            f"<LinkSession sent={self._sent} acked={self._acked} received={self.received} "
            f"queued={self.backlog_items} backlog_bytes={self.backlog_bytes}>"
        )
