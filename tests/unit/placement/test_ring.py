"""The ring: balanced, stable, moving no more than it must."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.records import Member, MemberState, View
from placement.ring import VNODES, Ring, moved, stable_hash
from placement.view import make_view

ACTORS = [f"Counter/{n}" for n in range(400)]


def host(number: int, **changes: object) -> Member:
    fields: dict[str, object] = {
        "host_id": f"host-{number}",
        "incarnation": f"inc-{number}",
        "address": f"10.0.0.{number}:50051",
    }
    return Member(**(fields | changes))  # type: ignore[arg-type]


def ring_of(*members: Member) -> Ring:
    return Ring(make_view(1, 1, members))


host_numbers = st.sets(st.integers(0, 40), min_size=1, max_size=6)
few = settings(max_examples=25, deadline=None)


def test_hash_is_the_same_in_every_process_and_release() -> None:
    assert stable_hash("Counter/a") == 0xB463B69A441CD2AD
    assert stable_hash("Zähler/ü") == 0x422DDF9D276A5E75


def test_owner_of_known_names_on_a_known_ring_never_changes() -> None:
    ring = ring_of(host(1), host(2), host(3))
    owners = "".join(ring.owner(actor).host_id[-1] for actor in ACTORS[:24])  # type: ignore[union-attr]
    assert owners == "333112123331332321221221"


@few
@given(numbers=host_numbers, order=st.randoms(use_true_random=False))
def test_order_of_members_does_not_matter(numbers: set[int], order: object) -> None:
    members = [host(n) for n in numbers]
    shuffled = list(members)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Ring(View(1, 1, tuple(members))), Ring(View(1, 1, tuple(shuffled)))
    assert [one.owner(a) for a in ACTORS] == [other.owner(a) for a in ACTORS]


@few
@given(numbers=host_numbers)
def test_a_newcomer_takes_actors_and_nothing_else_moves(numbers: set[int]) -> None:
    old = ring_of(*(host(n) for n in numbers))
    newcomer = host(41)
    new = ring_of(newcomer, *(host(n) for n in numbers))
    for actor in moved(old, new, ACTORS):
        assert new.owner(actor) == newcomer


def test_newcomers_share_is_close_to_the_ideal() -> None:
    old, new = ring_of(*map(host, range(3))), ring_of(*map(host, range(4)))
    share = len(moved(old, new, [f"Counter/{n}" for n in range(20_000)])) / 20_000
    assert 0.85 * 0.25 < share < 1.15 * 0.25


def test_ten_equal_hosts_stay_within_fifteen_percent_of_the_mean() -> None:
    for first in range(0, 200, 10):
        shares = ring_of(*map(host, range(first, first + 10))).share()
        assert max(shares.values()) <= 1.15 * 0.1
        assert abs(sum(shares.values()) - 1) < 1e-9


def test_weight_scales_the_share() -> None:
    shares = ring_of(host(1, weight=0.5), host(2), host(3, weight=2.5)).share()
    assert 0.8 < shares["host-1"] / 0.125 < 1.2
    assert 0.8 < shares["host-3"] / 0.625 < 1.2


@few
@given(numbers=host_numbers, hashes=st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_member_owns_exactly_the_actors_whose_hash_lies_in_its_ranges(
    numbers: set[int], hashes: list[int]
) -> None:
    ring = ring_of(*(host(n) for n in numbers))
    ranges = {m.incarnation: ring.ranges(m.incarnation) for m in ring.members}
    edges = [edge for _, found in sorted(ranges.items()) for edge in found[:2] + found[-2:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("placement.ring.stable_hash", int)
        for number in {*hashes, 0, 2**64 - 1, *(n for edge in edges for n in edge)}:
            owner = ring.owner(str(number))
            owning = [i for i, found in ranges.items() if any(a <= number <= b for a, b in found)]
            assert owner is not None
            assert owning == [owner.incarnation]


@few
@given(numbers=host_numbers)
def test_ranges_of_all_members_are_the_whole_space_once_and_none_touches_its_next(
    numbers: set[int],
) -> None:
    ring = ring_of(*(host(n) for n in numbers))
    of_each = [ring.ranges(m.incarnation) for m in ring.members]
    for found in of_each:
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(found))
    every = sorted(pair for found in of_each for pair in found)
    assert [first for first, _ in every] == [0, *(last + 1 for _, last in every[:-1])]
    assert every[-1][1] == 2**64 - 1


def test_member_that_owns_nothing_has_no_ranges_and_one_alone_has_a_single_one() -> None:
    ring = ring_of(host(1), host(2, ready=False))
    assert ring.ranges("inc-1") == [(0, 2**64 - 1)]
    assert ring.ranges("inc-2") == ring.ranges("nobody") == []
    assert ring_of(host(1, ready=False)).ranges("inc-1") == []


def test_share_is_where_actors_really_go() -> None:
    ring, names = ring_of(*map(host, range(5))), [f"K/{n}" for n in range(50_000)]
    counts = dict.fromkeys(ring.share(), 0)
    for name in names:
        counts[ring.owner(name).host_id] += 1  # type: ignore[union-attr]
    for host_id, share in ring.share().items():
        assert abs(counts[host_id] / len(names) - share) < 0.01


@few
@given(numbers=host_numbers)
def test_candidates_are_all_members_once_and_the_owner_first(numbers: set[int]) -> None:
    ring = ring_of(*(host(n) for n in numbers))
    for actor in ACTORS[:40]:
        candidates = list(ring.candidates(actor))
        assert candidates[0] == ring.owner(actor)
        assert sorted(c.host_id for c in candidates) == sorted(m.host_id for m in ring.members)


def test_second_candidate_is_the_owner_once_the_first_is_gone() -> None:
    members = [host(n) for n in range(5)]
    ring = ring_of(*members)
    for actor in ACTORS[:50]:
        first, second, *_ = ring.candidates(actor)
        assert ring_of(*(m for m in members if m != first)).owner(actor) == second


def test_only_members_that_are_up_and_ready_and_have_weight_own() -> None:
    ring = ring_of(
        host(1),
        host(2, state=MemberState.DRAINING),
        host(3, state=MemberState.JOINING),
        host(4, ready=False),
        host(5, weight=0.0),
        host(6, state=MemberState.DEAD),
    )
    assert {ring.owner(a) for a in ACTORS} == {host(1)}


def test_empty_ring_owns_nothing() -> None:
    ring = ring_of(host(1, ready=False))
    assert ring.owner("Counter/a") is None
    assert list(ring.candidates("Counter/a")) == []
    assert ring.share() == {}


def test_restarted_host_keeps_its_place_and_the_actors_go_to_its_new_incarnation() -> None:
    before = ring_of(host(1), host(2))
    restarted = host(2, incarnation="inc-2b")
    after = ring_of(host(1), host(2, ready=False), restarted)
    for actor in ACTORS:
        was, now = before.owner(actor), after.owner(actor)
        assert was is not None
        assert now == (restarted if was.host_id == "host-2" else was)


def test_host_id_that_is_there_twice_owns_once() -> None:
    ring = ring_of(host(1), host(2, incarnation="a"), host(2, incarnation="b"))
    assert {m.incarnation for m in ring.members} == {"inc-1", "b"}
    assert len(list(ring.candidates("Counter/a"))) == 2


def test_virtual_nodes_are_1024_for_a_weight_of_one() -> None:
    assert VNODES == 1024
    assert len(ring_of(host(1), host(2, weight=0.25))._keys) == 1024 + 256
