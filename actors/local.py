"""A purely local system: no Redis, no links, no asyncio; one host that owns every actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from actors.actor import Actor
from actors.config import SystemConfig
from actors.interceptors import Interceptor
from actors.reasons import Reason
from actors.system import System
from placement.memory import MemoryRegistry, MemoryStore
from placement.records import Member
from wire.ports import Peer

SHUTDOWN_TIMEOUT_S = 10.0


@asynccontextmanager
async def open_system(
    kinds: Iterable[type[Actor]] = (),
    *,
    config: SystemConfig | None = None,
    interceptors: Sequence[Interceptor] = (),
    store: MemoryStore | None = None,
) -> AsyncIterator[System]:
    """A local system, for the length of the block, under any ``trio.run``.

    Classes need not be listed: making a ref of one is enough. ``store`` keeps saved states; hand
    the same one to a later system to find them again. At the end every actor is stopped, with
    ``on_deactivate`` called and its state saved.
    """
    registry = MemoryRegistry(store if store is not None else MemoryStore())
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        system = System(
            kinds, registry, nursery, config or SystemConfig(), is_local=True,
            interceptors=interceptors,
        )  # fmt: skip
        me = Member(host_id="local", incarnation="local-" + system.new_token(), address="")
        system.me = Peer(me.host_id, me.incarnation, "")
        system.set_view(await registry.join(me))
        system.serving = True
        nursery.start_soon(system.run)
        try:
            yield system
        except Exception as exc:  # raised again outside of the nursery: plain, in no group
            error = exc
        finally:
            with trio.CancelScope(shield=True):
                await system.stop_all(Reason.SHUTDOWN, SHUTDOWN_TIMEOUT_S)
                system.serving = False
                await registry.leave(me.incarnation)
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error
