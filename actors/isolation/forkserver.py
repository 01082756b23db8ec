"""The fork server: a program that imports the app once and forks a child for each actor.

An adapter. One thread, no loop: forked children share its pages. It ends with its host, its
children end with it, and it kills them all when the host's lease has passed: it is idle, so it
can where a child that never yields cannot.
"""

from __future__ import annotations

import gc
import os
import random
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

import msgspec

from actors.isolation import child
from actors.isolation.deadline import SharedDeadline
from actors.isolation.linux import die_with
from actors.isolation.messages import Plan, load_module

MESSAGE_BYTES_MAX = 1 << 16
POLL_MS = 100


def main(control_fd: int, deadline_fd: int) -> None:
    """Serve until the host is gone."""
    control = socket.socket(fileno=control_fd)
    plan = msgspec.msgpack.decode(control.recv(MESSAGE_BYTES_MAX), type=Plan)
    die_with(plan.parent)
    sys.path[:] = plan.path
    for module, file in plan.preload:
        try:
            load_module(module, file)
        except BaseException:
            sys.stderr.write(f"roost: {module!r} is not preloaded:\n{traceback.format_exc()}")
    gc.collect()
    gc.freeze()  # what is loaded stays as it is, so that its pages stay shared
    ForkServer(control, SharedDeadline(deadline_fd)).run()


class ForkServer:
    """Answers each fork with the child's pid and pidfd, and tells of each child's end."""

    def __init__(self, control: socket.socket, deadline: SharedDeadline) -> None:
        self._control = control
        self._deadline = deadline
        self._children: set[int] = set()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        os.set_blocking(self._woken, False)

    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(POLL_MS if self._children else None)}
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if self._children and self._deadline.is_past():
                self._kill_all()
            if self._control.fileno() in ready and not self._serve():
                return

    def _serve(self) -> bool:
        """One request; False when the host is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 16, 1)
        except ConnectionError:
            return False
        if not data or not fds:
            return False
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(fds[0], me)
        os.close(fds[0])
        self._children.add(pid)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(self._control, [b"P%d" % pid], [pidfd])
        os.close(pidfd)
        return True

    def _become_child(self, fd: int, parent: int) -> NoReturn:
        status = 1
        try:
            die_with(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            os.close(self._woken)
            os.close(self._waker)
            random.seed()
            status = child.main(fd, self._deadline)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            try:
                self._control.send(b"X%d %d" % (pid, os.waitstatus_to_exitcode(status)))
            except OSError:
                return

    def _kill_all(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
