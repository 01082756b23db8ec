"""A purely local system: no Redis, no links, no asyncio; one host that owns every actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from actors.actor import Actor
from actors.config import SystemConfig
from actors.interceptors import Interceptor
from actors.reasons import Reason
from actors.service_nursery import check_trio, open_service_nursery
from actors.system import System, new_incarnation
from placement.memory import MemoryRegistry, MemoryStore
from placement.records import Member, MemberState
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
    ``on_deactivate`` called and its state saved. Raises RuntimeError outside of Trio.
    """
    check_trio("open_system()")
    registry = MemoryRegistry(store if store is not None else MemoryStore())
    async with open_service_nursery() as nursery:
        system = System(
            kinds, registry, nursery, config or SystemConfig(), is_local=True,
            interceptors=interceptors,
        )  # fmt: skip
        me = Member(host_id="local", incarnation=new_incarnation(), address="")
        system.me = Peer(me.host_id, me.incarnation, "")
        system.set_view(await registry.join(me))
        system.serving = True
        nursery.start_soon(system.run)
        try:
            yield system
        finally:
            with trio.CancelScope(shield=True):
                await _close(system)


async def _close(system: System) -> None:
    """Stop every actor; what they send meanwhile starts none anew."""
    registry, me = system.registry, system.me.incarnation
    system.set_view(await registry.set_member(me, state=MemberState.DRAINING))
    await system.stop_all(Reason.SHUTDOWN, SHUTDOWN_TIMEOUT_S)
    system.serving = False
    await registry.leave(me)
    await registry.aclose()
