"""Tests of one's own actors, in virtual time: with pytest-trio and ``trio_mode = true``.

    pytest docs/examples/test_account.py

A ``MockClock`` that jumps makes leases, backoffs and idle times cost nothing.
"""

from __future__ import annotations

import pytest
import trio
from bank import Account, Transfer

import actors
import actors.testing


async def test_an_account_is_not_overdrawn(autojump_clock: trio.testing.MockClock) -> None:
    async with actors.open_system() as system:
        account = system.ref(Account, "a")
        with pytest.raises(actors.ActorError, match="has only 0"):
            await account.change("t", -1)


async def test_transfers_survive_the_death_of_a_host(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with actors.testing.open_cluster([Account, Transfer], hosts=3) as cluster:
        system = cluster.hosts[0]
        a, b = system.ref(Account, "a"), system.ref(Account, "b")
        await a.change("opening", 10)
        await system.ref(Transfer, "t1").make(a, b, 4)
        lost = cluster.host_of(b)
        assert lost is not None
        await cluster.kill(lost)
        await cluster.wait_settled()  # a lease of virtual time
        system = cluster.hosts[0]
        await system.ref(Transfer, "t1").make(a, b, 4)  # once more: does nothing
        assert await system.ref(Account, "a").change("look", 0) == 6
        assert await system.ref(Account, "b").change("look", 0) == 4
