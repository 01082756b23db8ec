"""What the kernel does for us: no orphans, and a bound on memory. An adapter."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Looked up here: after a fork the loader's lock may be held by a thread that is gone.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

HAS_PROCESSES = sys.platform == "linux" and hasattr(os, "pidfd_open")


def die_with(parent: int) -> None:
    """Be killed when ``parent``, which must be ours, ends; at once if it has ended."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def bound_memory(bytes_max: int) -> None:
    """From now on this process may map ``bytes_max`` more; beyond that, MemoryError."""
    with open("/proc/self/statm") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    limit = mapped + bytes_max
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
