"""Views: newer or not, and what changed."""

from hypothesis import given
from hypothesis import strategies as st

from placement.records import Member, MemberState, View
from placement.view import (
    NO_VIEW,
    diff,
    find_member,
    is_behind,
    live_incarnations,
    make_view,
    newest,
)

members = st.builds(
    Member,
    host_id=st.sampled_from(["a", "b", "c"]),
    incarnation=st.sampled_from(["i1", "i2", "i3", "i4"]),
    address=st.just("10.0.0.1:1"),
    ready=st.booleans(),
)
member_sets = st.lists(members, unique_by=lambda m: m.incarnation, max_size=4)
numbers = st.tuples(st.integers(0, 3), st.integers(0, 3))


@given(numbers, numbers)
def test_generation_counts_before_version(one: tuple[int, int], other: tuple[int, int]) -> None:
    view, news = View(*one, ()), View(*other, ())
    assert newest(view, news) is (news if other > one else view)
    assert is_behind(view, *other) == (other > one)


def test_every_real_view_is_newer_than_none() -> None:
    assert newest(NO_VIEW, View(1, 0, ())) == View(1, 0, ())


@given(member_sets)
def test_members_have_one_order_whatever_the_order_given(found: list[Member]) -> None:
    assert make_view(1, 1, found) == make_view(1, 1, reversed(found))


@given(member_sets, member_sets)
def test_diff_leads_from_the_old_view_to_the_new(old: list[Member], new: list[Member]) -> None:
    before, after = make_view(1, 1, old), make_view(1, 2, new)
    change = diff(before, after)
    rebuilt = {m.incarnation: m for m in before.members}
    for gone in change.gone:
        del rebuilt[gone.incarnation]
    for was, now in change.changed:
        assert rebuilt[was.incarnation] == was
        assert was != now
        rebuilt[now.incarnation] = now
    for joined in change.joined:
        assert joined.incarnation not in rebuilt
        rebuilt[joined.incarnation] = joined
    assert make_view(1, 2, rebuilt.values()) == after
    assert bool(change) == (before.members != after.members)


def test_every_member_of_a_view_is_alive_whatever_its_state() -> None:
    draining = Member("a", "i1", "x:1", state=MemberState.DRAINING)
    unready = Member("b", "i2", "x:2", ready=False)
    view = make_view(1, 1, [draining, unready])
    assert live_incarnations(view) == {"i1", "i2"}
    assert find_member(view, "i2") == unready
    assert find_member(view, "i3") is None
