"""Real host processes for benchmarks: an embedded server, N times ``roost host``, and a member
host of this process's own, from which the calls are made. Nothing outlives the block."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

import actors
from deploy import children, embedded

APP = "bench.app"
LEASE_TTL_S = 6.0
START_S = 60.0
READY = re.compile(r"^roost host \S+ ready at (\S+)$", re.MULTILINE)


class Hosts:
    """The host processes of one benchmark."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis_url = redis_url
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, **settings: str) -> None:
        """Start one more host; it joins a moment later."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("ROOST_")} | {
            "REDIS_URL": self.redis_url, "ROOST_APP": APP, "GRPC_BIND": "127.0.0.1",
            "GRPC_PORT": "0", "HOSTNAME": name, "LEASE_TTL": f"{LEASE_TTL_S:g}",
            "LOG_LEVEL": "WARNING",
        } | settings  # fmt: skip
        log = (self._folder / f"{name}.log").open("ab")
        command = [sys.executable, "-m", "deploy", "host"]
        self.processes[name] = children.spawn(command, env=env, stdout=log, stderr=log)

    def wait_address(self, name: str) -> str:
        """Where that host listens, once it does. Blocks."""
        log = self._folder / f"{name}.log"
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            if found := re.search(
                r"^roost host \S+ ready at (\S+)$", log.read_text(), re.MULTILINE
            ):
                return found[1]
            time.sleep(0.02)
        raise RuntimeError(f"{name} did not come up:\n{self.logs()}")

    async def stop(self, name: str) -> None:
        """Drain one host and wait for its end."""
        process = self.processes.pop(name)
        process.terminate()
        await trio.to_thread.run_sync(process.wait)

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def logs(self) -> str:
        """The end of what the hosts printed."""
        return "\n".join(p.read_text()[-2000:] for p in sorted(self._folder.glob("*.log")))


@contextmanager
def hosts(count: int, redis_url: str = "") -> Iterator[Hosts]:
    """``count`` hosts over a Redis: the embedded server, unless a URL is given."""
    with tempfile.TemporaryDirectory() as folder, embedded.serve() as redis:
        if not redis_url:
            _settle(redis.url)
        running = Hosts(redis_url or redis.url, Path(folder))
        try:
            for number in range(count):
                running.start(f"bench-{number + 1}")
            yield running
        finally:
            running.kill()


def _settle(url: str) -> None:
    """Let hosts claim at once at a server of our own that has just started."""
    with ThreadPoolExecutor(1) as thread:  # the caller's has a loop that runs
        thread.submit(embedded.settle, url).result()


@asynccontextmanager
async def member(running: Hosts, up: int, **config: object) -> AsyncIterator[actors.HostSystem]:
    """This process as a member host, once ``up`` others are there too; it owns no actors."""
    own = actors.HostConfig(
        redis_url=running.redis_url, host_id="bench-caller", bind="127.0.0.1", port=0,
        lease_ttl_s=LEASE_TTL_S, drain_timeout_s=5.0, **config,  # type: ignore[arg-type]
    )  # fmt: skip
    async with actors.open_host(own, []) as system:
        await wait_up(system, up, running)
        yield system


async def wait_up(system: actors.HostSystem, count: int, running: Hosts) -> None:
    """Until ``count`` hosts besides this process own actors."""
    with trio.move_on_after(START_S):
        while sum(m.host_id != "bench-caller" for m in system.ring.members) != count:
            await trio.sleep(0.02)
        return
    raise RuntimeError(f"{count} hosts did not come up:\n{running.logs()}")
