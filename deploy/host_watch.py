"""The endpoint watch of ``roost host``: from its settings and its system. An adapter."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket

import actors
from deploy.settings import Settings
from deploy.watch.api import load_client
from deploy.watch.config import ApiServer, NoCluster, WatchConfig, find_api, find_namespace
from deploy.watch.keeper import Keeper, buried_by_counter
from deploy.watch.service import run_watch
from deploy.watch.verdicts import Birth
from placement.lease_thread import boottime_s
from placement.records import View
from wire.errors import ConfigError
from wire.loops import Crossing

log = logging.getLogger("roost.watch")

ANY_ADDRESS = ("0.0.0.0", "::")


def find_cluster(settings: Settings) -> ApiServer | NoCluster:
    """The API server to watch, if there is one."""
    return find_api(os.environ, settings.k8s_api)


def prepare(settings: Settings, cluster: ApiServer | NoCluster) -> None:
    """In a cluster, load its client and tell what is missing of who this pod is.

    Call it before there is a lease: the client takes a second or more to load, and nothing else
    runs meanwhile. Raises ConfigError where other pods could not reach this one.
    """
    if isinstance(cluster, NoCluster):
        return
    load_client()
    if not settings.pod_ip and settings.grpc_bind in ANY_ADDRESS:
        log.warning(
            "POD_IP is not set (from status.podIP): other pods are told this machine's own "
            "address, %s", _own_address(),
        )  # fmt: skip
    if not settings.pod_uid:
        log.warning(
            "POD_UID is not set (from metadata.uid): if this pod dies, its actors wait for its "
            "lease to end"
        )


def _own_address() -> str:
    try:
        own = socket.gethostbyname(socket.gethostname())
    except OSError:
        own = ""
    if not own or ipaddress.ip_address(own).is_loopback:
        raise ConfigError(
            f"POD_IP is not set and this machine's own address is {own or 'not known'}, where "
            "no other pod reaches it: set POD_IP from status.podIP"
        )
    return own


async def watch(
    settings: Settings, cluster: ApiServer | NoCluster, system: actors.HostSystem,
    crossing: Crossing,
) -> None:  # fmt: skip
    """Watch for ever, or log that there is no cluster. Never raises."""
    registry, membership = system.registry, system.membership
    assert membership is not None
    keeper = Keeper(
        registry,
        births=births,
        bury=buried_by_counter(registry, lambda: membership.counters),
        clock=boottime_s,
    )
    await run_watch(
        cluster, watch_config(settings), keeper, registry, crossing,
        pod=system.host_id, drain_timeout_s=settings.drain_timeout_s,
    )  # fmt: skip


def watch_config(settings: Settings) -> WatchConfig:
    """What to watch, by the settings."""
    return WatchConfig(
        find_namespace(settings.k8s_namespace),
        service=settings.k8s_service,
        pod_selector=settings.k8s_pod_selector,
        container=settings.k8s_container,
    )


def births(view: View) -> dict[str, Birth]:
    """What each incarnation that runs in a pod has recorded of its start."""
    return {
        m.incarnation: Birth(m.pod_uid, m.started_unix_s)
        for m in view.members
        if m.pod_uid and m.started_unix_s
    }
