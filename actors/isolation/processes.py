"""This host's child processes: its fork server, started when first needed. An adapter."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from actors.isolation import linux
from actors.isolation.deadline import NEVER, SharedDeadline
from actors.isolation.messages import BOOT, Plan, path_of
from actors.isolation.pipe import Pipe
from wire.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from actors.system import System

log = logging.getLogger("roost.processes")

TICK_S = 0.1
STATUS_S = 0.5
#: Between SIGTERM and SIGKILL (seconds).
TERM_S = 1.0
FORK_S = 60.0


class ChildProcess:
    """One child. ``exited`` is set once nothing of it runs."""

    def __init__(self, pid: int, pidfd: int, end: socket.socket) -> None:
        self.pid = pid
        self.pipe = Pipe(end)
        self.exited = trio.Event()
        self.status: int | None = None
        self.told = trio.Event()  # the fork server has told the status
        self._pidfd = pidfd

    async def wait_exit(self) -> None:
        """Wait for its end; only one task may."""
        await trio.lowlevel.wait_readable(self._pidfd)
        with trio.move_on_after(STATUS_S):
            await self.told.wait()
        self.exited.set()

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if not self.exited.is_set():
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    async def end(self) -> None:
        """SIGTERM, SIGKILL a little later; returns when it is gone."""
        with trio.CancelScope(shield=True):
            self.signal(signal.SIGTERM)
            with trio.move_on_after(TERM_S):
                await self.exited.wait()
            self.signal(signal.SIGKILL)
            await self.exited.wait()

    def close(self) -> None:
        self.pipe.close()
        os.close(self._pidfd)

    def describe_end(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return f"process {self.pid} is gone"
        if self.status < 0:
            return f"process {self.pid} was killed by {signal.Signals(-self.status).name}"
        return f"process {self.pid} exited with {self.status}"


class Processes:
    """Forks children for a system's actors, and keeps the lease's deadline before their eyes."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._server: _Server | None = None
        self._deadline: SharedDeadline | None = None
        self._children: dict[int, ChildProcess] = {}
        self._forking = trio.Lock()

    def check(self) -> None:
        """Raises ConfigError when kinds want processes and cannot have them."""
        kinds = [k for k in self._system.kinds.all_hosted() if k.options.isolation == "process"]
        if kinds and not linux.HAS_PROCESSES:
            raise ConfigError(f'{kinds[0].name} has isolation="process", which needs Linux')
        for kind in kinds:
            path_of(kind.cls)
        if kinds:
            self._start()

    def _start(self) -> _Server:
        """The server that runs, or a new one. It is a child of the calling thread."""
        if self._server is None or self._server.is_gone:
            if self._deadline is None:
                self._deadline = SharedDeadline()
                self._system.nursery.start_soon(self._keep_deadline)
            self._set_deadline()
            self._server = _Server(self._deadline.fd, self._preload())
            self._system.nursery.start_soon(self._server.read, self._ended)
        return self._server

    def _preload(self) -> list[tuple[str, str]]:
        listed = [(name, "") for name in self._system.config.preload]
        for kind in self._system.kinds.all_hosted():
            if kind.options.isolation == "process":
                path = path_of(kind.cls)
                listed.append((path.module, path.file))
        return list(dict.fromkeys(listed))

    def _set_deadline(self) -> None:
        membership = self._system.membership
        keeper = membership.keeper if membership is not None else None
        if self._deadline is not None:
            self._deadline.set(keeper.deadline_s if keeper is not None else NEVER)

    async def _keep_deadline(self) -> None:
        while True:
            self._set_deadline()
            await trio.sleep(TICK_S)

    async def fork(self) -> ChildProcess:
        """A new child. Raises Unavailable when there cannot be one."""
        async with self._forking:
            for _ in range(2):  # a server that died under us is started anew
                self._set_deadline()
                server = self._start()
                with trio.move_on_after(FORK_S):
                    child = await server.fork()
                    if child is not None:
                        self._children[child.pid] = child
                        return child
            raise Unavailable("no child process can be forked: see this host's stderr")

    def _ended(self, pid: int, status: int) -> None:
        child = self._children.pop(pid, None)
        if child is not None:
            child.status = status
            child.told.set()

    def forget(self, child: ChildProcess) -> None:
        """It has ended."""
        self._children.pop(child.pid, None)
        child.close()


class _Server:
    """The fork server as seen from here."""

    def __init__(self, deadline_fd: int, preload: list[tuple[str, str]]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT,
             str(theirs.fileno()), str(deadline_fd)],
            pass_fds=(theirs.fileno(), deadline_fd), stdin=subprocess.DEVNULL, stdout=2,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        plan = Plan(os.getpid(), [p or os.getcwd() for p in sys.path], preload)
        ours.send(msgspec.msgpack.encode(plan))
        ours.setblocking(False)
        self._control = ours
        self._forked: deque[_Fork] = deque()
        self.is_gone = False

    async def fork(self) -> ChildProcess | None:
        """None: the server has died."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        waiting = _Fork()
        try:
            socket.send_fds(self._control, [b"F"], [theirs.fileno()])
            self._forked.append(waiting)
            await waiting.done.wait()
        except OSError:
            self.is_gone = True
        finally:
            theirs.close()
            if waiting.pid == 0:
                waiting.is_abandoned = True
                ours.close()
        return ChildProcess(waiting.pid, waiting.pidfd, ours) if waiting.pid else None

    async def read(self, ended: Callable[[int, int], None]) -> None:
        """Hear of children until the server is gone, or for ever."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._control)
                try:
                    data, fds, _, _ = socket.recv_fds(self._control, 64, 1)
                except BlockingIOError:
                    continue
                if not data:
                    return
                self._on(data, fds, ended)
        except OSError:
            return
        finally:
            self.is_gone = True
            for waiting in self._forked:
                waiting.done.set()
            self._control.close()
            self.process.kill()
            self.process.wait()

    def _on(self, data: bytes, fds: list[int], ended: Callable[[int, int], None]) -> None:
        if data[:1] == b"X":
            pid, status = data[1:].split()
            ended(int(pid), int(status))
            return
        waiting = self._forked.popleft()
        if waiting.is_abandoned:  # its end of the pipe is closed: the child ends by itself
            os.close(fds[0])
            return
        waiting.pid, waiting.pidfd = int(data[1:]), fds[0]
        waiting.done.set()


class _Fork:
    """One fork that is waited for."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.pid = 0
        self.pidfd = -1
        self.is_abandoned = False
