"""One host of a local cluster as a child process: start, first words, logs, end. An adapter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import trio

from deploy import children

LINE_BYTES_MAX = 64 * 1024
_READY = re.compile(r"roost host \S+ ready at (\S+)")
_COMPLAINT = "roost: "


class HostProcess:
    """A ``roost host`` child. ``address`` is known from ``ready`` on; ``complaint`` is what it
    said of itself if it could not start; ``status`` is its exit status once it has ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.complaint = ""
        self.status: int | None = None
        self.ready = trio.Event()
        self.ended = trio.Event()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def start(self, environ: Mapping[str, str]) -> None:
        """Start it. Call it on the main thread (see deploy.children)."""
        self._child = children.spawn(
            [sys.executable, "-P", "-m", "deploy", "host"],
            env=dict(environ) | {"HOSTNAME": self.name, "PYTHONPATH": _search_path(environ)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def terminate(self) -> None:
        """Ask it to drain."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def kill(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()

    async def run(self, show: Callable[[str], None]) -> None:
        """Read what it says until it ends; ``show`` gets each line of its log and output."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        assert child.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_output, child.stdout.fileno(), show)
            nursery.start_soon(self._read_log, child.stderr.fileno(), show)
        self.status = await children.wait(child)
        self.ended.set()

    async def _read_output(self, fd: int, show: Callable[[str], None]) -> None:
        async for line in lines_of(fd):
            found = None if self.ready.is_set() else _READY.match(line)
            if found:
                self.address = found.group(1)
                self.ready.set()
            else:
                show(line)

    async def _read_log(self, fd: int, show: Callable[[str], None]) -> None:
        async for line in lines_of(fd):
            if line.startswith(_COMPLAINT) and not self.ready.is_set():
                self.complaint = line.removeprefix(_COMPLAINT)
            else:
                show(line)


async def lines_of(fd: int) -> AsyncIterator[str]:
    """Lines of a pipe until its end; one over 64 KiB comes in pieces. ``fd`` stays the caller's."""
    held = b""
    async with trio.lowlevel.FdStream(os.dup(fd)) as stream:
        async for data in stream:
            *whole, held = (held + data).split(b"\n")
            if len(held) > LINE_BYTES_MAX:
                whole, held = [*whole, held], b""
            for line in whole:
                yield line.decode(errors="replace")
    if held:
        yield held.decode(errors="replace")


def _search_path(environ: Mapping[str, str]) -> str:
    """Roost's own folder first, or a folder ``actors`` of the user's would hide it."""
    own = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (own, environ.get("PYTHONPATH", ""))))
