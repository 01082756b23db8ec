"""A host of a simulation: a MemoryHost with a clock that drifts and links of few bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import trio

from actors.config import SystemConfig
from actors.membership import Keeper
from actors.memory_host import ClusterConfig, MemoryHost
from placement.ports import Fenced
from placement.records import Renewal
from tests.simulation.clock import HostClock
from tests.simulation.events import DRAIN_TIMEOUT_S, Event, Leased, LeaseOver
from tests.simulation.kinds import KINDS
from tests.simulation.network import SimNetwork
from tests.simulation.registry import SimRegistry
from wire.errors import Unavailable
from wire.link_config import LinkConfig
from wire.ports import ClientCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a run's hosts are like: small, so that every bound is met."""

    lease_ttl_s: float
    window: int
    mailbox_max: int
    stream_window: int
    idle_after_s: float
    link_credit_bytes: int
    link_batch_items: int
    link_room_items: int
    capacity: int = 0

    def cluster(self) -> ClusterConfig:
        return ClusterConfig(
            lease_ttl_s=self.lease_ttl_s,
            heartbeat_interval_s=5.0,
            drain_timeout_s=DRAIN_TIMEOUT_S,
            system=SystemConfig(
                ask_timeout_s=8.0, mailbox_max=self.mailbox_max, window=self.window,
                stream_window=self.stream_window, idle_after_s=self.idle_after_s,
                deactivate_timeout_s=2.0, capacity=self.capacity, locations_max=6,
            ),
        )  # fmt: skip

    def links(self, payload_bytes_max: int) -> LinkConfig:
        return LinkConfig(
            payload_bytes_max=payload_bytes_max,
            credit_bytes=self.link_credit_bytes,
            batch_items_max=self.link_batch_items,
            room_items=self.link_room_items,
            orphan_ttl_s=max(2 * self.lease_ttl_s, 5.0),
        )


class SimHost(MemoryHost):
    """See the module. ``log`` hears of its lease, in true time."""

    def __init__(
        self, name: str, incarnations: Iterator[int], network: SimNetwork, registry: SimRegistry,
        nursery: trio.Nursery, sizes: Sizes, clock: HostClock, log: Callable[[Event], None],
    ) -> None:  # fmt: skip
        super().__init__(
            name, incarnations, network, cast(Any, registry), nursery, list(KINDS.values()),
            sizes.cluster(), (), clock,
        )  # fmt: skip
        self.name = name
        self._gate = network.gate(name)
        self._is_open = True
        self.sim_clock = clock
        self._sizes = sizes
        self._log = log

    # The server that clients outside call -------------------------------------------------

    def serve(self, call: ClientCall) -> None:
        """A client has sent ``call``; it arrives when the host is not frozen."""
        self._gate.call_soon(self._arrived, call)

    def hang_up(self, call: ClientCall) -> None:
        """The client does not wait any more."""
        self._gate.call_soon(self.gateway.cancel, call)

    def _arrived(self, call: ClientCall) -> None:
        if self.is_killed or not self._is_open:
            call.failed(Unavailable("connection refused"))
        else:
            self.gateway.submit(call)

    async def say_goodbye(self, grace_s: float) -> None:
        """As the real host: refuse new calls, let those under way end, empty the links."""
        self._is_open = False
        with trio.move_on_after(grace_s):
            while self.gateway._calls:
                await trio.sleep(0.01)
        await super().say_goodbye(grace_s)

    # What MemoryHost asks for -------------------------------------------------------------

    async def open_doors(self) -> None:
        config = self._sizes.links(self.system.config.payload_bytes_max)
        self._links = self._network.links(self._me, self.system.router, config)
        self.system.router.links = self._links

    def make_keeper(
        self, me: str, on_renewal: Callable[[Renewal], None], on_fenced: Callable[[Fenced], None]
    ) -> Keeper:
        def renewed(renewal: Renewal) -> None:
            until = self.sim_clock.true_time(keeper.deadline_s)
            self._log(Leased(trio.current_time(), me, until))
            on_renewal(renewal)

        def fenced(reason: Fenced) -> None:
            self._log(LeaseOver(trio.current_time(), me, str(reason)))
            on_fenced(reason)

        keeper = super().make_keeper(me, renewed, fenced)
        return keeper
