"""What lists and events add up to, in whatever order and however often they come."""

from __future__ import annotations

import copy
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.watch.evidence import DELETED_MAX, Evidence, Findings, Standing
from tests.k8s.objects import NAMESPACE, ended, endpoint, endpoint_slice, pod

Raw = dict[str, Any]
HYSTERESIS_S = 10.0


def findings() -> Findings:
    return Findings(NAMESPACE, "agent-host", HYSTERESIS_S)


def versioned(raw: Raw, version: int) -> Raw:
    stamped = copy.deepcopy(raw)
    stamped["metadata"]["resourceVersion"] = str(version)
    return stamped


def standings(found: Findings, now_s: float) -> dict[str, Standing]:
    return {e.pod: e.standing for e in found.evidence(now_s)}


def listed(*endpoints: Raw, pods: list[Raw], now_s: float = 0.0) -> Findings:
    found = findings()
    found.slices_listed([versioned(endpoint_slice("s", endpoints), 1)], now_s)
    found.pods_listed([versioned(raw, 1) for raw in pods], now_s)
    return found


def test_a_ready_endpoint_is_ready_at_once() -> None:
    assert standings(listed(endpoint("a"), pods=[pod("a")]), 0.0) == {"a": Standing.READY}


def test_a_pod_that_is_not_ready_counts_only_after_the_hysteresis() -> None:
    found = listed(endpoint("a", ready=False), pods=[pod("a")], now_s=100.0)
    assert standings(found, 100.0) == {"a": Standing.UNKNOWN}
    assert found.next_change_s(100.0) == 110.0
    assert standings(found, 109.9) == {"a": Standing.UNKNOWN}
    assert standings(found, 110.0) == {"a": Standing.NOT_READY}
    assert found.next_change_s(110.0) is None


def test_a_flap_starts_the_hysteresis_anew() -> None:
    found = listed(endpoint("a", ready=False), pods=[pod("a")])
    for at_s, ready in ((9.0, True), (9.5, False)):
        event = versioned(endpoint_slice("s", [endpoint("a", ready=ready)]), int(at_s * 2))
        found.slice_event("MODIFIED", event, at_s)
    assert standings(found, 11.0) == {"a": Standing.UNKNOWN}
    assert standings(found, 19.5) == {"a": Standing.NOT_READY}


def test_a_pod_that_is_asked_to_go_terminates_at_once_even_while_ready() -> None:
    by_pod = listed(endpoint("a"), pods=[pod("a", deleting=True)])
    by_endpoint = listed(endpoint("a", terminating=True), pods=[pod("a")])
    assert standings(by_pod, 0.0) == standings(by_endpoint, 0.0) == {"a": Standing.TERMINATING}


def test_a_pod_in_no_slice_is_unknown_so_that_a_deleted_service_changes_nothing() -> None:
    found = listed(endpoint("a"), pods=[pod("a")])
    found.slices_listed([], 5.0)
    assert standings(found, 1000.0) == {"a": Standing.UNKNOWN}


def test_a_pod_in_two_slices_is_ready_if_either_says_so() -> None:
    found = listed(endpoint("a", ready=False), pods=[pod("a")])
    found.slice_event("ADDED", versioned(endpoint_slice("t", [endpoint("a")]), 2), 0.0)
    assert standings(found, 50.0) == {"a": Standing.READY}


def test_a_deleted_pod_is_gone_with_the_end_that_its_last_state_tells() -> None:
    found = listed(endpoint("a"), endpoint("b"), pods=[pod("a"), pod("b")])
    end = ended("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z")
    found.pod_event("DELETED", versioned(pod("a", deleting=True, state=end), 2), 0.0)
    found.pod_event("DELETED", versioned(pod("b", deleting=True), 3), 0.0)  # by force
    a, b = found.evidence(0.0)
    assert (a.standing, len(a.deaths)) == (Standing.GONE, 1)
    assert (b.standing, len(b.deaths)) == (Standing.GONE, 0)


def test_a_pod_missing_from_a_new_list_is_gone_without_proof() -> None:
    found = listed(endpoint("a"), pods=[pod("a")])
    found.pods_listed([], 1.0)
    assert found.evidence(1.0) == (Evidence("a", "uid-of-a", Standing.GONE),)


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    found = listed(endpoint("a"), pods=[pod("a")])
    found.pod_event("DELETED", versioned(pod("a"), 2), 0.0)
    found.pod_event("ADDED", versioned(pod("a", uid="second"), 3), 0.0)
    found.slice_event(
        "MODIFIED", versioned(endpoint_slice("s", [endpoint("a", uid="second")]), 4), 0.0
    )
    assert {(e.pod_uid, e.standing) for e in found.evidence(0.0)} == {
        ("uid-of-a", Standing.GONE), ("second", Standing.READY),
    }  # fmt: skip


def test_a_late_event_does_not_bring_a_deleted_pod_back() -> None:
    found = listed(endpoint("a"), pods=[pod("a")])
    found.pod_event("DELETED", versioned(pod("a"), 9), 0.0)
    found.pod_event("MODIFIED", versioned(pod("a"), 5), 0.0)
    found.pod_event("DELETED", versioned(pod("a"), 9), 0.0)
    assert standings(found, 0.0) == {"a": Standing.GONE}


def test_an_endpoint_whose_pod_may_not_be_read_still_tells_whether_it_is_ready() -> None:
    assert standings(listed(endpoint("a"), pods=[]), 0.0) == {"a": Standing.READY}


def test_what_is_remembered_of_deleted_pods_is_bounded() -> None:
    found = findings()
    for n in range(DELETED_MAX + 50):
        found.pod_event("ADDED", versioned(pod(f"p{n}"), n + 1), 0.0)
        found.pod_event("DELETED", versioned(pod(f"p{n}"), n + 1), 0.0)
    assert len(found.evidence(0.0)) == DELETED_MAX


events = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["ready", "not ready", "deleting", "ended", "deleted"]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_repeated_and_reordered_events_add_up_to_the_same_evidence(
    steps: list[tuple[str, str]], rng: random.Random
) -> None:
    history = _history(steps)
    noisy = history + rng.choices(history, k=len(history)) if history else []
    rng.shuffle(noisy)
    assert _replayed(noisy) == _replayed(history)


def _history(steps: list[tuple[str, str]]) -> list[tuple[str, str, Raw]]:
    """(stream, kind, object) in the true order: pods that live once, and one slice of them."""
    end = ended("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z")
    pods: dict[str, Raw] = {name: pod(name) for name in "abc"}
    ready: dict[str, bool] = {}
    history: list[tuple[str, str, Raw]] = []
    for version, (name, step) in enumerate(steps, start=1):
        if name not in pods:
            continue
        if step in ("ready", "not ready"):
            ready[name] = step == "ready"
        elif step == "deleted":
            history.append(("pod", "DELETED", versioned(pods.pop(name), 2 * version)))
            ready.pop(name, None)
        else:
            state = end if step == "ended" else None
            pods[name] = pod(name, deleting=step == "deleting", state=state)
            history.append(("pod", "MODIFIED", versioned(pods[name], 2 * version)))
        points = [endpoint(n, ready=is_ready) for n, is_ready in ready.items()]
        history.append(
            ("slice", "MODIFIED", versioned(endpoint_slice("s", points), 2 * version + 1))
        )
    return history


def _replayed(history: list[tuple[str, str, Raw]]) -> tuple[Evidence, ...]:
    found = findings()
    for stream, kind, raw in history:
        (found.pod_event if stream == "pod" else found.slice_event)(kind, raw, 0.0)
    return found.evidence(HYSTERESIS_S)
