"""``roost host``: one host process, from its settings to its drain. An adapter."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

import actors
from actors import collector
from actors.config import HostConfig, SystemConfig
from deploy import host_watch, logs
from deploy.agent_host import Agents
from deploy.agent_kinds import agent_kinds
from deploy.app import load_app
from deploy.failures import USAGE, CommandFailed
from deploy.settings import Settings
from wire import loops
from wire.agent_host import AgentHostService
from wire.errors import ConfigError, Unavailable
from wire.tls import TlsConfig

if TYPE_CHECKING:
    from deploy.host_metrics import Metrics

log = logging.getLogger("roost.host")

#: How long a drained host may take to close what it no longer needs.
CLOSE_S = 5.0

#: The line on stdout that says a host serves: ``roost host NAME ready at IP:PORT``.
READY = "roost host {host} ready at {address}"


def run(settings: Settings) -> None:
    """Run a host until SIGTERM, SIGINT or an operator drains it.

    Raises ConfigError or CommandFailed when it cannot start.
    """
    fields = logs.HostFields(host_id(settings))
    logs.configure(settings.log_level, settings.log_format, fields)
    own = agent_kinds(settings.agent_isolation, _preload(settings))
    if not settings.app and len(own) == 1:
        raise ConfigError("no app: set ROOST_APP or --app to the module that defines your actors")
    kinds = [*(load_app(settings.app) if settings.app else ()), *own]
    loops.run(serve, settings, host_config(settings), kinds, fields)


def _preload(settings: Settings) -> tuple[str, ...]:
    return tuple(settings.preload.split(",")) if settings.preload else ()


def host_id(settings: Settings) -> str:
    return settings.hostname or socket.gethostname()


def host_config(settings: Settings) -> HostConfig:
    """The settings in the words of ``actors``; raises ConfigError for what is missing."""
    if not settings.redis_url:
        raise ConfigError(
            "no Redis: set REDIS_URL, for example redis://localhost:6379/0, or use `roost up`, "
            "which brings its own"
        )
    return HostConfig(
        redis_url=settings.redis_url,
        cluster=settings.cluster,
        host_id=host_id(settings),
        bind=settings.grpc_bind,
        port=settings.grpc_port,
        advertise=_advertised(settings.pod_ip, settings.grpc_port),
        lease_ttl_s=settings.lease_ttl_s,
        stall_limit_s=settings.stall_limit_s,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        redis_wait_s=settings.redis_wait_s,
        drain_timeout_s=settings.drain_timeout_s,
        weight=settings.weight,
        pod_uid=settings.pod_uid,
        tls=_tls(settings),
        token=settings.token or None,
        health_port=settings.health_port,
        system=SystemConfig(
            ask_timeout_s=settings.ask_timeout_s,
            mailbox_max=settings.mailbox_max,
            payload_bytes_max=settings.payload_bytes_max,
            idle_after_s=settings.idle_after_s,
            capacity=settings.max_actors,
            processes_max=settings.max_processes,
            process_memory_bytes_max=settings.process_memory_max,
            preload=_preload(settings),
        ),
    )


def _advertised(pod_ip: str, port: int) -> str:
    if not pod_ip:
        return ""
    if not port:
        raise ConfigError("POD_IP is set and GRPC_PORT is 0: others cannot know the port; set one")
    is_v6 = ipaddress.ip_address(pod_ip).version == 6
    return f"[{pod_ip}]:{port}" if is_v6 else f"{pod_ip}:{port}"


def _tls(settings: Settings) -> TlsConfig | None:
    if not settings.tls_cert:
        if settings.tls_ca:
            raise ConfigError(
                "TLS_CA is set and TLS_CERT is not: a host needs TLS_CERT and TLS_KEY"
            )
        return None
    return TlsConfig(
        cert=settings.tls_cert, key=settings.tls_key, ca=settings.tls_ca, name=settings.tls_name
    )


async def serve(
    settings: Settings,
    config: HostConfig,
    kinds: Sequence[type[actors.Actor]],
    fields: logs.HostFields,
) -> None:
    """Host ``kinds`` until told to stop, then drain. A second signal ends the process at once."""
    asked, started = trio.Event(), trio.Event()
    cluster = host_watch.find_cluster(settings)
    host_watch.prepare(settings, cluster)
    metrics = await _open_metrics(settings)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_signals, signals, asked)
            nursery.start_soon(_give_up_start, asked, started, nursery.cancel_scope)
            async with (
                loops.open_crossing() as crossing,
                _joined(config, kinds, Agents(settings.agent_isolation), crossing) as system,
                trio.open_nursery() as beside,
            ):
                started.set()
                fields.incarnation = lambda: system.me.incarnation
                beside.start_soon(host_watch.watch, settings, cluster, system, crossing)
                beside.start_soon(collector.run, system)
                if metrics is not None:
                    beside.start_soon(metrics.serve, system)
                print(READY.format(host=system.host_id, address=system.address), flush=True)
                await _until_stopped(system, asked, config.drain_timeout_s)
                trio.lowlevel.spawn_system_task(_leave_anyway)
                beside.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def _open_metrics(settings: Settings) -> Metrics | None:
    """The port for metrics, if there is to be one. Raises ConfigError."""
    if settings.metrics_port is None:
        return None
    try:
        from deploy import host_metrics
    except ImportError as exc:
        raise ConfigError(
            f"METRICS_PORT needs the extra `metrics` ({exc}): run `pip install 'roost[metrics]'`, "
            "or unset METRICS_PORT"
        ) from exc
    return await host_metrics.open_metrics(settings.grpc_bind, settings.metrics_port)


@asynccontextmanager
async def _joined(
    config: HostConfig, kinds: Sequence[type[actors.Actor]], agents: Agents,
    crossing: loops.Crossing,
) -> AsyncIterator[actors.HostSystem]:  # fmt: skip
    """The host, serving. What it needs and does not find at its start is no failed call."""
    started = False
    try:
        services = [AgentHostService(agents, crossing)]
        async with actors.open_host(config, kinds, services=services) as system:
            agents.attach(system)
            started = True
            yield system
    except Unavailable as exc:
        if started:
            raise
        raise CommandFailed(str(exc), USAGE) from exc


async def _leave_anyway() -> None:
    """All is saved and released: a connection that does not close must not keep the process."""
    await trio.sleep(CLOSE_S)
    log.warning("this host did not close within %g s of its drain: leaving anyway", CLOSE_S)
    logging.shutdown()
    os._exit(0)


async def _watch_signals(signals: AsyncIterable[int], asked: trio.Event) -> None:
    async for number in signals:
        name = signal.Signals(number).name
        if asked.is_set():
            log.error("a second signal, %s: leaving at once, without the rest of the drain", name)
            os._exit(128 + number)
        log.info("%s: draining", name)
        asked.set()


async def _give_up_start(asked: trio.Event, started: trio.Event, scope: trio.CancelScope) -> None:
    await asked.wait()
    if not started.is_set():
        scope.cancel()


async def _until_stopped(system: actors.HostSystem, asked: trio.Event, timeout_s: float) -> None:
    async with trio.open_nursery() as nursery:

        async def closed_by_an_operator() -> None:
            await system.wait_closed()
            nursery.cancel_scope.cancel()

        nursery.start_soon(closed_by_an_operator)
        await asked.wait()
        nursery.cancel_scope.cancel()
    if asked.is_set():
        await system.drain(timeout_s)
        log.info("drained")
