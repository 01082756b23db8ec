"""Evidence becomes the right change of the view, and only that. Rule 16 of the design."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploy.watch.evidence import Evidence, Standing
from deploy.watch.objects import Death
from deploy.watch.verdicts import (
    Action,
    Birth,
    Bury,
    Drain,
    SetReady,
    Told,
    decide,
    due,
    is_proof,
)  # fmt: skip
from placement.records import Member, MemberState

BORN_S = 1000.5
BIRTH = Birth("uid-a", BORN_S)
DEATH = Death(1000.0, 1060.0, "Error")


def member(
    host: str = "a", *, state: MemberState = MemberState.UP, ready: bool = True, inc: str = ""
) -> Member:
    return Member(host, inc or f"inc-{host}", "10.0.0.1:50051", state=state, ready=ready)


def action_for(who: Member, found: Evidence, birth: Birth | None = BIRTH) -> Action | None:
    births = {who.incarnation: birth} if birth else {}
    verdicts = decide([who], births, [found])
    return verdicts[who.incarnation][1] if who.incarnation in verdicts else None


def standing(value: Standing, *deaths: Death) -> Evidence:
    return Evidence("a", "uid-a", value, deaths)


def test_a_pod_merely_not_ready_gets_no_new_actors_and_is_not_stripped() -> None:
    assert action_for(member(), standing(Standing.NOT_READY)) == SetReady("inc-a", False)
    assert action_for(member(ready=False), standing(Standing.NOT_READY)) is None


def test_a_pod_ready_again_gets_new_actors() -> None:
    assert action_for(member(ready=False), standing(Standing.READY)) == SetReady("inc-a", True)
    assert action_for(member(), standing(Standing.READY)) is None


def test_a_terminating_pod_drains_once() -> None:
    assert action_for(member(), standing(Standing.TERMINATING)) == Drain("inc-a")
    draining = member(state=MemberState.DRAINING)
    assert action_for(draining, standing(Standing.TERMINATING)) is None


def test_a_host_that_an_operator_drains_is_not_taken_back_when_its_pod_is_ready() -> None:
    assert action_for(member(state=MemberState.DRAINING), standing(Standing.READY)) is None


def test_an_unknown_standing_changes_nothing() -> None:
    assert action_for(member(), standing(Standing.UNKNOWN)) is None
    assert action_for(member(ready=False), standing(Standing.UNKNOWN)) is None


def test_the_witnessed_end_of_its_container_buries_a_host() -> None:
    for value in Standing:
        assert action_for(member(), standing(value, DEATH)) == Bury("inc-a", DEATH)


def test_a_pod_deleted_by_force_waits_for_its_lease() -> None:
    assert action_for(member(), standing(Standing.GONE)) == SetReady("inc-a", False)


def test_a_host_outside_kubernetes_is_left_alone() -> None:
    assert action_for(member("laptop"), standing(Standing.GONE, DEATH)) is None


def test_evidence_about_another_pod_of_the_same_name_proves_nothing() -> None:
    other = Evidence("a", "uid-older", Standing.GONE, (DEATH,))
    assert action_for(member(), other) is None


def test_without_a_recorded_birth_there_is_no_proof_and_no_disappearance() -> None:
    assert action_for(member(), standing(Standing.GONE, DEATH), birth=None) is None
    assert action_for(member(), standing(Standing.TERMINATING, DEATH), None) == Drain("inc-a")


def test_a_restarted_container_buries_the_old_incarnation_and_not_the_new_one() -> None:
    old, new = member(inc="old"), member(inc="new")
    births = {"old": Birth("uid-a", 1000.5), "new": Birth("uid-a", 1061.2)}
    verdicts = decide([old, new], births, [standing(Standing.READY, DEATH)])
    assert verdicts["old"][1] == Bury("old", DEATH)
    assert verdicts["new"][1] is None


def test_a_ready_pod_opens_only_its_youngest_incarnation() -> None:
    old, new = member(inc="old", ready=False), member(inc="new", ready=False)
    births = {"old": Birth("uid-a", 1000.5), "new": Birth("uid-a", 1061.2)}
    verdicts = decide([old, new], births, [standing(Standing.READY)])
    assert (verdicts["old"][1], verdicts["new"][1]) == (None, SetReady("new", True))
    unborn = decide([old, new], {}, [standing(Standing.READY)])
    assert [action for _, action in unborn.values()] == [None, None]


times = st.floats(0, 2e9, allow_nan=False)


@given(times, times, times)
def test_only_an_end_after_the_birth_within_the_same_run_is_a_proof(
    started_s: float, finished_s: float, born_s: float
) -> None:
    death = Death(started_s, finished_s, "Error")
    here = standing(Standing.GONE, death)
    assert is_proof(death, here, Birth("uid-a", born_s)) == (started_s <= born_s < finished_s)
    assert not is_proof(death, here, Birth("uid-b", born_s))


@given(
    first_s=st.integers(1, 10**6), life_s=st.integers(0, 10**4), pause_s=st.integers(0, 300),
    late_s=st.floats(0, 30), step_back_s=st.integers(0, 10**5),
)  # fmt: skip
def test_the_incarnation_that_runs_is_never_buried_even_when_the_clock_was_set_back(
    first_s: int, life_s: int, pause_s: int, late_s: float, step_back_s: int
) -> None:
    """One run ended; the next goes on, on a clock that may have been set back between."""
    ended = Death(first_s, first_s + life_s, "Error")
    running_since_s = float(first_s + life_s + pause_s - step_back_s)
    birth = Birth("uid-a", running_since_s + late_s)
    found = Evidence("a", "uid-a", Standing.READY, (ended,), running_since_s)
    assert not is_proof(ended, found, birth)


@given(
    first_s=st.integers(1, 10**6), life_s=st.integers(2, 10**4), pause_s=st.integers(0, 300),
    late_s=st.floats(0, 1),
)  # fmt: skip
def test_the_incarnation_that_died_is_buried_whether_or_not_its_container_runs_again(
    first_s: int, life_s: int, pause_s: int, late_s: float
) -> None:
    ended = Death(first_s, first_s + life_s, "Error")
    birth = Birth("uid-a", first_s + late_s)
    for running_since_s in (None, float(first_s + life_s + pause_s)):
        found = Evidence("a", "uid-a", Standing.READY, (ended,), running_since_s)
        assert is_proof(ended, found, birth)


READY, NOT_READY = standing(Standing.READY), standing(Standing.NOT_READY)
CLOSE = SetReady("inc-a", False)


def test_new_evidence_is_acted_on_at_once_and_once() -> None:
    actions, told = due({"inc-a": (NOT_READY, CLOSE)}, {}, True, 5.0, 60.0)
    assert actions == [CLOSE]
    assert due({"inc-a": (NOT_READY, CLOSE)}, told, True, 6.0, 60.0)[0] == []


def test_a_view_that_turns_against_old_evidence_is_corrected_after_a_while_only() -> None:
    told = due({"inc-a": (NOT_READY, None)}, {}, True, 0.0, 60.0)[1]
    actions, told = due({"inc-a": (NOT_READY, CLOSE)}, told, True, 1000.0, 60.0)
    assert actions == []
    assert due({"inc-a": (NOT_READY, CLOSE)}, told, True, 1059.0, 60.0)[0] == []
    actions, told = due({"inc-a": (NOT_READY, CLOSE)}, told, True, 1060.0, 60.0)
    assert actions == [CLOSE]
    assert due({"inc-a": (NOT_READY, CLOSE)}, told, True, 1061.0, 60.0)[0] == []


def test_a_broken_watch_acts_on_proofs_alone() -> None:
    bury = Bury("inc-b", DEATH)
    verdicts = {"inc-a": (NOT_READY, CLOSE), "inc-b": (standing(Standing.GONE, DEATH), bury)}
    actions, told = due(verdicts, {"inc-a": Told(READY, None)}, False, 0.0, 60.0)
    assert actions == [bury]
    assert due(verdicts, told, True, 1.0, 60.0)[0] == [CLOSE, bury]


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=60))
def test_two_watches_that_disagree_for_good_do_not_keep_the_view_turning(
    pauses_s: list[float],
) -> None:
    """One sees READY and one, stuck without knowing it, NOT_READY; each looks at every change."""
    reassert_s, now_s, changes = 60.0, 0.0, 0
    ready = True
    told: list[dict[str, Told]] = [{}, {}]
    for pause_s in pauses_s:
        now_s += pause_s
        for number, evidence in enumerate((READY, NOT_READY)):
            verdicts = decide([member(ready=ready)], {"inc-a": BIRTH}, [evidence])
            actions, told[number] = due(verdicts, told[number], True, now_s, reassert_s)
            for action in actions:
                assert isinstance(action, SetReady)
                ready, changes = action.ready, changes + 1
    assert changes <= 1 + 2 * (now_s // reassert_s + 1)
