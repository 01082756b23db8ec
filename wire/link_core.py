"""What all links share: which session an item takes, handshakes, acknowledgements, loss.

:class:`LinkCore` is synchronous and knows neither sockets nor clocks: an adapter gives it
connections (:class:`Pipe`), timers (:class:`Loop`) and a way to dial. Between two hosts there
are at most two sessions: the one that we dialed carries our calls, the one that they dialed
theirs, and each carries the answers back; without theirs, ours carries the answers too, and once it
has carried one, all of them: they keep their order. They are lost together.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

from wire.errors import NoCapacity, ProtocolError
from wire.handshake import Mismatch, check_acceptor, check_dialer, read_hello, write_hello
from wire.items import MESSAGES, PROTOCOL_VERSION, Cancel, Grant, Hello, Item
from wire.link_config import LinkConfig
from wire.link_end import Ends, LinkEnd, Loop, PeerStatistics, Pipe, sum_traffic
from wire.ports import NO_TRAFFIC, LinkHandler, Links, Peer, Traffic

log = logging.getLogger(__name__)

_CALLER_ITEMS = MESSAGES | {Cancel, Grant}
_BATCHES_PER_FLUSH = 4  # then the loop gets a turn


class LinkCore(Links, ABC):
    """The sessions of one host. See the module, and wire.ports.Links for the promises."""

    def __init__(
        self, me: Peer, cluster: str, handler: LinkHandler, config: LinkConfig, loop: Loop
    ) -> None:
        self.me = me
        self.cluster = cluster
        self.config = config
        self._handler = handler
        self._loop = loop
        self._call_soon = loop.call_soon
        self._early_items = config.early_items
        self._ends: dict[str, Ends] = {}
        self._accepted = 0
        self._unsent: dict[str, frozenset[tuple[int, int]]] = {}
        self._numbers = itertools.count(1)
        self._past = NO_TRAFFIC  # of the sessions that are over
        self._closed = False

    # -- the port ---------------------------------------------------------------------------

    def send(self, peer: Peer, item: Item) -> bool:
        """See wire.ports.Links. Raises InvalidArgument for an item over ``item_bytes_max``.

        Once this host has closed its links, nothing is sent and nothing is told.
        """
        ends = self._ends.get(peer.incarnation)
        if ends is None:
            if self._closed:
                return True
            ends = self._ends[peer.incarnation] = Ends(peer)
        end = ends.dialed if type(item) in _CALLER_ITEMS else ends.answering
        if end is None:
            end = ends.dialed or self._open(ends)
            if type(item) not in _CALLER_ITEMS:
                ends.answering = end
        session = end.session
        count = session.push(item)
        if not end.scheduled:
            end.scheduled = True
            self._call_soon(self.flush, end)
        elif count >= self._early_items:
            self._write_early(end)
        if type(item) not in MESSAGES or session.has_room:
            return True
        end.starved = True
        return False

    def soon(self, callback: Callable[[], None]) -> None:
        self._call_soon(callback)

    def connected(self, incarnation: str) -> bool:
        ends = self._ends.get(incarnation)
        return ends is not None and any(end.pipe is not None for end in ends.both())

    def drop(self, incarnation: str, reason: str) -> None:
        ends = self._ends.get(incarnation)
        if ends is not None:
            self._lose(ends, reason)

    def unsent(self, incarnation: str) -> frozenset[tuple[int, int]]:
        return self._unsent.get(incarnation, frozenset())

    def become(self, me: Peer, reason: str) -> None:
        """This host goes on as another incarnation: its sessions end, later ones are ``me``'s."""
        self.me = me  # first: who hears of a loss may send at once
        for ends in list(self._ends.values()):
            self._lose(ends, reason)

    def statistics(self) -> tuple[PeerStatistics, ...]:
        """One row per peer with a session."""
        return tuple(ends.statistics() for ends in self._ends.values())

    def traffic(self) -> Traffic:
        return sum_traffic([self._past, *(ends.traffic() for ends in self._ends.values())])

    # -- for adapters -----------------------------------------------------------------------

    @abstractmethod
    def _dial(self, end: LinkEnd) -> None:
        """Start to connect ``end``, and again whenever its connection breaks, until it is dead.

        Each attempt sends ``hello(end)`` first, hands the answer to ``welcome``, then each
        frame to ``receive``, and tells the end of the connection by ``broken`` or ``lose``.
        """

    def _on_dead(self, end: LinkEnd, connected: bool) -> None:
        """``end`` is over; if it was connected, its pipe was told to close."""

    def hello(self, end: LinkEnd) -> bytes:
        """The first batch for a new connection of ``end``."""
        me = self.me
        return write_hello(
            Hello(
                protocol=PROTOCOL_VERSION,
                cluster=self.cluster,
                host_id=me.host_id,
                incarnation=me.incarnation,
                address=me.address,
                target=end.peer.incarnation,
                session=end.name,
                received=end.session.received,
                resume=end.dialed and end.connects > 0,
            )
        )

    def welcome(self, end: LinkEnd, data: bytes, pipe: Pipe) -> None:
        """The acceptor's first frame came: resume over ``pipe``.

        Raises Mismatch or ProtocolError when it is not from whom we dialed, or ``end`` is over.
        """
        if end.dead:
            raise Mismatch(f"session {end.name!r} is over")
        hello = read_hello(data)
        check_acceptor(hello, end.peer, self.cluster, end.name)
        end.session.resume(hello.received)
        self._attach(end, pipe)

    def admit(self, data: bytes, pipe: Pipe) -> LinkEnd:
        """A dialer's first frame came: answer it over ``pipe`` and open or resume its session.

        Raises Mismatch, ProtocolError or NoCapacity; nothing was written then.
        """
        hello = read_hello(data)
        check_dialer(hello, self.me, self.cluster)
        end = self._end_for(hello)
        if end.pipe is not None:
            end.pipe.abort()
            end.pipe = None
        try:
            end.session.resume(hello.received)
        except ProtocolError as exc:
            self.lose(end, str(exc))
            raise
        pipe.write(self.hello(end))
        self._attach(end, pipe)
        return end

    def receive(self, end: LinkEnd, pipe: Pipe, data: bytes) -> None:
        """A batch came over ``pipe``. Raises ProtocolError when it breaks the protocol."""
        if end.pipe is not pipe:
            return
        session = end.session
        items = session.receive(data)
        end.batches_in += 1
        end.bytes_in += len(data)
        if items:
            try:
                self._handler.on_items(end.peer, items)
            except Exception:
                log.exception("the handler of items from %s failed", end.peer.host_id)
        if end.scheduled:
            return
        if session.ack_due or session.backlog_items:
            end.scheduled = True
            self._call_soon(self.flush, end)
        else:
            self._owe_ack(end)

    def flush(self, end: LinkEnd) -> None:
        """Write what waits and may go now."""
        end.scheduled = False
        session, pipe = end.session, end.pipe
        if session.overflowed:
            self.lose(end, f"backlog of {session.backlog_bytes} bytes (see backlog_bytes_max)")
            return
        if pipe is None:
            return
        for _ in range(_BATCHES_PER_FLUSH):
            if not pipe.writable:
                break
            batch = session.take()
            if batch is None:
                if session.ack_due:
                    self._write(end, pipe, session.ack())
                else:
                    self._owe_ack(end)
                break
            self._write(end, pipe, batch)
        else:
            if not end.scheduled:
                end.scheduled = True
                self._call_soon(self.flush, end)
        if end.starved and session.has_ample_room:
            end.starved = False
            self._handler.on_room(end.peer)

    def _write_early(self, end: LinkEnd) -> None:
        """Part of what waits, ahead of the flush that is on its way and does all the rest."""
        pipe = end.pipe
        if pipe is not None and pipe.writable:
            batch = end.session.take()
            if batch is not None:
                self._write(end, pipe, batch)

    def broken(self, end: LinkEnd, pipe: Pipe, reason: str) -> None:
        """The connection is gone, the session is not: it waits to be resumed."""
        if end.pipe is not pipe or end.dead:
            return
        end.pipe = None
        log.info("link %s with %s broke: %s", end.name, end.peer.host_id, reason)
        if not end.dialed:
            ttl_s = self.config.orphan_ttl_s
            end.orphan_timer = self._loop.call_later(
                ttl_s, self.lose, end, f"not resumed within {ttl_s} s of: {reason}"
            )

    def lose(self, end: LinkEnd, reason: str) -> None:
        """The session of ``end`` is over, and with it the other one with that peer."""
        ends = self._ends.get(end.peer.incarnation)
        if not end.dead and ends is not None:
            self._lose(ends, reason)

    # -- inside -----------------------------------------------------------------------------

    def _open(self, ends: Ends) -> LinkEnd:
        name = f"{self.me.incarnation}-{next(self._numbers)}"
        ends.dialed = end = LinkEnd(ends.peer, name, True, self.config)
        self._dial(end)
        return end

    def _end_for(self, hello: Hello) -> LinkEnd:
        ends = self._ends.get(hello.incarnation)
        known = ends.accepted if ends is not None else None
        if known is not None and known.name == hello.session:
            return known
        if hello.resume:
            raise Mismatch(f"session {hello.session!r} is unknown to {self.me.incarnation!r}")
        if self._closed or self._accepted >= self.config.sessions_max:
            raise NoCapacity(f"no session beyond {self._accepted} (sessions_max, or closing)")
        if known is not None:
            self.lose(known, f"session {known.name!r} was replaced by {hello.session!r}")
        peer = Peer(hello.host_id, hello.incarnation, hello.address)
        ends = self._ends.get(hello.incarnation)  # again: who heard of the loss may have sent
        if ends is None:
            ends = self._ends[hello.incarnation] = Ends(peer)
        ends.accepted = end = LinkEnd(peer, hello.session, False, self.config)
        self._accepted += 1
        if ends.answering is None:
            ends.answering = end
        elif not ends.answering.connects:  # nothing of it has left yet
            ends.answering.session.hand_over(end.session)
            ends.answering = end
        return end

    def _attach(self, end: LinkEnd, pipe: Pipe) -> None:
        end.pipe = pipe
        end.connects += 1
        if end.orphan_timer is not None:
            end.orphan_timer.cancel()
            end.orphan_timer = None
        self.flush(end)

    def _write(self, end: LinkEnd, pipe: Pipe, batch: bytes) -> None:
        end.batches_out += 1
        end.bytes_out += len(batch)
        pipe.write(batch)

    def _owe_ack(self, end: LinkEnd) -> None:
        session = end.session
        if end.ack_timer is None and session.ack_owed:
            delay_s, received = self.config.ack_delay_s, session.received
            end.ack_timer = self._loop.call_later(delay_s, self._ack_late, end, received)

    def _ack_late(self, end: LinkEnd, received: int) -> None:
        """What had been ``received`` a while ago must be acknowledged by now; later ones may yet
        find a batch to ride on."""
        end.ack_timer = None
        session, pipe = end.session, end.pipe
        if session.announced >= received:
            self._owe_ack(end)
        elif pipe is not None and pipe.writable:
            self._write(end, pipe, session.ack())

    def _lose(self, ends: Ends, reason: str) -> None:
        incarnation = ends.peer.incarnation
        if self._ends.get(incarnation) is not ends:
            return  # whoever heard of another loss dropped this one
        del self._ends[incarnation]
        self._past = sum_traffic([self._past, ends.traffic()._replace(links=0)])
        for end in ends.both():
            self._accepted -= not end.dialed
            pipe = end.bury()
            if pipe is not None:
                pipe.close(reason)
            self._on_dead(end, connected=pipe is not None)
        if ends.dialed is not None:
            self._unsent[incarnation] = ends.dialed.session.unsent()
        try:
            self._handler.on_lost(ends.peer, reason)
        finally:
            self._unsent.pop(incarnation, None)
