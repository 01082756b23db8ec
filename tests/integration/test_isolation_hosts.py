"""Isolated actors on real hosts: they move with their state, and no orphan outlives its host."""

from __future__ import annotations

import asyncio
import itertools
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

import wire
from deploy import embedded
from tests.integration.shell import environment, lives, started, wait_until
from wire.errors import RoostError

APP = Path(__file__).with_name("isolated_app.py")
ACTORS = 8


@contextmanager
def two_hosts(**settings):
    with ExitStack() as stack:
        redis = stack.enter_context(embedded.serve())
        embedded.settle(redis.url)
        hosts = [
            stack.enter_context(
                started("host", env=environment(
                    REDIS_URL=redis.url, ROOST_APP=str(APP), GRPC_PORT="0", LEASE_TTL="2",
                    GRPC_BIND="127.0.0.1", HOSTNAME=f"host-{n}", LOG_LEVEL="error",
                ) | settings)
            )
            for n in range(2)
        ]  # fmt: skip
        addresses = [host.wait_for("ready at").split()[-1] for host in hosts]
        rounds = itertools.count()  # until the first host knows of the second, it claims all
        wait_until(
            lambda: len(set(ask_all(addresses, "where", of=f"{next(rounds)}-").values())) == 2
        )
        yield hosts, addresses


def ask_all(addresses, method, *args, of=""):
    """{key: answer} of all actors; ``of``: how other ones' keys begin."""

    async def main():
        async with wire.connect(addresses) as client:
            keys = [f"{of}{n}" for n in range(ACTORS)]
            answers = await asyncio.gather(
                *(client.ask("Isolated", key, method, *args) for key in keys)
            )
            return dict(zip(keys, answers, strict=True))

    return asyncio.run(main())


def below(host) -> set[int]:
    return {child.pid for child in psutil.Process(host.process.pid).children(recursive=True)}


def test_a_drain_moves_isolated_actors_with_their_state():
    with two_hosts() as (hosts, addresses):
        ask_all(addresses, "add", 5)
        where = ask_all(addresses, "where")
        assert set(where.values()) == {"host-0", "host-1"}
        assert set(ask_all(addresses, "pid").values()) <= below(hosts[0]) | below(hosts[1])
        left = below(hosts[0])
        hosts[0].signal(signal.SIGTERM)
        assert hosts[0].ended() == 0
        assert not any(lives(pid) for pid in left)
        there = addresses[1:]
        assert set(ask_all(there, "add", 1).values()) == {6}
        assert set(ask_all(there, "where").values()) == {"host-1"}
        moved = ask_all(there, "left")
        assert {key for key, reason in moved.items() if reason == "moved"} == {
            key for key, host in where.items() if host == "host-0"
        }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_no_child_outlives_its_hosts_death_or_its_lease(number):
    with two_hosts() as (hosts, addresses):
        ask_all(addresses, "add", 1)
        children = below(hosts[0])
        assert len(children) > 1
        hosts[0].signal(number)
        actors = children if number == signal.SIGKILL else children - servers(hosts[0])
        wait_until(lambda: not any(lives(pid) for pid in actors))
        there = addresses[1:]
        wait_until(lambda: answers(there))
        assert set(ask_all(there, "where").values()) == {"host-1"}


def servers(host) -> set[int]:
    return {child.pid for child in psutil.Process(host.process.pid).children()}


def answers(addresses) -> bool:
    try:
        ask_all(addresses, "add", 0)
    except RoostError:
        return False
    return True
