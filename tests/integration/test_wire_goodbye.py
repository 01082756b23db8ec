"""A server that closes while calls come: each has its answer, or goes to another host."""

from __future__ import annotations

import asyncio
import itertools
import select
import socket
from collections import Counter
from functools import partial
from typing import Any

import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

import wire
from tests.fake_gateway import run_bounded, serving, until
from wire import hot_messages as hot
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


class AnswersAndLeaves(asyncio.Protocol):
    """Answers the first ``answered`` requests of its ``awaited``, and says goodbye in one write."""

    def __init__(self, answered: int, awaited: int) -> None:
        self._answered, self._awaited = answered, awaited
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._ended: list[int] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._h2.initiate_connection()
        transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        events = self._h2.receive_data(data)
        self._ended += [e.stream_id for e in events if isinstance(e, StreamEnded)]
        if len(self._ended) == self._awaited:
            self._answer()

    def _answer(self) -> None:
        body = hot.AskReply(payload=b"\x91\x01").SerializeToString()
        for stream_id in self._ended[: self._answered]:
            head = [(":status", "200"), ("content-type", "application/grpc+proto")]
            self._h2.send_headers(stream_id, head)
            self._h2.send_data(stream_id, b"\0" + len(body).to_bytes(4, "big") + body)
            self._h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
        self._h2.close_connection(last_stream_id=self._ended[self._answered - 1])
        self._transport.write(self._h2.data_to_send())
        self._transport.close()


def test_an_answer_that_comes_together_with_a_goodbye_is_an_answer() -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: AnswersAndLeaves(1, 1), "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with wire.connect(f"127.0.0.1:{port}") as client:
                for _ in range(20):
                    assert await client.ask("A", "a", "m") == [1]
            server.close()

    asyncio.run(main())


def test_what_a_goodbye_says_was_not_looked_at_is_asked_elsewhere() -> None:
    async def main() -> None:
        async with serving() as it:
            await it.aio(ask_both, it.address)

    async def ask_both(elsewhere: str) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: AnswersAndLeaves(1, 2), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with wire.connect([f"127.0.0.1:{port}", elsewhere], timeout_s=20) as client:
            answers = await asyncio.gather(*(client.ask("A", "a", "echo", n) for n in (7, 8)))
        assert answers == [[1], [8]]
        server.close()

    run_bounded(main)


def test_a_connection_that_was_never_accepted_has_carried_nothing() -> None:
    """It stood in the queue of a listener that closed, and its end looks like that of any other."""

    async def main() -> None:
        async with serving() as it:
            await it.aio(ask, it.address)

    async def ask(elsewhere: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            async with wire.connect([f"127.0.0.1:{port}", elsewhere], timeout_s=20) as client:
                asked = asyncio.create_task(client.ask("A", "a", "echo", 5))
                while not select.select([listener], [], [], 0)[0]:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.05)  # a client that does not wait to be greeted has sent it
                listener.close()
                assert await asked == [5]

    run_bounded(main)
