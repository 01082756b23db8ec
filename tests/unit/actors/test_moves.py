"""Actors that move between hosts, in virtual time."""

from __future__ import annotations

import trio

from actors import Actor, handler
from actors.testing import open_cluster

seen: list[int] = []


class Sink(Actor):
    @handler
    async def put(self, n: int) -> None:
        await trio.sleep(0.01)
        seen.append(n)

    @handler
    async def where(self) -> str:
        return self.system.host_id  # type: ignore[attr-defined, no-any-return]


async def test_local_tells_in_the_mailbox_follow_an_actor_that_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen.clear()
    async with open_cluster(hosts=1, kinds=[Sink]) as cluster:
        first = cluster.hosts[0]
        refs = [first.ref(Sink, f"k{i}") for i in range(20)]
        for ref in refs:
            await ref.where()
        await cluster.add_host()
        told = 0
        with trio.move_on_after(8):
            while True:
                for ref in refs:
                    await ref.put.tell(told)
                    told += 1
                await trio.sleep(0.12)
        await trio.sleep(5)
        assert any([await ref.where() != first.host_id for ref in refs])
        assert sorted(seen) == list(range(told))
