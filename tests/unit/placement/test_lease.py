"""Leases: on no clocks, however they drift and stop, do a holder and its heir overlap."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from placement.lease import Lease, LeaseTerms, Sightings

TERMS = LeaseTerms.of(12.0)


def held_lease(sent_at_s: float = 100.0) -> Lease:
    lease = Lease(TERMS)
    assert lease.renewed(sent_at_s, sent_at_s)
    return lease


def test_lease_counts_from_when_the_renewal_was_sent_less_the_margin() -> None:
    lease = Lease(TERMS)
    assert lease.renewed(sent_at_s=100.0, now_s=103.0)
    assert lease.deadline_s == 100.0 + 12.0 - 1.5
    assert lease.is_held(110.49)
    assert not lease.is_held(110.5)
    assert lease.remaining_s(110.0) == 0.5
    assert lease.remaining_s(111.0) == 0.0


def test_lease_is_not_held_before_the_first_renewal() -> None:
    lease = Lease(TERMS)
    assert not lease.has_begun
    assert not lease.is_held(-1e9)


def test_first_renewal_that_was_under_way_for_a_whole_lease_begins_nothing() -> None:
    lease = Lease(TERMS)
    assert not lease.renewed(sent_at_s=100.0, now_s=110.5)
    assert not lease.has_begun
    assert lease.renewed(sent_at_s=111.0, now_s=112.0)


def test_lapsed_lease_never_comes_back() -> None:
    lease = held_lease(100.0)
    assert not lease.renewed(sent_at_s=110.4, now_s=110.5)
    assert not lease.is_held(110.5)
    assert lease.has_begun


def test_ended_lease_never_comes_back() -> None:
    lease = held_lease(100.0)
    lease.end()
    assert not lease.is_held(100.1)
    assert not lease.renewed(100.2, 100.3)


def test_reply_to_an_earlier_renewal_does_not_shorten_the_lease() -> None:
    lease = held_lease(103.0)
    assert lease.renewed(sent_at_s=100.0, now_s=104.0)
    assert lease.deadline_s == 103.0 + 10.5


def test_renewals_are_due_every_quarter_and_never_in_the_past() -> None:
    lease = held_lease(100.0)
    assert lease.next_renewal_at(100.5) == 103.0
    assert lease.next_renewal_at(107.0) == 107.0
    assert Lease(TERMS).next_renewal_at(5.0) == 5.0


def test_stopped_loop_gets_no_renewal_and_a_slow_one_does() -> None:
    lease = Lease(TERMS)
    assert lease.may_renew(now_s=105.9, last_tick_s=100.0)
    assert not lease.may_renew(now_s=106.0, last_tick_s=100.0)


@pytest.mark.parametrize(
    ("ttl_s", "margin_s", "stall_s", "named"),
    [
        (0.0, 1.0, 1.0, "ttl_s"),
        (-3.0, 1.0, 1.0, "ttl_s"),
        (math.inf, 1.0, 1.0, "ttl_s"),
        (math.nan, 1.0, 1.0, "ttl_s"),
        (12.0, 0.0, 6.0, "margin_s"),
        (12.0, 6.1, 6.0, "margin_s"),
        (12.0, 1.5, 12.0, "stall_limit_s"),
        (12.0, 1.5, 0.0, "stall_limit_s"),
    ],
)
def test_impossible_terms_are_refused_by_name(
    ttl_s: float, margin_s: float, stall_s: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        LeaseTerms(ttl_s, margin_s, stall_s)


def test_host_is_proven_dead_only_after_lease_and_margin_of_standing_still() -> None:
    sightings = Sightings(TERMS)
    sightings.observe({"a": 1, "b": 1}, now_s=100.0)
    sightings.observe({"a": 1, "b": 2}, now_s=105.0)
    assert sightings.next_proof_at() == 113.5
    assert sightings.proven_dead(113.4) == []
    assert sightings.proven_dead(113.5) == [("a", 1)]
    assert sightings.proven_dead(118.5) == [("a", 1), ("b", 2)]


def test_counter_that_began_anew_in_a_new_generation_is_no_proof() -> None:
    """It is 0 after each join, so that two generations show the same number."""
    sightings = Sightings(TERMS)
    sightings.observe({"a": 0}, now_s=0.0, generation=1)
    sightings.observe({"a": 0}, now_s=10.0, generation=2)
    assert sightings.proven_dead(10.0 + TERMS.proof_s - 0.01) == []
    assert sightings.proven_dead(10.0 + TERMS.proof_s) == [("a", 0)]


def test_member_that_left_is_forgotten_and_starts_anew_if_it_is_seen_again() -> None:
    sightings = Sightings(TERMS)
    sightings.observe({"a": 1}, now_s=0.0)
    sightings.observe({}, now_s=1.0)
    assert sightings.proven_dead(1000.0) == []
    assert sightings.next_proof_at() == math.inf
    sightings.observe({"a": 1}, now_s=20.0)
    assert sightings.proven_dead(33.4) == []


# The proof of rule 3: one registry, a holder and a claimant whose clocks start anywhere and run
# fast or slow by as much as the margin pays for; messages take any time; either may be frozen
# for any time (its clock goes on). Time below is real time; each side sees only its own clock.

DRIFT = TERMS.margin_s / TERMS.ttl_s  # of each clock against real time: what the margin pays for


@dataclass(frozen=True)
class Clock:
    start_s: float
    rate: float

    def __call__(self, real_s: float) -> float:
        return self.start_s + self.rate * real_s

    def real(self, clock_s: float) -> float:
        return (clock_s - self.start_s) / self.rate


@dataclass(frozen=True)
class Sent:
    """A renewal: when it was sent and executed, and when its reply was heard, if ever."""

    sent_s: float
    executed_s: float
    heard_s: float | None


@dataclass(frozen=True)
class Look:
    """A claimant's look at the counters, and how long after the proof its burial is executed."""

    executed_s: float
    heard_s: float
    buries_after_s: float


