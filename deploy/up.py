"""``roost up``: a cluster on this machine, a Redis of its own and N host processes. An adapter."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import trio

from actors.actor import Actor
from actors.kinds import handlers_of
from deploy import children, embedded, leaving, running
from deploy.app import load_app
from deploy.failures import FAILED, CommandFailed
from deploy.host_process import HostProcess
from deploy.settings import Settings, redacted, rows
from deploy.tables import paint, render
from wire.errors import ConfigError

HOSTS_MAX = 64
#: How long hosts may take to serve, on a machine that is busy starting all of them.
START_TIMEOUT_S = 60.0
#: What a host may need beyond its DRAIN_TIMEOUT to save, release and leave.
LEAVE_S = 10.0

#: What differs from a host's own defaults: nobody else calls in, and people watch.
DEFAULTS = {
    "GRPC_BIND": "127.0.0.1",
    "LEASE_TTL": "3",
    "HEARTBEAT_INTERVAL": "3",
    "LOG_FORMAT": "text",
    "LOG_LEVEL": "warning",
}
#: One for all hosts would do for one of them only; and REDIS_URL has the password by now.
NOT_SHARED = ("POD_IP", "POD_UID", "HEALTH_PORT", "METRICS_PORT", "REDIS_PASSWORD")

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start. ``port``: of the first host, the others follow; 0: any free ones."""

    hosts: int
    port: int
    data: Path | None


def run(plan: Plan, settings: Settings, environ: Mapping[str, str]) -> None:
    """Run the cluster until Ctrl-C or SIGTERM, which drain it.

    ``settings``: of ``environ`` with :data:`DEFAULTS`. Raises ConfigError or CommandFailed.
    """
    if not 1 <= plan.hosts <= HOSTS_MAX:
        raise ConfigError(f"--hosts is {plan.hosts}: it must be from 1 to {HOSTS_MAX}")
    if plan.port and plan.port + plan.hosts > 65536:
        raise ConfigError(f"--port is {plan.port}: there are not {plan.hosts} ports from it on")
    if not settings.app:
        raise ConfigError("no app: name the module that defines your actors, --app counter.py")
    if plan.data is not None and settings.redis_url:
        raise ConfigError("--data is for the embedded Redis: unset REDIS_URL, or leave --data out")
    kinds = load_app(settings.app)
    with ExitStack() as stack:
        url = settings.redis_url
        if not url:
            url = stack.enter_context(embedded.serve(plan.data)).url
            embedded.settle(url, settings.cluster)
        cluster = LocalUp(plan, settings, dict(environ) | {"REDIS_URL": url}, kinds)
        trio.run(cluster.run)


