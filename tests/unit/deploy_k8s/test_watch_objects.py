"""What is read from EndpointSlices and pods, and what is complained of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.watch.objects import Death, Endpoint, read_pod, read_slice, stamp, unix_s
from tests.k8s.objects import NAMESPACE, ended, endpoint, endpoint_slice, pod

DAY = "2026-01-01T"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


def test_a_slice_tells_of_each_pod_whether_it_is_ready_and_whether_it_terminates() -> None:
    found = read_slice(
        endpoint_slice("s", [
            endpoint("a"), endpoint("b", ready=False),
            endpoint("c", ready=False, terminating=True),
        ]),
        NAMESPACE,
    )  # fmt: skip
    assert found.endpoints == (
        Endpoint("a", "uid-of-a", True, False),
        Endpoint("b", "uid-of-b", False, False),
        Endpoint("c", "uid-of-c", False, True),
    )
    assert found.complaints == ()


def test_conditions_that_are_absent_mean_ready_and_not_terminating() -> None:
    raw = endpoint("a")
    del raw["conditions"]
    assert read_slice(endpoint_slice("s", [raw]), NAMESPACE).endpoints[0][2:] == (True, False)


MALFORMED = {
    "no addresses": (
        endpoint_slice("s", [endpoint("a") | {"addresses": []}]),
        ["EndpointSlice s: an endpoint (a) has no addresses; ignored"],
        0,
    ),
    "IPv6 only": (
        endpoint_slice("s", [endpoint("a", ip="fd00::1")], family="IPv6"),
        ["EndpointSlice s: IPv6 addresses only; its readiness is used, and hosts dial the POD_IP "
         "that each has announced"],
        1,
    ),
    "names instead of addresses": (
        endpoint_slice("s", [endpoint("a", ip="a.example")], family="FQDN"),
        ["EndpointSlice s: address type 'FQDN' is neither IPv4 nor IPv6; its readiness is used"],
        1,
    ),
    "two ports": (
        endpoint_slice("s", [endpoint("a")])
        | {"ports": [{"name": "grpc", "port": 50051}, {"port": 80}]},
        ["EndpointSlice s: 2 ports (grpc 50051, unnamed 80) where one is expected; hosts dial the "
         "announced one"],
        1,
    ),
    "no target reference": (
        endpoint_slice("s", [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}]),
        ["EndpointSlice s: endpoint 10.0.0.9 has no targetRef, so it names no pod; ignored"],
        0,
    ),
    "a target that is no pod": (
        endpoint_slice("s", [endpoint("a") | {"targetRef": {"kind": "Node", "name": "n"}}]),
        ["EndpointSlice s: endpoint 10.0.0.1 refers to 'Node', not to a named Pod; ignored"],
        0,
    ),
    "a pod of another namespace": (
        endpoint_slice("s", [
            endpoint("a") | {"targetRef": {"kind": "Pod", "name": "a", "namespace": "other"}}
        ]),
        ["EndpointSlice s: endpoint 10.0.0.1 refers to a pod of namespace 'other'; ignored"],
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED, ids=str)
def test_a_malformed_slice_gives_one_clear_line_and_keeps_what_is_usable(case: str) -> None:
    raw, lines, usable = MALFORMED[case]
    found = read_slice(raw, NAMESPACE)
    assert list(found.complaints) == lines
    assert len(found.endpoints) == usable


@given(json_values)
def test_nothing_that_is_json_makes_reading_fail(value: object) -> None:
    raw = {"metadata": value, "endpoints": value, "ports": value, "status": value, "spec": value}
    read_slice(raw, NAMESPACE)
    read_slice({"endpoints": [{"targetRef": value, "addresses": ["x"], "conditions": value}]}, "ns")
    read_pod(raw, "agent-host")
    read_pod({"status": {"containerStatuses": [value, {"state": value, "lastState": value}]}}, "c")
    stamp(raw)


def test_a_pod_tells_of_the_run_that_ended_and_of_the_one_before() -> None:
    raw = pod(
        "a",
        state=ended(DAY + "00:10:00Z", DAY + "00:11:00Z", "OOMKilled"),
        last_state=ended(DAY + "00:00:00Z", DAY + "00:09:00Z", "Error"),
    )
    base = unix_s(DAY + "00:00:00Z")
    assert base is not None
    assert read_pod(raw, "agent-host").deaths == (
        Death(base + 600, base + 660, "OOMKilled"),
        Death(base, base + 540, "Error"),
    )


@pytest.mark.parametrize(
    "state",
    [
        ended(DAY + "00:00:00Z", DAY + "00:01:00Z", reason="ContainerStatusUnknown"),
        ended(DAY + "00:00:00Z", DAY + "00:01:00Z", reason=""),
        ended("0001-01-01T00:00:00Z", DAY + "00:01:00Z"),
        {"terminated": {"reason": "Error", "exitCode": 1, "finishedAt": DAY + "00:01:00Z"}},
        {"terminated": {"reason": "Error", "startedAt": DAY + "00:00:00Z", "finishedAt": None}},
        {"running": {"startedAt": DAY + "00:00:00Z"}},
        {"waiting": {"reason": "CrashLoopBackOff"}},
    ],
)
def test_an_end_that_no_kubelet_witnessed_is_no_death(state: dict[str, object]) -> None:
    assert read_pod(pod("a", state=state), "agent-host").deaths == ()


def test_the_end_of_a_sidecar_is_no_death() -> None:
    raw = pod("a")
    sidecar = {"name": "proxy", "state": ended(DAY + "00:00:00Z", DAY + "00:01:00Z")}
    raw["status"]["containerStatuses"].append(sidecar)
    assert read_pod(raw, "agent-host").deaths == ()


def test_the_only_container_of_a_pod_need_not_be_named() -> None:
    raw = pod("a", state=ended(DAY + "00:00:00Z", DAY + "00:01:00Z"))
    assert len(read_pod(raw, "other-name").deaths) == 1


def test_versions_are_numbers_where_the_server_uses_numbers() -> None:
    assert stamp({"metadata": {"resourceVersion": "12"}}).version == 12
    assert stamp({"metadata": {"resourceVersion": "x12"}}).version == 0
    assert stamp({"metadata": {"resourceVersion": "١٢"}}).version == 0
