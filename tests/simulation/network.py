"""The network of a simulation: a MemoryNetwork whose hosts can be frozen.

To a frozen host nothing arrives, and nothing that it had not handed to the network yet leaves.
What is on its way from it arrives all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, cast

from tests.simulation.freezer import Freezer
from wire.items import Item
from wire.link_config import LinkConfig
from wire.links_memory import MemoryLinks, MemoryNetwork
from wire.memory_wire import Event, Events
from wire.ports import LinkHandler, Peer

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

    def open(self) -> None:
        """The host thaws: what was held back is due now, in its order."""
        held, self._held = self._held, deque()
        for event in held:
            self._events.call_later(0.0, event.fire)


class SimLinks(MemoryLinks):
    """Links that tell the world what they are about to send."""

    on_send: OnSend

    def send(self, peer: Peer, item: Item) -> bool:
        self.on_send(self.me.incarnation, item)
        return super().send(peer, item)


class SimNetwork(MemoryNetwork):
    """See the module."""

    def __init__(self, rng: Random, freezer: Freezer, on_send: OnSend) -> None:
        super().__init__(rng)
        self._freezer = freezer
        self._on_send = on_send
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
        links.on_send = self._on_send
        self._hosts[me.address] = links
        return links

    def later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Event:
        host = _owner(callback)
        if host:
            return cast(Event, self.gate(host).call_later(delay_s, callback, *args))
        return super().later(delay_s, callback, *args)

    def blocked(self, source: str, target: str) -> bool:
        return self._freezer.is_frozen(host_at(target)) or super().blocked(source, target)

    def thawed(self, host: str) -> None:
        """What waited for ``host`` is on its way again."""
        self.gate(host).open()
        for wire in list(self.wires):
            if any(host_at(address) == host for address in wire.addresses):
                wire.release()


def host_at(address: str) -> str:
    """The host id in an address of a simulation."""
    return address.partition(":")[0]


def _owner(callback: Callable[..., Any]) -> str:
    """The host on which ``callback`` runs; "" when it is the network's own."""
    target = getattr(callback, "__self__", None)
    links = target if isinstance(target, MemoryLinks) else getattr(target, "links", None)
    return links.me.host_id if isinstance(links, MemoryLinks) else ""
