"""``roost up`` and the commands that find its cluster by themselves: real hosts, real calls."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.integration.shell import COUNTER, ROOT, environment, lives, run, started, wait_until


def up_environment(folder) -> dict[str, str]:
    return environment(XDG_RUNTIME_DIR=str(folder), DRAIN_TIMEOUT="5")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A local cluster of two hosts, and the environment in which commands find it."""
    env = up_environment(tmp_path_factory.mktemp("up"))
    with started("up", "--hosts", "2", "--port", "0", "--app", str(COUNTER), env=env) as up:
        up.wait_for("Ctrl-C")
        yield up, env
        up.signal(signal.SIGINT)
        assert up.ended() == 0
        assert "roost.moves" not in up.text  # who leaves together hands nothing to each other


@pytest.fixture
def env(cluster):
    return cluster[1]


def output(*args: str, env, stdin: str = "") -> str:
    result = run(*args, env=env, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result.stdout


def failure(*args: str, env, status: int) -> str:
    result = run(*args, env=env)
    assert result.returncode == status, (result.stdout, result.stderr)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def pids(text: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"^host-\d+ +[\d.:]+ +(\d+)$", text, re.MULTILINE)]


def test_up_shows_its_hosts_its_redis_and_how_to_call(cluster):
    text = cluster[0].text
    assert re.search(r"^HOST +ADDRESS +PID$", text, re.MULTILINE)
    assert len(pids(text)) == 2
    assert re.search(r"Redis +redis://127\.0\.0\.1:\d+/0 \(embedded, in memory\)", text)
    assert "roost ask Counter/a add" in text


def test_hosts_are_listed_for_people_and_for_scripts(env):
    assert "host-1" in output("hosts", env=env)
    found = json.loads(output("hosts", "--json", env=env))
    assert [host["host_id"] for host in found] == ["host-1", "host-2"]
    assert {host["state"] for host in found} == {"up"}


@pytest.mark.parametrize(
    ("arguments", "stdin", "total"), [('{"n": 2}', "", 2), ("[3]", "", 5), ("-", '{"n": 4}', 9)]
)
def test_ask_takes_arguments_by_name_by_position_and_from_stdin(env, arguments, stdin, total):
    assert output("ask", "Counter/ask", "add", arguments, env=env, stdin=stdin) == f"{total}\n"


def test_a_result_is_json_whatever_is_in_it(env):
    found = json.loads(output("ask", "Counter/d", "describe", env=env))
    assert found == {"key": "d", "raw": "AP8=", "me": "Counter/d", "none": None}


def test_a_stream_prints_each_item_on_a_line(env):
    assert output("ask", "Counter/s", "count", "[3]", "--stream", env=env) == "0\n1\n2\n"


def test_tell_says_nothing_and_the_message_runs(env):
    assert output("tell", "Counter/t", "add", "[7]", env=env) == ""
    assert output("ask", "Counter/t", "add", "[0]", env=env) == "7\n"


def test_spawn_locate_ps_and_stop_agree(env):
    spawned = json.loads(output("spawn", "Counter/life", "--json", env=env))
    located = json.loads(output("locate", "Counter/life", "--json", env=env))
    assert (spawned["host_id"], spawned["epoch"]) == (located["host_id"], located["epoch"])
    listed = json.loads(output("ps", "Counter", "--limit", "0", "--json", env=env))
    assert "Counter/life" in [actor["actor"] for actor in listed]
    assert json.loads(output("stop", "Counter/life", "--json", env=env)) == {"stopped": True}
    assert json.loads(output("stop", "Counter/life", "--json", env=env)) == {"stopped": False}
    assert "runs nowhere now" in output("locate", "Counter/life", env=env)


def test_spawn_hands_its_arguments_to_on_spawn(env):
    output("spawn", "Counter/spawned", '{"total": 5}', env=env)
    assert output("ask", "Counter/spawned", "add", "[1]", env=env) == "6\n"
    refused = run("spawn", "Counter/spawned", '{"sum": 5}', env=env)
    assert refused.returncode == 1
    assert "Counter.on_spawn: unexpected argument 'sum'" in refused.stderr


def test_asking_a_stream_for_one_result_names_the_flag(env):
    assert "--stream" in run("ask", "Counter/s", "count", "[3]", env=env).stderr


def test_ps_says_so_when_it_shows_only_a_part(env):
    for key in ("p1", "p2"):
        output("spawn", f"Counter/{key}", env=env)
    result = run("ps", "--limit", "1", env=env)
    assert len(result.stdout.splitlines()) == 2
    assert "only the first 1" in result.stderr


def test_the_reader_of_a_pipe_may_leave_early(env):
    command = f"{sys.executable} -m deploy hosts | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], env=env, cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert result.stdout == "0\n"
    assert result.stderr == ""


