"""``roost host`` as a pod runs it: the endpoint watch, metrics, health, and what may be wrong."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import urllib.request
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from deploy import embedded
from tests.integration.shell import COUNTER, environment, run, started, wait_until
from tests.k8s.api_double import api_in_thread
from tests.k8s.objects import NAMESPACE, endpoint, endpoint_slice, pod, uid_of

NAME = "agent-host-0"


@pytest.fixture(scope="module")
def redis_url():
    with embedded.serve() as server:
        yield server.url


@pytest.fixture
def env(redis_url, request):
    """A pod's environment but for its API server, in a cluster of the test's own."""
    cluster = request.node.name.split("[")[0]
    embedded.settle(redis_url, cluster)
    return environment(
        REDIS_URL=redis_url, ROOST_APP=str(COUNTER), ROOST_CLUSTER=cluster, GRPC_PORT="0",
        GRPC_BIND="127.0.0.1", LEASE_TTL="12", HOSTNAME=NAME, POD_UID=uid_of(NAME),
        K8S_NAMESPACE=NAMESPACE, LOG_FORMAT="json", DRAIN_TIMEOUT="10",
    )  # fmt: skip


@contextmanager
def cluster_of(*endpoints, grace_s=90):
    """An API with this host's pod and a slice of its service."""
    with api_in_thread() as api:
        api.call(api.put, "pods", pod(NAME, grace_s=grace_s))
        api.call(api.put, "endpointslices", endpoint_slice("s", endpoints or [endpoint(NAME)]))
        yield api


def warnings_of(host) -> list[str]:
    """The messages that the host has logged as warnings or errors."""
    lines = [json.loads(line) for line in host.text.splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] in ("warning", "error")]


def only_warning(env, words: str) -> str:
    """The one line of complaint of a host with ``env``, which has ``words`` in it. The host must
    start all the same, and leave in good order."""
    (line,) = complaints(env, words)
    assert words in line
    return line


def complaints(env, words: str) -> list[str]:
    """What a host with ``env`` complains of until it drains, which is after a line with
    ``words``."""
    with started("host", env=env) as host:
        host.wait_for("ready at")
        host.wait_for(words)
        host.signal(signal.SIGTERM)
        assert host.ended() == 0, host.text
        return warnings_of(host)


def test_without_a_cluster_it_runs_from_heartbeats_alone_and_says_so(env):
    assert complaints(env, "running from Redis heartbeats alone") == []


def test_in_a_cluster_it_says_what_it_watches_and_follows_readiness(env, redis_url):
    with cluster_of() as api, started("host", env=env | {"K8S_API": api.url}) as host:
        address = host.wait_for("ready at").split()[-1]
        host.wait_for(f"watching service agent-host in namespace {NAMESPACE}")
        wait_until(lambda: api.watching == 2)
        api.call(api.put, "pods", pod(NAME, deleting=True))
        host.wait_for("drains: its pod terminates")
        (row,) = json.loads(run("hosts", "--json", "--address", address, env=env).stdout)
        assert row["state"] == "draining"
        host.signal(signal.SIGTERM)
        assert host.ended() == 0
        assert warnings_of(host) == []


# Bad input: the host starts, and says what is wrong in one line -------------------------------


def test_a_wrong_namespace_is_told(env):
    with cluster_of() as api:
        line = only_warning(
            env | {"K8S_API": api.url, "K8S_NAMESPACE": "elsewhere"}, "K8S_NAMESPACE"
        )
    assert "no endpoint of service agent-host in namespace elsewhere" in line


def test_a_wrong_service_is_told(env):
    # kubernetes.io/service-name is what selects slices, whatever their own names
    with cluster_of() as api:
        line = only_warning(env | {"K8S_API": api.url, "K8S_SERVICE": "agent-hots"}, "K8S_SERVICE")
    assert f"no endpoint of service agent-hots in namespace {NAMESPACE}" in line


@pytest.mark.parametrize(
    ("resource", "group"), [("endpointslices", "discovery.k8s.io"), ("pods", "")]
)
def test_a_permission_that_is_missing_is_told_with_the_rule_that_would_give_it(
    env, resource, group
):
    with cluster_of() as api:
        api.forbidden |= {(verb, resource) for verb in ("get", "list", "watch")}
        line = only_warning(env | {"K8S_API": api.url}, "refuses")
    rule = f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["get", "list", "watch"]}}'
    assert rule in line


NO_ADDRESS = endpoint("b") | {"addresses": []}
NO_TARGET = endpoint("c", ip="10.0.0.3")
del NO_TARGET["targetRef"]
V6 = endpoint_slice("six", [endpoint("d", ip="fd00::4")], "IPv6")
TWO_PORTS = endpoint_slice("two", [endpoint("e", ip="10.0.0.5")])
TWO_PORTS["ports"].append({"name": "health", "port": 50052, "protocol": "TCP"})


