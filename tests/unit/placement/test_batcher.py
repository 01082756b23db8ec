"""The batcher: one batch at a time, nobody forgotten, whoever is cancelled."""

from collections.abc import Hashable

import pytest
import trio
import trio.testing

from placement.batcher import Batcher


class Server:
    """Doubles each number, when it is let; notes the batches it was asked for."""

    def __init__(self, size_max: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.at_once = 0
        self.at_once_max = 0
        self.may_answer = trio.Event()
        self.fails: Exception | None = None
        self.batcher: Batcher[int, int] = Batcher(self.run, trio.Event, size_max)

    async def run(self, key: Hashable, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await self.may_answer.wait()
        finally:
            self.at_once -= 1
        if self.fails:
            raise self.fails
        return [2 * n for n in items]


async def test_calls_that_come_while_one_is_under_way_share_the_next() -> None:
    server, answers = Server(), {}

    async def ask(n: int) -> None:
        answers[n] = await server.batcher.submit("me", [n, -n])

    async with trio.open_nursery() as nursery:
        for n in range(1, 6):
            nursery.start_soon(ask, n)
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    assert answers == {n: [2 * n, -2 * n] for n in range(1, 6)}
    assert [len(batch) for batch in server.batches] == [2, 8]
    assert server.at_once_max == 1


async def test_call_alone_does_not_wait_for_company() -> None:
    server = Server()
    server.may_answer.set()
    assert await server.batcher.submit("me", [1]) == [2]


async def test_batch_never_exceeds_its_bound_and_order_is_kept() -> None:
    server = Server(size_max=3)
    async with trio.open_nursery() as nursery:
        for n in range(10):
            nursery.start_soon(server.batcher.submit, "me", [n])
            await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    assert max(map(len, server.batches)) <= 3
    assert [n for batch in server.batches for n in batch] == list(range(10))


async def test_calls_with_other_keys_never_share_a_batch() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        for key, n in (("a", 1), ("a", 2), ("b", 3), ("a", 4)):
            nursery.start_soon(server.batcher.submit, key, [n])
            await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    assert server.batches == [[1], [2], [3], [4]]


async def test_failure_reaches_every_call_of_its_batch_and_the_next_batch_runs() -> None:
    server, failed = Server(), []

    async def ask(n: int) -> None:
        with pytest.raises(ValueError, match="broken"):
            await server.batcher.submit("me", [n])
        failed.append(n)

    server.fails = ValueError("broken")
    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(ask, n)
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    assert sorted(failed) == [0, 1, 2, 3]
    server.fails = None
    assert await server.batcher.submit("me", [7]) == [14]


async def test_cancelling_the_call_that_runs_the_batch_leaves_the_others_served() -> None:
    server, answers = Server(), {}
    leader = trio.CancelScope()

    async def lead() -> None:
        with leader:
            await server.batcher.submit("me", [0])

    async def ask(n: int) -> None:
        answers[n] = await server.batcher.submit("me", [n])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked()
        for n in (1, 2):
            nursery.start_soon(ask, n)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    assert leader.cancelled_caught
    assert answers == {1: [2], 2: [4]}
    assert server.at_once_max == 1


async def test_followers_of_a_cancelled_leader_in_the_same_batch_are_asked_again() -> None:
    server, answers = Server(), {}
    second = trio.CancelScope()

    async def ask(n: int, scope: trio.CancelScope) -> None:
        with scope:
            answers[n] = await server.batcher.submit("me", [n])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, 1, second)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, 2, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
        server.may_answer = trio.Event()
        await trio.testing.wait_all_tasks_blocked()
        assert server.batches[-1] == [1, 2]
        second.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert server.batches[-1] == [2]
        server.may_answer.set()
    assert answers == {0: [0], 2: [4]}


async def test_waiting_call_that_is_cancelled_is_never_sent() -> None:
    server, waiting = Server(), trio.CancelScope()

    async def wait() -> None:
        with waiting:
            await server.batcher.submit("me", [1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.batcher.submit, "me", [0])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        waiting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    assert server.batches == [[0]]


async def test_turn_of_a_call_cancelled_just_then_passes_on() -> None:
    server, answers, waiting = Server(), {}, trio.CancelScope()

    async def ask(n: int, scope: trio.CancelScope) -> None:
        with scope:
            answers[n] = await server.batcher.submit(n, [n])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, 1, waiting)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, 2, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
        waiting.cancel()
    assert answers[2] == [4]


async def test_follower_cancelled_while_its_batch_is_under_way_is_just_gone() -> None:
    """Neither it nor the batch fails, and if the leader goes, too, nobody asks for it again."""
    server, answers = Server(), {}
    scopes = {n: trio.CancelScope() for n in range(4)}

    async def ask(n: int) -> None:
        with scopes[n]:
            answers[n] = await server.batcher.submit("me", [n])

    async with trio.open_nursery() as nursery:
        for n in scopes:
            nursery.start_soon(ask, n)
            await trio.testing.wait_all_tasks_blocked()
        first, server.may_answer = server.may_answer, trio.Event()
        first.set()
        await trio.testing.wait_all_tasks_blocked()
        assert server.batches[-1] == [1, 2, 3]
        scopes[2].cancel()
        await trio.testing.wait_all_tasks_blocked()
        scopes[1].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert server.batches[-1] == [3]
        server.may_answer.set()
    assert answers == {0: [0], 3: [6]}