class LocalUp:
    """The hosts of one ``roost up``, from their start to their drain."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        environ: Mapping[str, str],
        kinds: Sequence[type[Actor]],
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._environ = host_environ(settings, environ)
        self._kinds = kinds
        self._hosts = [HostProcess(f"host-{n}") for n in range(1, plan.hosts + 1)]
        self._width = len(self._hosts[-1].name)
        self._leaving = False
        self._file = running.path_for(settings.cluster, environ)

    async def run(self) -> None:
        """Start all, serve, drain all. Raises CommandFailed; leaves no process behind."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_signals, signals, nursery)
                try:
                    await self._serve()
                finally:
                    running.remove(self._file, os.getpid())
                    for host in self._hosts:
                        host.kill()
                nursery.cancel_scope.cancel()
        if not self._leaving and any(host.status for host in self._hosts):
            raise CommandFailed("no host is left", FAILED)

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            for n, host in enumerate(self._hosts):
                port = self._plan.port + n if self._plan.port else 0
                host.start(self._environ | {"GRPC_PORT": str(port)})
                nursery.start_soon(host.run, self._shower(n))
            try:
                await self._wait_ready()
            except (CommandFailed, ConfigError):
                await self._leave()
                raise
            if not self._leaving:
                self._announce()
            for host in self._hosts:
                nursery.start_soon(self._report_end, host)

    async def _wait_ready(self) -> None:
        """Until each host serves; the first that ends before it does is raised."""
        try:
            with trio.fail_after(START_TIMEOUT_S):
                for host in self._hosts:
                    await self._ready_or_ended(host)
        except trio.TooSlowError:
            late = [host.name for host in self._hosts if not host.ready.is_set()]
            raise ConfigError(
                f"{', '.join(late)} did not serve within {START_TIMEOUT_S:g} s: see the log above, "
                "or look with LOG_LEVEL=debug"
            ) from None

    async def _ready_or_ended(self, host: HostProcess) -> None:
        async with trio.open_nursery() as nursery:

            async def until_ended() -> None:
                await host.ended.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_ended)
            await host.ready.wait()
            nursery.cancel_scope.cancel()
        if host.status is not None and not host.ready.is_set() and not self._leaving:
            what = host.complaint or f"it {children.describe_exit(host.status)}"
            raise CommandFailed(f"{host.name} did not start: {what}", max(host.status, 1))

    def _announce(self) -> None:
        addresses = tuple(host.address for host in self._hosts)
        url = self._environ["REDIS_URL"]
        running.write(
            self._file,
            running.LocalCluster(
                pid=os.getpid(), cluster=self._settings.cluster, redis_url=url, addresses=addresses
            ),
        )
        table = [[host.name, host.address, str(host.pid)] for host in self._hosts]
        print(render(["host", "address", "pid"], table))
        print(f"\nRedis  {redacted(url)} ({self._redis_note()})")
        print(f"Kinds  {', '.join(cls.__roost_kind__ for cls in self._kinds)}")
        print(f"Call   {example_call(self._kinds)}")
        print("Look   roost hosts; roost ps")
        print("Ctrl-C drains all and leaves.", flush=True)

    def _redis_note(self) -> str:
        if self._settings.redis_url:
            return "yours"
        return f"embedded, kept in {self._plan.data}" if self._plan.data else "embedded, in memory"

    async def _report_end(self, host: HostProcess) -> None:
        await host.ended.wait()
        if self._leaving or host.status is None:
            return
        if host.status == 0:
            _say(f"{host.name} has drained and left")
        else:
            _say(
                f"{host.name} ({host.address}) died: it {children.describe_exit(host.status)}; its "
                f"actors answer on the others after the lease ({self._settings.lease_ttl_s:g} s)"
            )

    async def _watch_signals(self, signals: AsyncIterable[int], nursery: trio.Nursery) -> None:
        async for _ in signals:
            if self._leaving:
                _say("leaving at once")
                for host in self._hosts:
                    host.kill()
                continue
            self._leaving = True
            _say("draining; once more leaves at once")
            nursery.start_soon(self._leave)

    async def _leave(self) -> None:
        """Drain all at the same time, and kill what does not keep to its DRAIN_TIMEOUT."""
        self._leaving = True
        addresses = {host.address for host in self._hosts if host.address}
        await trio.to_thread.run_sync(
            leaving.announce, self._environ["REDIS_URL"], self._settings.cluster, addresses
        )
        for host in self._hosts:
            host.terminate()
        with trio.move_on_after(self._settings.drain_timeout_s + LEAVE_S):
            for host in self._hosts:
                await host.ended.wait()
        for host in self._hosts:
            host.kill()

    def _shower(self, n: int) -> Callable[[str], None]:
        host = self._hosts[n]
        if self._environ.get("LOG_FORMAT") == "json":
            return lambda line: print(line, file=sys.stderr, flush=True)
        prefix = paint(f"{host.name:<{self._width}} |", _COLOURS[n % len(_COLOURS)], sys.stderr)
        return lambda line: print(f"{prefix} {line}", file=sys.stderr, flush=True)


def host_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every host: ours, with the settings as they were read."""
    own = {name: value for name, value in environ.items() if name not in NOT_SHARED}
    for field, row in rows():
        value = getattr(settings, field)
        if value not in (None, "") and row.name not in (*NOT_SHARED, "HOSTNAME", "GRPC_PORT"):
            own[row.name] = str(value)
    return own


def example_call(kinds: Sequence[type[Actor]]) -> str:
    """A command that calls the first handler of the first kind that has one."""
    for cls in kinds:
        for method in handlers_of(cls):
            return f"roost ask {cls.__roost_kind__}/a {method} '{{...}}'"
    return f"roost ask {kinds[0].__roost_kind__}/a METHOD '{{...}}'"


def _say(text: str) -> None:
    print(f"roost: {text}", flush=True)
