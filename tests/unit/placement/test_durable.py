"""Specs and reminders: names that sort and never clash, bounds, and the next due time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.durable import (
    REMINDER_S_MAX,
    SPEC_BYTES_MAX,
    check_spec,
    delay_ms,
    first_due_ms,
    name_bounds,
    next_due_ms,
    period_ms,
    reminder_id,
    spec_name,
)
from placement.ring import stable_hash

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
hashes = st.integers(0, 2**64 - 1)
times_ms = st.integers(0, 2**42)
periods_ms = st.integers(1, 2**42)


@given(texts, hashes, hashes)
def test_name_lies_between_the_bounds_exactly_when_the_hash_is_in_the_range(
    actor: str, one: int, other: int
) -> None:
    mine = stable_hash(actor)
    for first, last in [(one, other), (mine, max(mine, one)), (min(mine, one), mine), (mine, mine)]:
        low, high = name_bounds(first, last)
        assert (low < spec_name(actor) < high) == (first <= mine <= last)
        assert spec_name(actor)[17:] == actor


@given(texts, texts, texts, texts)
def test_reminders_of_two_actors_or_names_never_share_an_id(
    actor: str, name: str, other_actor: str, other_name: str
) -> None:
    same = (actor, name) == (other_actor, other_name)
    assert (reminder_id(actor, name) == reminder_id(other_actor, other_name)) == same
    assert reminder_id(actor + name, "") != reminder_id(actor, name) or not name


@given(times_ms, periods_ms, times_ms)
def test_next_time_is_the_first_of_the_rhythm_that_is_ahead(
    due_ms: int, every_ms: int, now_ms: int
) -> None:
    after_ms = next_due_ms(due_ms, every_ms, now_ms)
    assert after_ms > max(due_ms, now_ms)
    assert (after_ms - due_ms) % every_ms == 0
    assert after_ms - every_ms <= max(due_ms, now_ms)


@given(times_ms, times_ms, st.none() | times_ms)
def test_reminder_set_anew_is_never_due_when_the_earlier_one_was(
    now_ms: int, after_ms: int, earlier_ms: int | None
) -> None:
    due_ms = first_due_ms(now_ms, after_ms, earlier_ms)
    assert due_ms != earlier_ms
    assert due_ms - (now_ms + after_ms) in (0, 1)
    assert first_due_ms(now_ms, after_ms, now_ms + after_ms) == now_ms + after_ms + 1


@pytest.mark.parametrize("wrong_s", [-0.001, REMINDER_S_MAX + 1, math.inf, -math.inf, math.nan])
def test_delay_that_is_negative_endless_or_no_number_is_refused(wrong_s: float) -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        delay_ms(wrong_s)
    with pytest.raises(ValueError, match="between 0 and"):
        period_ms(wrong_s)


def test_period_too_short_to_tell_is_a_millisecond_and_none_at_all_stays_none() -> None:
    assert period_ms(0.0) == 0
    assert period_ms(0.000_1) == 1
    assert period_ms(1.5) == delay_ms(1.5) == 1500
    assert delay_ms(0.000_1) == 0


def test_spec_at_the_bound_is_taken_and_one_above_is_refused() -> None:
    assert check_spec(b"x" * SPEC_BYTES_MAX) == b"x" * SPEC_BYTES_MAX
    with pytest.raises(ValueError, match="65536 bytes, not 65537"):
        check_spec(b"x" * (SPEC_BYTES_MAX + 1))
