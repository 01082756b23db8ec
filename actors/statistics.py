"""What a system can say of itself at one moment, and the counts of calls behind it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from wire.errors import NoCapacity, RoostError
from wire.ports import NO_TRAFFIC, Traffic

#: Upper bounds in seconds of the buckets for asks: from a local call to the default deadline.
ASK_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asks:
    """How long asks took, from call to answer, errors included: ``counts[i]`` of them at most
    ``ASK_BOUNDS_S[i]``, the last of ``counts`` longer than all of these."""

    counts: tuple[int, ...] = (0,) * (len(ASK_BOUNDS_S) + 1)
    sum_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Moves out of this host. ``given_up``: the actor did not come to rest in time; ``refused``:
    the other host did not take it, or did not answer. ``oldest_s``: age of the oldest under way.
    """

    moved: int = 0
    given_up: int = 0
    refused: int = 0
    running: int = 0
    oldest_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A system at one moment. Totals count from its start, times are in seconds."""

    actors: int
    activations_total: int
    passivations_total: int
    adopted_total: int
    #: Actors in child processes of their own, and how many there may be.
    processes: int
    processes_max: int
    moves: Moves
    mailbox_depth: int
    mailbox_deepest: int
    asks: Asks
    #: By the error's class; asks, tells and streams alike.
    errors: Mapping[str, int]
    no_capacity_total: int
    leases_lost_total: int
    #: Time left until the lease ends: 0 without one, infinite where none is needed.
    lease_margin_s: float
    view_generation: int
    view_version: int
    members: int
    is_ready: bool
    traffic: Traffic = field(default=NO_TRAFFIC)


class CallMeter:
    """Counts how calls made from this host end. Part of the hot path: a bucket and two sums."""

    __slots__ = ("_counts", "_sum_s", "errors", "no_capacity")

    def __init__(self) -> None:
        self._counts = [0] * (len(ASK_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self.errors: Counter[str] = Counter()
        self.no_capacity = 0

    def took(self, seconds: float) -> None:
        """An ask ended after so long."""
        self._counts[bisect_left(ASK_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def failed(self, error: RoostError) -> None:
        """A call failed."""
        self.errors[type(error).__name__] += 1
        if isinstance(error, NoCapacity):
            self.no_capacity += 1

    def asks(self) -> Asks:
        return Asks(tuple(self._counts), self._sum_s)
