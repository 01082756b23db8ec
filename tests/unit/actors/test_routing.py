"""Where a message goes: the ring's first member that knows the kind and has not refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.routing import Unroutable, Ways, choose, may_claim
from placement.records import Member, MemberState, View
from placement.ring import Ring
from wire.ids import ActorId

MEMBERS = st.lists(
    st.builds(
        Member,
        host_id=st.sampled_from("abcdef"),
        incarnation=st.uuids().map(str),
        address=st.just("x:1"),
        state=st.sampled_from([MemberState.UP, MemberState.DRAINING, MemberState.JOINING]),
        weight=st.just(0.05),
        kinds=st.sampled_from([(), ("A",), ("B",), ("A", "B")]),
        ready=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda m: m.host_id,
)
TARGETS = st.builds(ActorId, st.sampled_from(["A", "B"]), st.text("xyz", min_size=1))


def ring_of(*members: Member) -> Ring:
    return Ring(View(1, 1, members))


def member(host_id: str, *kinds: str) -> Member:
    return Member(host_id=host_id, incarnation=f"{host_id}#1", address="", kinds=kinds)


@settings(deadline=None)
@given(MEMBERS, TARGETS, st.data())
def test_the_choice_is_the_first_candidate_that_may(
    members: list[Member], target: ActorId, data: st.DataObject
) -> None:
    refused = data.draw(st.lists(st.sampled_from([m.incarnation for m in members]), unique=True)
                        if members else st.just([]))  # fmt: skip
    ring = ring_of(*members)
    candidates = list(ring.candidates(str(target)))
    knowing = [m for m in candidates if not m.kinds or target.kind in m.kinds]
    willing = [m for m in knowing if m.incarnation not in refused]
    chosen = choose(ring, target, refused)
    if willing:
        assert chosen == willing[0]
    elif knowing:
        assert chosen is Unroutable.ALL_FULL
    elif candidates:
        assert chosen is Unroutable.UNKNOWN_KIND
    else:
        assert chosen is Unroutable.NO_HOST


@settings(deadline=None)
@given(MEMBERS, TARGETS)
def test_at_most_one_host_may_claim(members: list[Member], target: ActorId) -> None:
    ring = ring_of(*members)
    claimants = [m for m in members if may_claim(ring, m.incarnation, target, ())]
    chosen = choose(ring, target)
    assert claimants == ([chosen] if isinstance(chosen, Member) else [])


@pytest.mark.parametrize(
    ("members", "refused", "outcome"),
    [
        ([], [], Unroutable.NO_HOST),
        ([member("a", "B")], [], Unroutable.UNKNOWN_KIND),
        ([member("a", "A")], ["a#1"], Unroutable.ALL_FULL),
        ([member("a", "A"), member("b", "B")], ["a#1"], Unroutable.ALL_FULL),
        ([member("a")], ["b#1"], member("a")),
    ],
)
def test_why_nobody_is_chosen_is_said(
    members: list[Member], refused: list[str], outcome: object
) -> None:
    assert choose(ring_of(*members), ActorId("A", "x"), refused) == outcome


def test_locations_are_remembered_up_to_a_bound_the_oldest_out_first() -> None:
    ways = Ways(2, lambda incarnation: True)
    ids = [ActorId("A", str(n)) for n in range(3)]
    for n, id in enumerate(ids):
        ways.learn(id, f"i{n}")
    assert [ways.get(id) for id in ids] == ["", "i1", "i2"]
    ways.learn(ids[1], "i9")
    assert ways.get(ids[1]) == "i9"
    ways.forget(ids[1])
    ways.forget(ids[1])
    assert ways.get(ids[1]) == ""


def test_a_location_on_a_dead_host_is_none() -> None:
    live = {"i1"}
    ways = Ways(10, live.__contains__)
    ways.learn(ActorId("A", "x"), "i1")
    assert ways.get(ActorId("A", "x")) == "i1"
    live.clear()
    assert ways.get(ActorId("A", "x")) == ""
    live.add("i1")
    assert ways.get(ActorId("A", "x")) == "", "it has been forgotten"
