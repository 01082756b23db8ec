"""Leases: how long a host may act, and when another may take it for dead (rules 3 and 4).

A decision module: pure. All times are seconds on the caller's own clock, which must count
suspension (CLOCK_BOOTTIME). No two clocks are ever compared. Why no two hosts act at once:
the holder counts from before its renewal was sent, a claimant from after it saw that renewal,
so the claimant's wait begins later, lasts ``2 * margin`` longer, and is void unless the counter
is still the same when the registry acts on it. The margin pays for drift: it must be at least
the lease times the relative drift of either clock. Gray & Cheriton, "Leases" (1989).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NEVER_S = float("-inf")


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """The numbers that all hosts of a cluster share.

    ``ttl_s``: longer rides out longer outages, shorter recovers sooner from a host's death.
    ``margin_s``: given up by the holder and waited for by claimants, for clock drift and for
    stopping. ``stall_limit_s``: a loop whose last tick is older than this gets no renewal.
    """

    ttl_s: float
    margin_s: float
    stall_limit_s: float

    def __post_init__(self) -> None:
        if not 0 < self.ttl_s < float("inf"):
            raise ValueError(f"ttl_s must be positive and finite, not {self.ttl_s}")
        if not 0 < self.margin_s <= self.ttl_s / 2:
            raise ValueError(f"margin_s must be above 0 and at most ttl_s / 2, not {self.margin_s}")
        if not 0 < self.stall_limit_s < self.ttl_s:
            raise ValueError(f"stall_limit_s must be between 0 and ttl_s, not {self.stall_limit_s}")

    @classmethod
    def of(cls, ttl_s: float, stall_limit_s: float | None = None) -> LeaseTerms:
        """The usual terms: a margin of an eighth of the lease, a stall limit of half of it."""
        return cls(ttl_s, ttl_s / 8, ttl_s / 2 if stall_limit_s is None else stall_limit_s)

    @property
    def renew_every_s(self) -> float:
        return self.ttl_s / 4

    @property
    def retry_every_s(self) -> float:
        """How soon to try again after a renewal that failed or was held back."""
        return self.ttl_s / 20

    @property
    def proof_s(self) -> float:
        """How long a claimant must have seen a counter unchanged."""
        return self.ttl_s + self.margin_s


class Lease:
    """The holder's side: until when this host may act. Once lapsed it never comes back."""

    def __init__(self, terms: LeaseTerms) -> None:
        self.terms = terms
        self.deadline_s = NEVER_S
        self._sent_at_s = NEVER_S
        self._ended = False

    @property
    def has_begun(self) -> bool:
        """Whether any renewal has succeeded yet."""
        return self._sent_at_s != NEVER_S

    def renewed(self, sent_at_s: float, now_s: float) -> bool:
        """Count a renewal that succeeded: ``sent_at_s`` is when its first attempt was sent, and
        each renewal must have used a counter of its own.

        False: the reply came past the deadline, or the lease was ended; a lease that has begun
        and lapsed stays so.
        """
        deadline_s = sent_at_s + self.terms.ttl_s - self.terms.margin_s
        if self._ended or now_s >= (self.deadline_s if self.has_begun else deadline_s):
            return False
        # The deadline first: another thread may ask between the two whether the lease has begun.
        self.deadline_s = max(self.deadline_s, deadline_s)
        self._sent_at_s = max(self._sent_at_s, sent_at_s)
        return True

    def is_held(self, now_s: float) -> bool:
        return now_s < self.deadline_s

    def end(self) -> None:
        """Give the lease up for good: the registry has fenced this host."""
        self._ended = True
        self.deadline_s = NEVER_S

    def remaining_s(self, now_s: float) -> float:
        """How much longer this host may act; 0 when it may not."""
        return max(0.0, self.deadline_s - now_s)

    def next_renewal_at(self, now_s: float) -> float:
        """When to send the next renewal: a quarter of the lease after the last, never past."""
        return max(now_s, self._sent_at_s + self.terms.renew_every_s)

    def may_renew(self, now_s: float, last_tick_s: float) -> bool:
        """The stall rule: a host whose loop has stopped must lose its lease, a slow one not."""
        return now_s - last_tick_s < self.terms.stall_limit_s


class Sightings:
    """The claimants' side: every other host's renewal counter, and since when it stands still."""

    def __init__(self, terms: LeaseTerms) -> None:
        self._terms = terms
        self._seen: dict[str, tuple[int, float]] = {}
        self._generation = 0

    def observe(self, counters: Mapping[str, int], now_s: float, generation: int = 0) -> None:
        """Note all members' counters. ``now_s`` is when the reply was received or later: the
        time of asking would be too early, as the counter may have been raised after it.

        In a new ``generation`` all counters begin anew, so one that is the same may have changed.
        """
        seen = self._seen if generation == self._generation else {}
        self._generation = generation
        self._seen = {
            incarnation: seen[incarnation]
            if incarnation in seen and seen[incarnation][0] == counter
            else (counter, now_s)
            for incarnation, counter in counters.items()
        }

    def proven_dead(self, now_s: float) -> list[tuple[str, int]]:
        """(incarnation, counter) of each whose counter has stood still for lease + margin.

        A proof only if the registry still finds that very counter when it acts on it.
        """
        since_s = now_s - self._terms.proof_s
        return [(i, counter) for i, (counter, seen_s) in self._seen.items() if seen_s <= since_s]

    def next_proof_at(self) -> float:
        """When the next host is proven dead if nothing is heard; infinity when there is none."""
        first_s = min((seen_s for _, seen_s in self._seen.values()), default=float("inf"))
        return first_s + self._terms.proof_s