def test_version_may_be_asked_for_in_either_way(env):
    assert output("--version", env=env) == output("version", env=env)


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("ask", "Counter/a", "fail"), 1, "the actor raised ValueError: on purpose"),
        (("ask", "Counter/a", "add", '{"m": 1}'), 1, "'m'"),
        (("ask", "Counter/a", "add", '{"n": "x"}'), 1, "'n'"),
        (("ask", "Counter/a", "nope"), 1, "'nope'"),
        (("ask", "Nope/a", "add"), 1, "'Nope'"),
        (("ask", "Counter/slow", "slow", "[60]", "--timeout", "0.5"), 1, "--timeout"),
        (("ask", "Counter", "add"), 2, "Kind/key"),
        (("ask", "Counter/", "add"), 2, "key"),
        (("ask", "Counter/a", "add", "{n"), 2, "not JSON"),
        (("ask", "Counter/a", "add", "1"), 2, "[1]"),
        (("ask", "Counter/a", "add", "--timeout", "0"), 2, "--timeout"),
        (("ask", "Counter/a", "add", "--timeout", "x"), 2, "--timeout"),
        (("ps", "--limit", "-1"), 2, "--limit"),
        (("drain", "host-9"), 1, "host-9"),
        (("hosts", "--address", "nowhere"), 2, "'nowhere'"),
        (("hosts", "--address", "127.0.0.1:1"), 1, "127.0.0.1:1"),
        (("hosts", "--cluster", "other"), 2, "'other'"),
        (("hosts", "--redis-url", "x"), 2, "--redis-url"),
        (("hosts", "--redis-url", "redis://127.0.0.1:1/0"), 2, "127.0.0.1:1"),
    ],
)
def test_what_goes_wrong_is_one_line_that_names_it(env, args, status, words):
    assert words in failure(*args, env=env, status=status)


def test_redis_alone_is_enough_to_find_the_hosts(cluster, tmp_path):
    url = re.search(r"redis://[\d.:]+/0", cluster[0].text)
    assert url
    env = environment(XDG_RUNTIME_DIR=str(tmp_path), REDIS_URL=url.group())
    assert len(json.loads(output("hosts", "--json", env=env))) == 2
    assert "knows no host of cluster 'c2'" in failure("ps", "--cluster", "c2", env=env, status=2)


def test_without_a_cluster_every_way_to_name_one_is_named(tmp_path):
    line = failure("ps", env=environment(XDG_RUNTIME_DIR=str(tmp_path)), status=2)
    assert all(way in line for way in ("roost up", "--address", "REDIS_URL"))


# The life of a local cluster -------------------------------------------------------------------


def test_a_host_that_dies_is_reported_and_its_actors_come_back(tmp_path):
    env = up_environment(tmp_path) | {"LEASE_TTL": "1"}
    data = tmp_path / "data"
    command = ("up", "--hosts", "2", "--port", "0", "--app", str(COUNTER), "--data", str(data))
    with started(*command, env=env) as up:
        up.wait_for("Ctrl-C")
        output("ask", "Counter/a", "add", "[1]", env=env)
        home = json.loads(output("locate", "Counter/a", "--json", env=env))["host_id"]
        os.kill(pids(up.text)[int(home[-1]) - 1], signal.SIGKILL)
        assert f"{home} (" in up.wait_for("died: it was killed by SIGKILL")
        # What was sent to the dead host may end as unknown; after the lease all is answered.
        wait_until(lambda: run("ask", "Counter/a", "add", "[1]", env=env).returncode == 0)
        moved = json.loads(output("locate", "Counter/a", "--json", env=env))
        assert moved["host_id"] != home
        up.signal(signal.SIGTERM)
        assert up.ended() == 0
    with started(*command, env=env) as up:
        up.wait_for("Ctrl-C")
        assert int(output("ask", "Counter/a", "add", "[10]", env=env)) >= 11
        up.signal(signal.SIGINT)
        assert up.ended() == 0


def test_a_drained_host_is_reported_and_the_others_go_on(tmp_path):
    env = up_environment(tmp_path)
    with started("up", "--hosts", "2", "--port", "0", "--app", str(COUNTER), env=env) as up:
        up.wait_for("Ctrl-C")
        output("drain", "host-2", env=env)
        up.wait_for("host-2 has drained and left")
        found = json.loads(output("hosts", "--json", env=env))
        assert [host["host_id"] for host in found] == ["host-1"]
        output("drain", "host-1", env=env)
        assert up.ended() == 0


def test_nothing_outlives_a_killed_up(tmp_path):
    env = up_environment(tmp_path)
    with started("up", "--hosts", "2", "--port", "0", "--app", str(COUNTER), env=env) as up:
        up.wait_for("Ctrl-C")
        left = pids(up.text) + children_of(up.process.pid)
        assert len(set(left)) == 3
        up.signal(signal.SIGKILL)
        wait_until(lambda: not any(lives(pid) for pid in left), 5)


def children_of(pid: int) -> list[int]:
    return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def test_up_leaves_no_file_behind(tmp_path):
    env = up_environment(tmp_path)
    with started("up", "--hosts", "1", "--port", "0", "--app", str(COUNTER), env=env) as up:
        up.wait_for("Ctrl-C")
        assert list((tmp_path / "roost").iterdir())
        up.signal(signal.SIGINT)
        assert up.ended() == 0
    assert not list((tmp_path / "roost").iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--hosts", "0"), "--hosts is 0"),
        (("--hosts", "x"), "--hosts"),
        (("--port", "65535", "--hosts", "2"), "--port is 65535"),
        (("--app", "no_such_app"), "no_such_app"),
        (("--app", ""), "--app"),
        (("--redis-url", "redis://127.0.0.1:1/0", "--data", "x"), "--data"),
        (("--redis-url", "redis://127.0.0.1:1/0"), "host-1 did not start: Redis at 127.0.0.1:1"),
    ],
)
def test_an_up_that_cannot_start_says_why_in_one_line(tmp_path, args, words):
    given = ("up", "--port", "0", "--hosts", "1", "--app", str(COUNTER), *args)
    assert words in failure(*given, env=up_environment(tmp_path), status=2)
