"""Which actors move in a round: the plan and its caps, as decisions."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from placement.handoff import Caps, Move, Owned, Plan, misplaced

ME = "me"
owners = st.sampled_from([ME, "other", "third", ""])
owned_lists = st.lists(
    st.builds(Owned, st.integers(0, 50).map("K/{}".format), st.floats(0, 100), st.booleans()),
    unique_by=lambda one: one.actor,
    max_size=40,
)


def plan(owned: list[Owned], owner: Callable[[str], str], me: str, most: int) -> list[Move]:
    """From parts of different lengths, as a large host looks through what it has."""
    plan, moves = Plan(), []
    for start, end in ((0, 3), (3, 4), (4, 4), (4, 100)):
        plan.add(misplaced(owned[start:end], owner, me))
    while len(moves) < most and (move := plan.take()) is not None:
        moves.append(move)
    assert plan.is_empty or len(moves) == most
    return moves


@given(owned_lists, st.dictionaries(st.integers(0, 50).map("K/{}".format), owners))
def test_only_what_the_ring_gives_to_another_host_is_misplaced_and_never_what_spilled(
    owned: list[Owned], ring: dict[str, str]
) -> None:
    found = misplaced(owned, lambda actor: ring.get(actor, ME), ME)
    expected = [
        (one, ring[one.actor])
        for one in owned
        if not one.is_spilled and ring.get(one.actor, ME) not in (ME, "")
    ]
    assert found == expected


@given(owned_lists, st.integers(0, 20))
def test_a_plan_takes_the_longest_idle_first_and_no_more_than_allowed(
    owned: list[Owned], allowed: int
) -> None:
    moves = plan(owned, lambda actor: "other", ME, allowed)
    may = [one for one in owned if not one.is_spilled]
    assert len(moves) == min(allowed, len(may))
    idle_s = {one.actor: one.idle_s for one in owned}
    taken = [idle_s[move.actor] for move in moves]
    assert taken == sorted((one.idle_s for one in may), reverse=True)[:allowed]


@given(st.lists(st.integers(0, 50), unique=True), st.randoms(use_true_random=False))
def test_the_same_actors_in_any_order_give_the_same_plan(keys: list[int], random: Random) -> None:
    owned = [Owned(f"K/{key}", float(key % 3), False) for key in keys]
    shuffled = list(owned)
    random.shuffle(shuffled)
    assert plan(shuffled, lambda actor: "other", ME, 10) == plan(
        owned, lambda actor: "other", ME, 10
    )


@given(st.integers(1, 5_000), st.floats(0.01, 1.0), st.integers(0, 100_000))
def test_a_round_is_capped_in_number_and_in_share_and_one_may_always_move(
    at_once: int, share: float, owned: int
) -> None:
    allowed = Caps(at_once, share).allowed(owned)
    assert 1 <= allowed <= at_once
    assert allowed <= max(1, owned * share)
    assert allowed in (1, at_once, int(owned * share))
