"""Child processes that never outlive this one, not even when it is killed. An adapter.

Linux kills a child when the *thread* that made it ends, so children are made on the calling
thread, which must be the main one; Trio's own ``open_process`` uses a passing thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

_PR_SET_PDEATHSIG = 1
# Looked up here: after a fork the loader's lock may be held by a thread that is gone.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def spawn(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own (Ctrl-C reaches this process only); SIGKILL takes
    it when this process ends, where the system can (Linux). Raises OSError if it cannot start."""
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with(os.getpid()),
        **options,
    )


def _die_with(parent: int) -> Callable[[], None]:
    def in_child() -> None:
        if _prctl is None:
            return
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


async def wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child's end; its exit status, negative for the signal that killed it."""
    if child.poll() is None and hasattr(os, "pidfd_open"):
        fd = os.pidfd_open(child.pid)
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)
    elif child.poll() is None:
        await trio.to_thread.run_sync(child.wait, abandon_on_cancel=True)
    return child.wait()


def stop(child: subprocess.Popen[bytes], grace_s: float = 5.0) -> int:
    """SIGTERM, and SIGKILL after ``grace_s``; blocks until it is gone. Its exit status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def describe_exit(status: int) -> str:
    """``was killed by SIGKILL`` or ``exited with 2``."""
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with {status}"
