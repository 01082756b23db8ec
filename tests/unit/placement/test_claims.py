"""Claims and saves: every case of the decisions."""

from hypothesis import given
from hypothesis import strategies as st

from placement.claims import SaveVerdict, claim_granted, judge_save, may_assert, may_bury, owns
from placement.records import Location, Stored

incarnations = st.sampled_from(["me", "other", "third"])
numbers = st.integers(0, 3)
locations = st.none() | st.builds(Location, incarnations, numbers)
stored_states = st.none() | st.builds(Stored, numbers, numbers, st.just(b""))


@given(locations, st.sets(incarnations))
def test_claim_is_refused_exactly_when_another_live_incarnation_holds_the_actor(
    location: Location | None, live: set[str]
) -> None:
    held = location is not None and location.incarnation != "me" and location.incarnation in live
    assert claim_granted(location, "me", live) == (not held)


@given(locations, numbers)
def test_only_the_exact_incarnation_and_epoch_own(location: Location | None, epoch: int) -> None:
    assert owns(location, "me", epoch) == (location == Location("me", epoch))


@given(locations, numbers, st.booleans())
def test_what_runs_is_asserted_unless_a_later_epoch_or_another_host_at_this_one_is_known(
    location: Location | None, epoch: int, is_claimed: bool
) -> None:
    later = location is not None and location.epoch > epoch
    elsewhere = location is not None and location.epoch == epoch and location.incarnation != "me"
    is_new = not later and not elsewhere and location != Location("me", epoch)
    may = may_assert(location, "me", epoch, is_claimed)
    assert may == (not later and not elsewhere and not (is_new and is_claimed))


@given(st.permutations([("me", 1), ("other", 1), ("me", 2), ("other", 3), ("third", 3)]))
def test_of_all_that_assert_one_actor_only_one_of_the_newest_epoch_stays(
    order: list[tuple[str, int]],
) -> None:
    location = None
    for incarnation, epoch in order * 2:
        if may_assert(location, incarnation, epoch, is_claimed=False):
            location = Location(incarnation, epoch)
    first = next(pair for pair in order if pair[1] == 3)
    assert location == Location(*first)


@given(locations, stored_states, numbers, numbers)
def test_save_counts_only_from_the_owner_and_only_forward(
    location: Location | None, stored: Stored | None, epoch: int, save_no: int
) -> None:
    verdict = judge_save(location, stored, "me", epoch, save_no)
    if not owns(location, "me", epoch):
        assert verdict is SaveVerdict.REFUSED
    elif stored is None or (epoch, save_no) > (stored.epoch, stored.save_no):
        assert verdict is SaveVerdict.STORE
    elif (epoch, save_no) == (stored.epoch, stored.save_no):
        assert verdict is SaveVerdict.SAME
    else:
        assert verdict is SaveVerdict.REFUSED


def test_save_of_a_new_epoch_starts_its_numbers_anew() -> None:
    stored = Stored(epoch=1, save_no=9, data=b"")
    assert judge_save(Location("me", 2), stored, "me", 2, 0) is SaveVerdict.STORE


@given(st.none() | numbers, numbers)
def test_member_is_buried_only_if_its_counter_stands_where_it_was_seen(
    current: int | None, seen: int
) -> None:
    assert may_bury(current, seen) == (current is not None and current == seen)
