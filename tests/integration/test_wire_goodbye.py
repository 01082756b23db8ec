"""A server that closes while calls come: each has its answer, or goes to another host."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial

import pytest
import trio

import wire
from tests.fake_gateway import run_bounded, serving, until
from wire.errors import RoostError

CALLERS = 24
ROUNDS = 6


async def hammer(addresses: list[str], sizes: list[int], outcome: Counter[str]) -> None:
    """Ask without pause, each caller over a connection of its own, until cancelled."""

    async def call(number: int) -> None:
        async with wire.trio_connect(addresses, timeout_s=10) as client:
            for n in itertools.count():
                payload = "x" * sizes[n % len(sizes)]
                try:
                    assert await client.ask("A", f"{number}", "echo", payload) == [payload]
                    outcome["answered"] += 1
                except RoostError as exc:
                    what = f"{type(exc).__name__}: {exc}"
                    outcome[what] += 1

    async with trio.open_nursery() as nursery:
        for number in range(CALLERS):
            nursery.start_soon(call, number)


def reaches(outcome: Counter[str], count: int) -> bool:
    return outcome["answered"] >= count


@pytest.mark.parametrize("sizes", [[10], [200_000, 10]], ids=["small", "large"])
def test_callers_of_a_server_that_closes_go_on_at_the_next_without_a_failure(
    sizes: list[int],
) -> None:
    async def main() -> None:
        outcome: Counter[str] = Counter()
        async with serving() as stays:
            for _ in range(ROUNDS):
                async with serving() as leaves, trio.open_nursery() as nursery:
                    nursery.start_soon(hammer, [leaves.address, stays.address], sizes, outcome)
                    enough = outcome["answered"] + 3 * CALLERS
                    await until(partial(reaches, outcome, enough), 20)
                    await leaves.aio(leaves.server.aclose, 2.0)
                    await trio.sleep(0.1)
                    nursery.cancel_scope.cancel()
        assert outcome.pop("answered") > CALLERS * ROUNDS
        assert outcome == {}

    run_bounded(main)