SLOW, FAST = 1 - DRIFT + 1e-6, 1 + DRIFT - 1e-6
clocks = st.builds(
    Clock, st.floats(-100, 100), st.sampled_from([SLOW, 1.0, FAST]) | st.floats(SLOW, FAST)
)
delays = st.just(0.0) | st.floats(0, 2) | st.floats(0, 30)  # slow networks, frozen hosts


@st.composite
def renewals(draw: st.DrawFn) -> list[Sent]:
    found, now_s = [], 0.0
    for _ in range(draw(st.integers(1, 4))):
        executed_s = now_s + draw(delays)
        heard_s = None if draw(st.booleans()) else executed_s + draw(delays)
        found.append(Sent(now_s, executed_s, heard_s))
        now_s += draw(st.just(3.0) | st.floats(0, 15))
    return found


@st.composite
def looks(draw: st.DrawFn) -> list[Look]:
    found, now_s = [], 0.0
    for _ in range(draw(st.integers(1, 6))):
        executed_s = now_s + draw(delays)
        heard_s = executed_s + draw(delays)
        found.append(Look(executed_s, heard_s, draw(delays)))
        now_s = heard_s + draw(st.just(3.0) | st.floats(0, 15))
    return found


def counter_at(sent: list[Sent], real_s: float) -> int:
    return max((n for n, renewal in enumerate(sent, 1) if renewal.executed_s <= real_s), default=0)


def held_until(sent: list[Sent], clock: Clock, buried_s: float) -> float:
    """Until when, in real time, the holder takes its lease for held, hearing replies in order.

    A renewal executed after the burial is fenced: it is heard, but not as a success.
    """
    lease = Lease(TERMS)
    heard = [r for r in sent if r.heard_s is not None and r.executed_s < buried_s]
    for renewal in sorted(heard, key=lambda r: r.heard_s or 0.0):
        lease.renewed(clock(renewal.sent_s), clock(renewal.heard_s or 0.0))
    return clock.real(lease.deadline_s)


def burial(sent: list[Sent], looked: list[Look], clock: Clock, compared: bool) -> float | None:
    """When, in real time, the claimant's burial is executed and succeeds; None if none does."""
    sightings = Sightings(TERMS)
    for look in looked:
        sightings.observe({"holder": counter_at(sent, look.executed_s)}, clock(look.heard_s))
        proof_s = max(sightings.next_proof_at(), clock(look.heard_s)) + 1e-6
        [(_, counter)] = sightings.proven_dead(proof_s)
        buried_s = clock.real(proof_s) + look.buries_after_s
        if not compared or counter_at(sent, buried_s) == counter:
            return buried_s
    return None


@settings(max_examples=1000, deadline=None)
@given(sent=renewals(), looked=looks(), holder=clocks, claimant=clocks)
def test_holder_has_stopped_before_another_may_take_over(
    sent: list[Sent], looked: list[Look], holder: Clock, claimant: Clock
) -> None:
    buried_s = burial(sent, looked, claimant, compared=True)
    if buried_s is not None:
        assert held_until(sent, holder, buried_s) <= buried_s


@pytest.mark.parametrize("broken", ["too short a wait", "counted from the reply", "no comparison"])
def test_the_proof_above_finds_a_broken_rule(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "too short a wait":
        monkeypatch.setattr(LeaseTerms, "proof_s", property(lambda terms: terms.ttl_s - 3.0))
    if broken == "counted from the reply":
        renewed = Lease.renewed
        monkeypatch.setattr(Lease, "renewed", lambda lease, _, now_s: renewed(lease, now_s, now_s))

    @settings(max_examples=5000, deadline=None, database=None, phases=[Phase.generate])
    @given(sent=renewals(), looked=looks(), holder=clocks, claimant=clocks)
    def no_overlap(sent: list[Sent], looked: list[Look], holder: Clock, claimant: Clock) -> None:
        buried_s = burial(sent, looked, claimant, compared=broken != "no comparison")
        assert buried_s is None or held_until(sent, holder, buried_s) <= buried_s

    with pytest.raises(AssertionError):
        no_overlap()


def test_takeover_without_the_counter_compared_would_overlap() -> None:
    """The comparison carries the proof: without it a frozen claimant would be wrong."""
    sightings, lease = Sightings(TERMS), Lease(TERMS)
    sightings.observe({"holder": 1}, now_s=0.0)
    lease.renewed(sent_at_s=10.0, now_s=10.1)  # counter 2, which the claimant has not seen
    assert sightings.proven_dead(13.5) == [("holder", 1)]
    assert lease.is_held(13.5)


def test_takeover_counted_from_the_asking_would_overlap() -> None:
    """Why ``observe`` wants the time of the reply: the look was executed long after it was sent."""
    asked_s, renewed_s, replied_s = 0.0, 9.0, 9.1
    lease = Lease(TERMS)
    lease.renewed(renewed_s, renewed_s)
    too_early, right = Sightings(TERMS), Sightings(TERMS)
    too_early.observe({"holder": 1}, asked_s)
    right.observe({"holder": 1}, replied_s)
    assert too_early.proven_dead(13.5)
    assert lease.is_held(13.5)
    assert not right.proven_dead(13.5)
