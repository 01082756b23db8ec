"""The host's lease, as its children see it: one number in shared memory (design rule 4)."""

from __future__ import annotations

import math
import mmap
import os
import struct

from placement.lease_thread import boottime_s

SIZE = mmap.PAGESIZE


class SharedDeadline:
    """Until when this host may act, in seconds of CLOCK_BOOTTIME. ``fd`` is what others map."""

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("roost-lease", os.MFD_CLOEXEC)
            os.ftruncate(fd, SIZE)
        self.fd = fd
        self._map = mmap.mmap(fd, SIZE)

    def set(self, at_s: float) -> None:
        """Let all of the host's processes act until ``at_s``; minus infinity: no more."""
        struct.pack_into("d", self._map, 0, at_s)

    def at_s(self) -> float:
        found: float = struct.unpack_from("d", self._map, 0)[0]
        return found

    def is_past(self) -> bool:
        return boottime_s() >= self.at_s()


NEVER = math.inf
