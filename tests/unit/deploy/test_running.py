"""The file by which commands find the local cluster."""

import os
import subprocess
import sys

import pytest

from deploy import running
from wire.errors import ConfigError


@pytest.fixture
def path(tmp_path):
    return running.path_for("default", {"XDG_RUNTIME_DIR": str(tmp_path)})


def cluster(pid: int) -> running.LocalCluster:
    return running.LocalCluster(
        pid=pid, cluster="default", redis_url="redis://:secret@h", addresses=("127.0.0.1:1",)
    )


def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_what_was_written_is_found_while_its_process_lives(path):
    running.write(path, cluster(os.getpid()))
    assert running.find(path) == cluster(os.getpid())


def test_the_file_of_a_dead_process_does_not_count(path):
    running.write(path, cluster(dead_pid()))
    assert running.find(path) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]"])
def test_a_file_that_is_none_of_ours_does_not_count(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert running.find(path) is None


def test_no_file_means_no_cluster(path):
    assert running.find(path) is None


def test_only_its_user_can_read_it(path):
    running.write(path, cluster(os.getpid()))
    assert path.stat().st_mode & 0o077 == 0


def test_a_folder_that_others_can_write_is_refused(path):
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR"):
        running.write(path, cluster(os.getpid()))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    path = running.path_for("default", {"XDG_RUNTIME_DIR": str(tmp_path / "file")})
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR"):
        running.write(path, cluster(os.getpid()))


def test_only_who_wrote_it_removes_it(path):
    running.write(path, cluster(os.getpid()))
    running.remove(path, os.getpid() + 1)
    assert path.exists()
    running.remove(path, os.getpid())
    assert not path.exists()


def test_each_cluster_has_a_file_of_its_own():
    assert running.path_for("a", {}) != running.path_for("b", {})
    assert running.path_for("a/../b", {}).parent == running.path_for("a", {}).parent
