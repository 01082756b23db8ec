"""The endpoint watch as a host runs it: watcher, keeper and the crossing between. An adapter."""

from __future__ import annotations

import logging

import trio

from deploy.watch.config import ALONE, ApiServer, NoCluster, WatchConfig
from deploy.watch.keeper import Keeper
from deploy.watch.watcher import Watcher, grace_problem, read_own_pod
from placement.ports import Registry
from wire.loops import Crossing

log = logging.getLogger("roost.watch")


async def run_watch(
    found: ApiServer | NoCluster,
    config: WatchConfig,
    keeper: Keeper,
    registry: Registry,
    crossing: Crossing,
    *,
    pod: str,
    drain_timeout_s: float,
) -> None:
    """Watch for ever, and let ``keeper`` write what is found; at once over when there is no
    cluster, which is logged. ``pod``: this host's own, whose grace period is compared with
    ``drain_timeout_s``. Trouble with the API is logged and never raised; a bug ends the watch and
    not the host, which can do without.
    """
    if isinstance(found, NoCluster):
        log.info(found.reason)
        return
    where = found.url or "the service account's API server"
    log.info("watching service %s in namespace %s at %s", config.service, config.namespace, where)
    watcher = Watcher(config, on_evidence=keeper.put, on_live=keeper.set_live)
    registry.on_change(keeper.view_changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep, keeper)
        nursery.start_soon(_check_grace, found, config, crossing, pod, drain_timeout_s)
        try:
            await crossing.cross(watcher.run, found)
        except ImportError as exc:
            log.error("the endpoint watch needs roost[k8s] (%s): %s", exc, ALONE)
        except Exception:
            log.exception("the endpoint watch has ended: %s", ALONE)


async def _keep(keeper: Keeper) -> None:
    try:
        await keeper.run()
    except Exception:
        log.exception("what the endpoint watch finds is not used any more: %s", ALONE)


async def _check_grace(
    server: ApiServer, config: WatchConfig, crossing: Crossing, pod: str, drain_timeout_s: float
) -> None:
    try:
        own = await crossing.cross(read_own_pod, server, config, pod)
    except Exception as exc:  # of no consequence, and the watch tells of the same trouble
        log.debug("the pod's grace period is not known: %s", exc)
        return
    if problem := grace_problem(own, drain_timeout_s):
        log.warning(problem)
