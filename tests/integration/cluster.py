"""A cluster of real host processes for tests: Redis, N times ``roost host``, and a host of the
test's own, from which it calls.

    with open_cluster(hosts=2) as cluster:
        async def scenario(system):                    # the test's own host
            assert await system.ref(Tally, "a").add(1) == 1
        cluster.play(scenario)

What the hosts print goes to files; a failing scenario shows their ends. Nothing outlives the
``with`` block, nor the process of the tests. Counts that an issue names are reduced unless
ROOST_FULL is set (``make test-full``).
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

import actors
from actors.routing import choose
from deploy import children, embedded
from placement.records import Member
from tests.integration.shell import ROOT, environment
from wire.ids import ActorId

FULL = bool(os.environ.get("ROOST_FULL"))
APP = "tests.integration.cluster_app"
LEASE_TTL_S = 3.0
PATIENCE_S = 30.0
LOG_CHARS = 4_000

Scenario = Callable[[actors.HostSystem], Awaitable[None]]


def count(reduced: int, full: int) -> int:
    """How often to repeat: the reduced number, or in a full run the one that the issue names."""
    return full if FULL else reduced


class Bystander(actors.Actor):
    """The only kind of the test's own host, which therefore gets none of the others."""


class Host:
    """One host process. ``config`` are fields of HostConfig that no setting names."""

    def __init__(self, name: str, env: dict[str, str], log: Path, config: dict[str, Any]) -> None:
        self.name = name
        self.log = log
        self._env = env | {"HOSTNAME": name, "TEST_HOST_CONFIG": json.dumps(config)}
        module = "tests.integration.configured_host" if config else "deploy"
        self._command = [sys.executable, "-m", module, "host"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; on the main thread (see deploy.children)."""
        with self.log.open("ab") as log:
            self._process = children.spawn(
                self._command, env=self._env, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        """ip:port at which it said to be ready; "" before that."""
        found = re.findall(rf"roost host {self.name} ready at (\S+)", self.log.read_text())
        return found[-1] if found else ""

    def wait_ready(self, patience_s: float = PATIENCE_S) -> None:
        end_s = time.monotonic() + patience_s
        while not self.address:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()}"
            assert time.monotonic() < end_s, f"{self.name} is not ready:\n{self.log.read_text()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; harmless when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to drain."""
        self.process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Cluster:
    """See the module. ``hosts`` holds all that were started, by name."""

    def __init__(self, redis_url: str, folder: Path, **settings: str) -> None:
        self.redis_url = redis_url
        self.hosts: dict[str, Host] = {}
        self._folder = folder
        self._settings = {
            "REDIS_URL": redis_url, "ROOST_APP": APP, "GRPC_BIND": "127.0.0.1", "GRPC_PORT": "0",
            "LEASE_TTL": f"{LEASE_TTL_S:g}", "HEARTBEAT_INTERVAL": "1", "DRAIN_TIMEOUT": "5",
            "LOG_FORMAT": "text",
        } | settings  # fmt: skip

    def add_host(
        self, name: str = "", config: dict[str, Any] | None = None, **settings: str
    ) -> Host:
        """Start one more host, called ``host-N`` unless named; does not wait for it."""
        name = name or f"host-{len(self.hosts) + 1}"
        env = environment(**(self._settings | settings))
        host = self.hosts[name] = Host(name, env, self._folder / f"{name}.log", config or {})
        host.start()
        return host

    def wait_ready(self) -> None:
        """Until every host serves."""
        for host in self.hosts.values():
            host.wait_ready()

    def living(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.process.poll() is None]

    def logs(self) -> str:
        """The end of what each host has printed."""
        ends = (f"{h.name}:\n{h.log.read_text()[-LOG_CHARS:]}" for h in self.hosts.values())
        return "\n".join(ends)

    def play(self, scenario: Scenario, within_s: float = 60.0, **config: Any) -> None:
        """Run ``scenario(system)`` on a host of this process's own, once all hosts see each
        other; it fails when it takes longer. ``config`` goes to that host's HostConfig."""

        async def main() -> None:
            with trio.fail_after(within_s):
                async with actors.open_host(self._own_config(config), [Bystander]) as system:
                    await until("all hosts are members", lambda: self.is_complete(system))
                    await scenario(system)

        try:
            actors.run(main)
        except BaseException as exc:
            exc.add_note(self.logs())
            raise
        finally:
            gc.collect()  # a run leaves cycles behind, which would count as the next one's memory

    def _own_config(self, changes: dict[str, Any]) -> actors.HostConfig:
        usual = actors.HostConfig(
            redis_url=self.redis_url, host_id="the-test", bind="127.0.0.1", port=0,
            lease_ttl_s=LEASE_TTL_S, heartbeat_interval_s=1.0, drain_timeout_s=5.0,
        )  # fmt: skip
        return replace(usual, **changes)

    def is_complete(self, system: actors.HostSystem) -> bool:
        """Whether ``system`` knows every host that lives to be up."""
        up = {member.host_id for member in system.members.values() if member.state == "up"}
        return up >= {host.name for host in self.living()}


@contextmanager
def open_cluster(hosts: int = 0, **settings: str) -> Iterator[Cluster]:
    """A cluster with its own Redis and so many hosts, killed at the end of the block.

    ``settings`` are those of ``roost host``, by the names of its environment.
    """
    with embedded.serve() as redis, tempfile.TemporaryDirectory() as folder:
        embedded.settle(redis.url, settings.get("ROOST_CLUSTER", "default"))
        cluster = Cluster(redis.url, Path(folder), **settings)
        try:
            for _ in range(hosts):
                cluster.add_host()
            cluster.wait_ready()
            yield cluster
        finally:
            for host in cluster.hosts.values():
                host.kill()


async def until(what: str, condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait for ``condition``, plain or async; AssertionError that says ``what`` did not come."""
    end_s = trio.current_time() + within_s
    while not await _value(condition()):
        assert trio.current_time() < end_s, f"not within {within_s:g} s: {what}"
        await trio.sleep(0.01)


async def _value(found: object) -> object:
    return await found if inspect.isawaitable(found) else found


def home_of(system: actors.System, kind: type[actors.Actor], key: str) -> str:
    """The host where the ring places the actor, as ``system`` sees it."""
    member = choose(system.ring, ActorId(kind.__roost_kind__, key))
    assert isinstance(member, Member), member
    return member.host_id


def keys_at(
    system: actors.System, kind: type[actors.Actor], host_id: str, count: int, prefix: str = "k"
) -> list[str]:
    """So many keys whose actors the ring places on that host."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        key = f"{prefix}{number}"
        number += 1
        if home_of(system, kind, key) == host_id:
            found.append(key)
    return found


def free_port() -> int:
    """A port of loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
