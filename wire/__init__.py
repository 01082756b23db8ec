"""Bytes between processes: the one layer that knows asyncio, gRPC and uvloop.

From the bottom up:

- words: ``ids`` (ActorId), ``errors`` (every error a call can end in), ``items`` (what travels on
  a link), ``ports`` (what hosts, links and servers need of each other), ``bounds``
- two loops on one thread: ``loops`` (run, Crossing), ``guest`` (Trio as guest)
- links from host to host: ``session`` and ``link_core`` decide, ``links_grpc`` and
  ``links_memory`` carry
- the server: ``server`` puts ``gateway_service``, ``health``, ``reflection`` and the links' service
  on one port; ``front`` guards them, ``status`` turns errors into gRPC statuses, ``tls``
- clients outside the cluster: ``client`` (asyncio), ``trio_client``
- ``proto`` holds the .proto files, ``_generated`` what they compile to

Importing ``wire`` imports none of it: each name here is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wire.client import Client as Client
    from wire.client import Stream as Stream
    from wire.client import connect as connect
    from wire.client_codec import ActorRef as ActorRef
    from wire.tls import TlsConfig as TlsConfig
    from wire.trio_client import TrioClient as TrioClient
    from wire.trio_client import TrioStream as TrioStream
    from wire.trio_client import trio_connect as trio_connect

_HOME = {
    "ActorRef": "wire.client_codec",
    "Client": "wire.client",
    "Stream": "wire.client",
    "TlsConfig": "wire.tls",
    "TrioClient": "wire.trio_client",
    "TrioStream": "wire.trio_client",
    "connect": "wire.client",
    "trio_connect": "wire.trio_client",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'wire' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
