"""Which hosts an operator's command talks to, and whether one answers. An adapter.

In this order: ``--address`` or ROOST_ADDRESS; ``--redis-url``; the cluster that ``roost up`` runs
here; REDIS_URL, where the view names the hosts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, cast

import trio

from deploy import running
from deploy.settings import Settings, read
from wire.channels import parse_address
from wire.errors import ConfigError, Unavailable
from wire.loops import open_crossing

#: The settings that matter to a command that is no host.
FIELDS = (
    "redis_url", "redis_password", "cluster", "token", "tls_cert", "tls_key", "tls_ca", "tls_name",
)  # fmt: skip
CONNECT_S = 2.0


def settings_of(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """The settings that matter here, from ``args`` and ``environ``; raises ConfigError."""
    flags = {name: getattr(args, name, None) for name in FIELDS}
    return read(environ, flags, only=FIELDS)


async def find(
    args: argparse.Namespace, environ: Mapping[str, str], settings: Settings
) -> list[str]:
    """Addresses of hosts, one that answers in front.

    Raises ConfigError when nothing says where a cluster is, Unavailable when none answers.
    """
    named = args.address or environ.get("ROOST_ADDRESS", "")
    if named:
        return await _answering(named.split(","), "")
    local = None if args.redis_url else running.find(running.path_for(settings.cluster, environ))
    if local is not None:
        return await _answering(local.addresses, " of the local cluster")
    if settings.redis_url:
        found = await _in_redis(settings)
        return await _answering(found, f" of cluster {settings.cluster!r}")
    raise ConfigError(
        f"no cluster {settings.cluster!r} runs here: start one with `roost up`, or name a host "
        "with --address IP:PORT, or set REDIS_URL"
    )


async def _in_redis(settings: Settings) -> list[str]:
    """The addresses in the cluster's view."""
    from placement.redis_registry import RedisRegistry

    async with open_crossing() as crossing:
        cross = cast(Any, crossing.cross)
        registry = RedisRegistry(settings.redis_url, settings.cluster, cross=cross)
        try:
            view = await registry.view()
        finally:
            await registry.aclose()
    if not view.members:
        raise ConfigError(
            f"Redis at {registry.address} knows no host of cluster {settings.cluster!r}: "
            "start one with `roost host`, or name the cluster with --cluster"
        )
    return [member.address for member in view.members]


async def _answering(addresses: Sequence[str], whose: str) -> list[str]:
    """The same, with the first in front that takes a connection."""
    for n, address in enumerate(addresses):
        host, port = parse_address(address)
        with trio.move_on_after(CONNECT_S):
            try:
                await (await trio.open_tcp_stream(host, port)).aclose()
            except OSError:
                continue
            return [*addresses[n:], *addresses[:n]]
    raise Unavailable(f"no host{whose} answers at {', '.join(addresses)}")