def test_each_malformed_slice_is_told_in_a_line_and_does_not_disturb(env):
    slices = [endpoint_slice("no-address", [NO_ADDRESS]), endpoint_slice("no-target", [NO_TARGET])]
    with cluster_of() as api:
        for malformed in (*slices, V6, TWO_PORTS):
            api.call(api.put, "endpointslices", malformed)
        lines = sorted(complaints(env | {"K8S_API": api.url}, "EndpointSlice two"))
    starts = [
        "EndpointSlice no-address: an endpoint (b) has no addresses",
        "EndpointSlice no-target: endpoint 10.0.0.3 has no targetRef",
        "EndpointSlice six: IPv6 addresses only",
        "EndpointSlice two: 2 ports (grpc 50051, health 50052)",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_a_drain_that_outlasts_the_pod_s_grace_period_is_told(env):
    with cluster_of(grace_s=10) as api:
        line = only_warning(env | {"K8S_API": api.url}, "terminationGracePeriodSeconds")
    assert "DRAIN_TIMEOUT is 10" in line
    assert "is 10, so a drain would be cut short" in line


def test_a_pod_without_its_uid_is_told_what_that_costs(env):
    with cluster_of() as api:
        line = only_warning(env | {"K8S_API": api.url, "POD_UID": ""}, "POD_UID")
    assert "wait for its lease" in line


# Bad input: it cannot start -------------------------------------------------------------------


def refused(env) -> str:
    result = run("host", env=env)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_PROCESSES", "abc"),
        ("LEASE_TTL", "0"),
        ("LEASE_TTL", "-12"),
        ("HEARTBEAT_INTERVAL", "0"),
        ("HEARTBEAT_INTERVAL", "-20"),
        ("POD_IP", "agent-host-0"),
        ("K8S_API", "kubernetes.default.svc"),
        ("METRICS_PORT", "web"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(env, name, value):
    line = refused(env | {name: value})
    assert line.startswith(f"roost: {name} is '{value}': it must be ")


def test_a_pod_without_its_ip_that_no_other_could_reach_does_not_start(env, monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    line = refused(env | {"K8S_API": "http://127.0.0.1:1", "GRPC_BIND": "0.0.0.0"})
    assert "set POD_IP from status.podIP" in line


def test_a_metrics_port_that_is_taken_is_named(env):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(env | {"METRICS_PORT": str(port)})
    assert line.startswith(f"roost: METRICS_PORT {port} on 127.0.0.1 cannot be used")


def test_metrics_without_their_library_are_a_setting_that_is_wrong(env, monkeypatch):
    for name in ("host_metrics", "metrics", "metrics_server"):
        monkeypatch.delitem(sys.modules, f"deploy.{name}", raising=False)
        monkeypatch.delattr(f"deploy.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    line = refused(env | {"METRICS_PORT": "0"})
    assert "METRICS_PORT needs the extra `metrics`" in line


# Redis with a password ------------------------------------------------------------------------

PASSWORD = "hunter2 /@:%"


@pytest.fixture
def locked_url(redis_url):
    """The server with a password."""
    with Redis.from_url(redis_url) as redis:
        redis.config_set("requirepass", PASSWORD)
        try:
            yield redis_url
        finally:
            redis.execute_command("AUTH", PASSWORD)
            redis.config_set("requirepass", "")


def test_the_password_comes_from_a_variable_of_its_own_for_hosts_and_commands(env, locked_url):
    env |= {"REDIS_PASSWORD": PASSWORD}
    with started("host", env=env) as host:
        host.wait_for("ready at")
        found = run("hosts", "--json", "--redis-url", locked_url, env=env)
        assert found.returncode == 0, found.stderr
        assert [row["host_id"] for row in json.loads(found.stdout)] == [NAME]
        host.signal(signal.SIGTERM)
        assert host.ended() == 0
        assert "hunter2" not in host.text


@pytest.mark.parametrize("given", ["", "guess-9"])
def test_a_password_that_is_wrong_or_missing_is_one_line_that_does_not_show_it(
    env, locked_url, given
):
    line = refused(env | {"REDIS_PASSWORD": given})
    assert "refuses the credentials" in line
    assert "set REDIS_PASSWORD" in line
    assert "guess-9" not in line


# Metrics and health ---------------------------------------------------------------------------


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {
        sample.name + "".join(f" {v}" for v in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_scrape_of_a_host_shows_what_it_did(env):
    with started("host", env=env | {"METRICS_PORT": "0"}) as host:
        line = host.wait_for("metrics at http://127.0.0.1:")
        port = int(re.findall(r"127\.0\.0\.1:(\d+)/metrics", line)[0])
        address = host.wait_for("ready at").split()[-1]
        for n in range(5):
            assert run(
                "ask", f"Counter/{n}", "add", "[1]", "--address", address, env=env
            ).returncode == 0  # fmt: skip
        run("ask", "Counter/0", "fail", "--address", address, env=env)
        shown = scrape(port)
        assert (shown["roost_actors"], shown["roost_activations_total"]) == (5, 5)
        assert shown["roost_ask_latency_seconds_count"] == 6
        assert 0 < shown["roost_ask_latency_seconds_sum"] < 10
        assert shown["roost_errors_total ActorError"] == 1
        assert 0 < shown["roost_lease_margin_seconds"] <= 12
        assert (shown["roost_view_members"], shown["roost_ready"]) == (1, 1)
        assert shown["roost_processes_max"] == 100
        assert 0 <= shown["roost_loop_lag_seconds"] < 10
        assert shown["roost_handoffs_total moved"] == shown["roost_leases_lost_total"] == 0
