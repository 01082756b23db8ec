"""The network of a simulation: a MemoryNetwork whose hosts can be frozen.

To a frozen host nothing arrives, and nothing that it had not handed to the network yet leaves.
What is on its way from it arrives all the same.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, cast

from tests.simulation.freezer import Freezer
from wire.handshake import read_hello
from wire.items import MESSAGES, Item, decode_batch, join_batch
from wire.link_config import LinkConfig
from wire.link_end import LinkEnd, Pipe
from wire.links_memory import MemoryLinks, MemoryNetwork
from wire.memory_wire import Event, Events
from wire.ports import LinkHandler, Peer
from wire.session import LinkSession

#: Told of each item before it is queued: (host, item). It may freeze the host.
OnSend = Callable[[str, Item], None]


class GatedEvent:
    """Something to be called later, on a host that may be frozen then."""

    __slots__ = ("args", "callback", "gate")

    def __init__(self, gate: Gate, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.gate = gate
        self.callback: Callable[..., Any] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        if self.callback is not None:
            self.gate.pass_on(self)


class Gate:
    """One host's timers and callbacks (wire.link_end.Loop): they wait while it is frozen."""

    def __init__(self, events: Events, freezer: Freezer, host: str) -> None:
        self.host = host
        self._events = events
        self._freezer = freezer
        self._held: deque[GatedEvent] = deque()

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> GatedEvent:
        return self.call_later(0.0, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> GatedEvent:
        event = GatedEvent(self, callback, args)
        self._events.call_later(delay, event.fire)
        return event

    def pass_on(self, event: GatedEvent) -> None:
        if self._freezer.is_frozen(self.host):
            self._held.append(event)
        elif event.callback is not None:
            event.callback(*event.args)

    def open(self, *, at_once: bool) -> None:
        """The host thaws: what was held back is due now, in its order. ``at_once``: before any
        of the host's tasks hears that its time is over."""
        held, self._held = self._held, deque()
        for event in held:
            if not at_once:
                self._events.call_later(0.0, event.fire)
            elif event.callback is not None:
                event.callback(*event.args)


class SimLinks(MemoryLinks):
    """Links that tell the world what they are about to send, and that are looked at closely."""

    on_send: OnSend
    on_breach: Callable[[str], None]
    happened: Counter[str]

    def send(self, peer: Peer, item: Item) -> bool:
        self.on_send(self.me.incarnation, item)
        return super().send(peer, item)

    def admit(self, data: bytes, pipe: Pipe) -> LinkEnd:
        end = super().admit(data, pipe)
        meant = read_hello(data).target
        if meant not in ("", self.me.incarnation):
            self.on_breach(f"a link to {meant} is taken by {self.me.incarnation}")
        return end

    def flush(self, end: LinkEnd) -> None:
        super().flush(end)
        pipe, session = end.pipe, end.session
        if pipe is not None and pipe.writable and session.backlog_items and not end.scheduled:
            self.happened["envelopes waited for credit"] += 1
            if any(type(item) not in MESSAGES for item in map(_item, _queued(session))):
                self.on_breach(f"replies or control frames of {self.me.incarnation} wait")

    def receive(self, end: LinkEnd, pipe: Pipe, data: bytes) -> None:
        number = decode_batch(data).number
        self.happened["batch arrived twice"] += 0 < number <= end.session.received
        super().receive(end, pipe, data)

    def _attach(self, end: LinkEnd, pipe: Pipe) -> None:
        self.happened["link resumed"] += end.connects > 0
        super()._attach(end, pipe)


class SimNetwork(MemoryNetwork):
    """See the module."""

    def __init__(
        self, rng: Random, freezer: Freezer, on_send: OnSend, on_breach: Callable[[str], None],
        happened: Counter[str],
    ) -> None:  # fmt: skip
        super().__init__(rng)
        self._freezer = freezer
        self._on_send = on_send
        self._on_breach = on_breach
        self._happened = happened
        self._gates: dict[str, Gate] = {}  # by host

    def gate(self, host: str) -> Gate:
        """What belongs to ``host`` and must wait while it is frozen."""
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = Gate(self._events, self._freezer, host)
        return gate

    def links(
        self, me: Peer, handler: LinkHandler, config: LinkConfig | None = None, cluster: str = ""
    ) -> MemoryLinks:
        loop = cast(Any, self.gate(me.host_id))
        links = SimLinks(self, me, cluster, handler, config or LinkConfig(), loop)
        links.on_send, links.on_breach = self._on_send, self._on_breach
        links.happened = self._happened
        self._hosts[me.address] = links
        return links

    def later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Event:
        host = _owner(callback)
        if host:
            return cast(Event, self.gate(host).call_later(delay_s, callback, *args))
        return super().later(delay_s, callback, *args)

    def blocked(self, source: str, target: str) -> bool:
        return self._freezer.is_frozen(host_at(target)) or super().blocked(source, target)

    def thawed(self, host: str, *, at_once: bool) -> None:
        """What waited for ``host`` is on its way again; see Gate.open."""
        self.gate(host).open(at_once=at_once)
        for wire in list(self.wires):
            if any(host_at(address) == host for address in wire.addresses):
                wire.release()


def _queued(session: LinkSession) -> Iterator[bytes]:
    """The items that no batch has taken yet."""
    yield from session._urgent
    yield from session._envelopes


def _item(data: bytes) -> Item:
    return decode_batch(join_batch(1, 0, [data])).items[0]


def host_at(address: str) -> str:
    """The host id in an address of a simulation."""
    return address.partition(":")[0]


def _owner(callback: Callable[..., Any]) -> str:
    """The host on which ``callback`` runs; "" when it is the network's own."""
    target = getattr(callback, "__self__", None)
    links = target if isinstance(target, MemoryLinks) else getattr(target, "links", None)
    return links.me.host_id if isinstance(links, MemoryLinks) else ""
