"""``roost`` as a shell runs it: real processes, their output read until a condition holds."""

from __future__ import annotations

import io
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from deploy import children, cli

ROOT = Path(__file__).resolve().parents[2]
COUNTER = ROOT / "tests" / "integration" / "counter_app.py"
PATIENCE_S = 30.0

#: Of this process's environment, what could change how a command behaves.
_OURS = (
    "REDIS_", "ROOST_", "GRPC_", "TLS_", "LOG_", "HOSTNAME", "POD_", "LEASE_", "XDG_", "K8S_",
    "KUBERNETES_", "METRICS_", "HEALTH_",
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """An environment in which no setting is set but those given."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return own | {"PYTHONPATH": str(ROOT)} | more


class Result(NamedTuple):
    """What a command printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


def run(*args: str, env: Mapping[str, str], stdin: str = "") -> Result:
    """One command to its end, in this process: starting an interpreter takes longer than most."""
    out, err = io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        stack.enter_context(mock.patch("sys.stdin", io.StringIO(stdin)))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.enter_context(_logging_kept())
        try:
            status = cli.run(args)
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else 1
    return Result(status, out.getvalue(), err.getvalue())


@contextmanager
def _logging_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
        logging.captureWarnings(False)


class Running:
    """A command that goes on; ``text`` is all that it has printed so far, errors included."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.text = ""
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.decode())

    def wait_for(self, words: str, patience_s: float = PATIENCE_S) -> str:
        """The first line, printed or yet to come, that holds ``words``."""
        for line in self.text.splitlines():
            if words in line:
                return line
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                continue
            self.text += line
            if words in line:
                return line
        raise AssertionError(f"no line with {words!r} within {patience_s} s in:\n{self.text}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit status, once it has ended; ``text`` is then complete."""
        status = self.process.wait(patience_s)
        self._reader.join(patience_s)
        while not self._lines.empty():
            self.text += self._lines.get()
        return status


@contextmanager
def started(*args: str, env: Mapping[str, str]) -> Iterator[Running]:
    """A command that runs for the length of the block, and is killed after it."""
    process = children.spawn(
        [sys.executable, "-m", "deploy", *args], env=env, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Running(process)
    finally:
        process.kill()
        process.wait()


def lives(pid: int) -> bool:
    """Whether a process is there and not just a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Until ``condition()`` is true, or AssertionError."""
    end_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {patience_s} s"
        time.sleep(0.02)
