"""``roost host``: its life from settings to drain, and one clear line for each way to go wrong."""

import json
import re
import signal
import socket
import time

import pytest
from redis import Redis

from deploy import embedded
from tests.integration.shell import COUNTER, environment, run, started


@pytest.fixture(scope="module")
def redis_url():
    with embedded.serve() as server:
        yield server.url


@pytest.fixture
def env(redis_url, tmp_path, request):
    """A host's environment, in a cluster of the test's own, where it may claim at once."""
    cluster = request.node.name.split("[")[0]
    embedded.settle(redis_url, cluster)
    return environment(
        REDIS_URL=redis_url, ROOST_APP=str(COUNTER), ROOST_CLUSTER=cluster,
        GRPC_PORT="0", GRPC_BIND="127.0.0.1", LEASE_TTL="2", HOSTNAME="host-a",
        XDG_RUNTIME_DIR=str(tmp_path), LOG_FORMAT="json",
    )  # fmt: skip


def ready_address(host) -> str:
    line = host.wait_for("ready at")
    found = re.fullmatch(r"roost host host-a ready at (127\.0\.0\.1:\d+)", line.strip())
    assert found
    return found.group(1)


def one_line(result) -> str:
    """The error of a command that wrote exactly one line and no traceback."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("roost: ")
    return lines[0]


def refused(env, *flags: str) -> str:
    result = run("host", *flags, env=env)
    assert result.returncode == 2
    assert result.stdout == ""
    return one_line(result)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0(env, number):
    with started("host", env=env) as host:
        ready_address(host)
        host.signal(number)
        assert host.ended() == 0
        assert "draining" in host.text
        assert "did not close" not in host.text


def test_state_is_saved_by_the_drain_and_found_by_the_next_host(env):
    for expected in (b"5", b"10"):
        with started("host", env=env) as host:
            address = ready_address(host)
            result = run("ask", "Counter/a", "add", "[5]", "--address", address, env=env)
            assert result.stdout.encode().strip() == expected
            host.signal(signal.SIGTERM)
            assert host.ended() == 0


def test_a_running_handler_finishes_within_the_drain(env):
    with started("host", env=env | {"DRAIN_TIMEOUT": "10"}) as host:
        address = ready_address(host)
        ask = ("ask", "Counter/a", "slow", "[1.5]", "--address", address)
        with started(*ask, env=env) as caller:
            wait_running(address, env)
            host.signal(signal.SIGTERM)
            assert caller.ended() == 0, caller.text
            assert caller.text.strip() == '"done"'
        assert host.ended() == 0


def test_a_handler_that_takes_longer_than_the_drain_is_cut_short(env):
    with started("host", env=env | {"DRAIN_TIMEOUT": "0.5"}) as host:
        address = ready_address(host)
        with started("ask", "Counter/a", "slow", "[60]", "--address", address, env=env) as caller:
            wait_running(address, env)
            began_s = time.monotonic()
            host.signal(signal.SIGTERM)
            assert host.ended() == 0
            assert time.monotonic() - began_s < 10
            assert caller.ended() == 1


def wait_running(address: str, env) -> None:
    """Until the slow handler of Counter/a runs."""
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        result = run("locate", "Counter/a", "--json", "--address", address, env=env)
        if result.returncode == 0 and json.loads(result.stdout)["running"]:
            return
    raise AssertionError("the handler does not run")


def test_a_second_signal_leaves_at_once(env):
    with started("host", env=env | {"DRAIN_TIMEOUT": "60"}) as host:
        address = ready_address(host)
        with started("ask", "Counter/a", "slow", "[60]", "--address", address, env=env):
            wait_running(address, env)
            host.signal(signal.SIGTERM)
            host.wait_for("draining")
            host.signal(signal.SIGTERM)
            assert host.ended(5) == 128 + signal.SIGTERM


def test_an_operator_drains_a_host_by_name(env):
    with started("host", env=env) as host:
        address = ready_address(host)
        assert run("drain", "host-a", "--address", address, env=env).returncode == 0
        assert host.ended() == 0


def test_log_lines_carry_host_and_incarnation(env):
    with started("host", env=env) as host:
        ready_address(host)
        host.signal(signal.SIGTERM)
        assert host.ended() == 0
    lines = [json.loads(line) for line in host.text.splitlines() if line.startswith("{")]
    assert all(line["host"] == "host-a" for line in lines)
    (drained,) = [line for line in lines if line["message"] == "drained"]
    assert re.fullmatch(r"[0-9a-f]{16}", drained["incarnation"])


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_PROCESSES", "abc"),
        ("LEASE_TTL", "0"),
        ("HEARTBEAT_INTERVAL", "-1"),
        ("GRPC_PORT", "port"),
        ("REDIS_URL", "somewhere"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_setting_is_named(env, name, value):
    assert f"roost: {name} is " in refused(env | {name: value})


def test_no_redis_url_says_what_to_set(env):
    assert "set REDIS_URL" in refused(env | {"REDIS_URL": ""})


def test_no_app_says_what_to_set(env):
    assert "set ROOST_APP or --app" in refused(env | {"ROOST_APP": ""})


def test_a_redis_that_is_not_there_is_named_without_its_password(env):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        line = refused(env | {"REDIS_URL": f"redis://me:hunter2@127.0.0.1:{port}/0"})
    assert f"127.0.0.1:{port}" in line
    assert "REDIS_URL" in line
    assert "hunter2" not in line


def test_a_host_that_is_to_wait_for_redis_starts_once_it_is_there(env):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"redis://127.0.0.1:{port}/0"
    with started("host", env=env | {"REDIS_URL": url, "REDIS_WAIT": "30"}) as host:
        assert f"Redis at 127.0.0.1:{port}" in host.wait_for("waiting for it, 30 s at most")
        with embedded.serve(port=port) as server:
            embedded.settle(server.url, env["ROOST_CLUSTER"])
            ready_address(host)
            host.signal(signal.SIGTERM)
            assert host.ended() == 0
    with started("host", env=env | {"REDIS_URL": url, "REDIS_WAIT": "0.2"}) as host:
        assert host.ended() == 2


def test_a_redis_that_may_evict_what_decides_is_refused(env, redis_url):
    with Redis.from_url(redis_url) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            line = refused(env)
        finally:
            redis.config_set("maxmemory-policy", "noeviction")
    assert "allkeys-lru" in line
    assert "volatile-lru or noeviction" in line


def test_a_port_that_is_taken_is_named(env):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(env, "--grpc-port", str(port))
    assert str(port) in line


def test_an_app_that_does_not_import_is_named_with_the_place(env, tmp_path):
    (tmp_path / "broken_app.py").write_text("import no_such_dependency\n")
    line = refused(env, "--app", str(tmp_path / "broken_app.py"))
    assert "broken_app.py:1: ModuleNotFoundError" in line


def test_what_is_wrong_with_the_app_is_told_before_redis_is_asked(env):
    env |= {"REDIS_URL": "redis://127.0.0.1:1/0", "ROOST_APP": "no_such_app"}
    assert "no_such_app" in refused(env)


def test_a_missing_certificate_is_named(env):
    line = refused(env, "--tls-cert", "/no/such.pem", "--tls-key", "/no/such.key")
    assert "/no/such.pem" in line


def test_an_unknown_flag_is_named(env):
    result = run("host", "--no-such-flag", "1", env=env)
    assert result.returncode == 2
    assert "--no-such-flag" in one_line(result)


def test_debug_shows_the_traceback(env):
    result = run("host", "--debug", env=env | {"GRPC_PORT": "x"})
    assert result.returncode == 2
    assert "Traceback" in result.stderr
