"""Telling a cluster that several of its hosts are about to leave together. An adapter."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container

from placement.ports import RegistryError
from placement.records import MemberState

log = logging.getLogger("roost.up")

PATIENCE_S = 1.0


def announce(redis_url: str, cluster: str, addresses: Container[str]) -> None:
    """Let the view say of the hosts at ``addresses`` that they drain, before they do.

    Hosts that leave together would otherwise hand their actors to each other, and again. Blocks,
    for about PATIENCE_S at most: without Redis they drain all the same. Not for use inside a
    running loop.
    """
    try:
        asyncio.run(asyncio.wait_for(_announce(redis_url, cluster, addresses), PATIENCE_S))
    except (RegistryError, TimeoutError) as exc:
        log.info("the hosts leave unannounced: %s", exc or "Redis does not answer")


async def _announce(redis_url: str, cluster: str, addresses: Container[str]) -> None:
    from placement.redis_registry import RedisRegistry

    registry = RedisRegistry(redis_url, cluster, timeout_s=PATIENCE_S / 2)
    try:
        for member in (await registry.view()).members:
            if member.address in addresses:
                await registry.set_member(member.incarnation, state=MemberState.DRAINING)
    finally:
        await registry.aclose()
