"""Actors move between real host processes: a fourth host joins, hosts restart in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

import actors
from tests.integration.cluster import Cluster, count, open_cluster, until
from tests.integration.moves_app import Note, Ordered

APP = "tests.integration.moves_app"
STATE_BYTES = 1024
JOIN_S = 15.0


async def homes(system: actors.System, prefix: str) -> Counter[str]:
    """How many actors each host has, by what the registry says."""
    found: Counter[str] = Counter()
    cursor = ""
    while True:
        page, cursor = await system.registry.list_actors(prefix, 1000, cursor)
        found.update(system.name_of(where.incarnation) for _, where in page)
        if not cursor:
            return found


async def each(keys: list[str], do: Callable[[str], Awaitable[object]], at_once: int = 64) -> None:
    """``do`` for every key, some at a time."""
    limit = trio.CapacityLimiter(at_once)

    async def one(key: str) -> None:
        async with limit:
            await do(key)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(one, key)


def test_a_fourth_host_gets_its_quarter_of_idle_actors_in_time_and_no_ask_fails() -> None:
    total = count(3_000, 20_000)

    async def scenario(system: actors.HostSystem) -> None:
        keys = [f"n{i}" for i in range(total)]
        await each(keys, lambda key: system.ref(Note, key).write(bytes(STATE_BYTES)))
        asks = 0
        stop = trio.Event()

        async def ask_on() -> None:
            nonlocal asks
            while not stop.is_set():
                assert await system.ref(Note, keys[asks * 7 % total]).read() == STATE_BYTES
                asks += 1
                await trio.sleep(0.002)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_on)
            cluster.add_host("host-4")
            await until("the fourth is up", lambda: _is_up(system, "host-4"))
            began_s = trio.current_time()
            last: Counter[str] = Counter()
            while trio.current_time() - began_s < JOIN_S:
                last = await homes(system, "Note/")
                if 0.85 * total / 4 <= last["host-4"] and last["host-4"] == _ideal(system, keys):
                    break
                await trio.sleep(0.1)
            took_s = trio.current_time() - began_s
            await trio.sleep(0.5)
            stop.set()
        print(f"moved {last['host-4']} of {total} in {took_s:.1f} s, {asks} asks meanwhile")
        assert 0.85 * total / 4 <= last["host-4"] <= 1.15 * total / 4, last
        assert took_s < JOIN_S
        assert asks > 50

    with open_cluster(hosts=3, ROOST_APP=APP) as cluster:
        cluster.play(scenario, within_s=120)


def _is_up(system: actors.System, host_id: str) -> bool:
    return any(m.host_id == host_id for m in system.ring.members)


def _ideal(system: actors.System, keys: list[str]) -> int:
    from actors.routing import choose
    from wire.ids import ActorId

    owners = (choose(system.ring, ActorId("Note", key)) for key in keys)
    return sum(getattr(owner, "host_id", "") == "host-4" for owner in owners)


@dataclass
class Sent:
    """What the senders have sent to each actor, and what failed."""

    asks: int = 0
    failures: list[str] = field(default_factory=list)
    next: dict[tuple[str, str], int] = field(default_factory=dict)


def test_a_rolling_restart_under_load_fails_no_call_loses_none_and_keeps_their_order() -> None:
    total, senders = count(100, 500), 10

    async def scenario(system: actors.HostSystem) -> None:
        sent = Sent()
        stop = trio.Event()
        keys = [f"o{i}" for i in range(total)]

        async def send(sender: str, mine: list[str]) -> None:
            while not stop.is_set():
                for key in mine:
                    ref = system.ref(Ordered, key)
                    number = sent.next.get((sender, key), 0)
                    try:
                        if number % 3:
                            await ref.told.tell(sender, number)
                        else:
                            await ref.ask(sender, number)
                            sent.asks += 1
                    except actors.RoostError as exc:
                        sent.failures.append(f"{sender} to {key}: {exc!r}")
                    sent.next[sender, key] = number + 1
                    await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            for i in range(senders):
                nursery.start_soon(send, f"s{i}", keys[i::senders])
            await trio.sleep(1.0)
            for name in ("host-1", "host-2", "host-3", "host-4"):
                await _restart(cluster, system, name)
            await trio.sleep(1.0)
            stop.set()
        assert not sent.failures, sent.failures[:10]
        assert sent.asks > total
        await each(keys, lambda key: _check(system, key, sent), at_once=16)
        print(
            f"{sent.asks} asks over a rolling restart of 4 hosts with {total} actors, none failed"
        )

    with open_cluster(hosts=4, ROOST_APP=APP) as cluster:
        cluster.play(scenario, within_s=150)


async def _restart(cluster: Cluster, system: actors.HostSystem, name: str) -> None:
    host = cluster.hosts[name]
    host.terminate()
    assert await trio.to_thread.run_sync(host.process.wait) == 0, host.log.read_text()[-3000:]
    host.start()
    await until(f"{name} is back", lambda: _is_up(system, name))
    await trio.sleep(1.0)


async def _check(system: actors.HostSystem, key: str, sent: Sent) -> None:
    seen = await system.ref(Ordered, key).report()
    assert seen.out_of_order == [], f"{key}: {seen.out_of_order[:5]}"
    expected = {s: n for (s, k), n in sent.next.items() if k == key}
    assert seen.numbers == expected, key
