"""Members' records: what may change, and whom a newcomer puts in the shade."""

import pytest

from placement.membership import WEIGHT_MAX, changed_member, shadowed
from placement.records import Member, MemberState

MEMBER = Member("pod-1", "i1", "10.0.0.1:50051")


def test_what_is_not_named_stays_as_it_is() -> None:
    assert changed_member(MEMBER) == MEMBER
    drained = changed_member(MEMBER, state=MemberState.DRAINING)
    assert (drained.state, drained.ready, drained.weight) == (MemberState.DRAINING, True, 1.0)
    assert changed_member(MEMBER, ready=False, weight=2.0).ready is False


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), WEIGHT_MAX + 1])
def test_impossible_weight_is_refused_by_name(weight: float) -> None:
    with pytest.raises(ValueError, match="weight must be between 0 and 64"):
        changed_member(MEMBER, weight=weight)


def test_death_is_never_declared_by_changing_a_record() -> None:
    with pytest.raises(ValueError, match="bury"):
        changed_member(MEMBER, state=MemberState.DEAD)


def test_restart_and_reused_address_put_the_earlier_incarnation_in_the_shade() -> None:
    restarted = Member("pod-1", "i2", "10.0.0.9:50051")
    same_address = Member("pod-7", "i7", "10.0.0.1:50051")
    stranger = Member("pod-8", "i8", "10.0.0.8:50051")
    assert shadowed([MEMBER], restarted) == [MEMBER]
    assert shadowed([MEMBER], same_address) == [MEMBER]
    assert shadowed([MEMBER], stranger) == []


def test_hosts_without_an_address_do_not_shade_each_other() -> None:
    assert shadowed([Member("a", "i1", "")], Member("b", "i2", "")) == []
