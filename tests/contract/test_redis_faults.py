"""The Redis registry on servers that die, freeze, fill up, refuse, forget and change sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from placement import (
    Claim,
    Claimed,
    Fenced,
    Held,
    LeaseTerms,
    Load,
    Location,
    MemberState,
    RegistryMisconfigured,
    RegistryUnavailable,
    Renewal,
    StaleGeneration,
    Stored,
)
from placement.lease_thread import LeaseKeeper
from placement.redis_registry import RedisRegistry
from placement.redis_scripts import Script, bucket_of
from tests.contract.servers import Server, wait_until
from tests.contract.tcp_proxy import TcpProxy
from tests.contract.worlds import RedisWorld, in_asyncio, member
from wire.loops import open_crossing, run

ACTOR = "Counter/a"
TIMEOUT_S = 0.5  # where the timeout is what a test is about
PATIENT_S = 10.0

Start = Callable[..., Server]


@pytest.fixture
def start(binary: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of a test's own, each with its own folder and options."""
    started: list[Server] = []

    def make(*options: str) -> Server:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Server(binary, folder, options))
        return started[-1]

    yield make
    for server in started:
        server.kill()


@asynccontextmanager
async def host(url: str, name: str = "a", **options: Any) -> AsyncIterator[RedisRegistry]:
    """A registry whose member ``name`` (incarnation ``name``-1) has joined."""
    registry = registry_at(url, **options)
    try:
        await registry.join(member(name))
        yield registry
    finally:
        await registry.aclose()


def registry_at(url: str, **options: Any) -> RedisRegistry:
    made_with: dict[str, Any] = {"new_event": asyncio.Event, "timeout_s": PATIENT_S} | options
    return RedisRegistry(url, "faults", **made_with)


async def claimed(registry: RedisRegistry, me: str, actor: str = ACTOR) -> int:
    [answer] = await registry.claim(me, [Claim(actor)])
    assert isinstance(answer, Claimed)
    return answer.epoch


async def raises_in_time(kind: type[Exception], call: Awaitable[object]) -> None:
    """The call fails, and no later than the bound that the registry promises."""
    began_s = time.monotonic()
    with pytest.raises(kind):
        await call
    assert time.monotonic() - began_s < 4 * TIMEOUT_S


# Dead and frozen servers


@in_asyncio
async def test_killed_server_makes_every_call_unavailable_within_the_timeout(start: Start) -> None:
    server = start()
    async with host(server.url, timeout_s=TIMEOUT_S) as a:
        epoch = await claimed(a, "a-1")
        server.kill()
        calls: list[Awaitable[object]] = [
            a.claim("a-1", [Claim("Counter/b")]),
            a.renew("a-1", 1),
            a.save("a-1", ACTOR, epoch, 1, b""),
            a.locate([ACTOR]),
            a.view(),
            a.check_policy(),
        ]
        for call in calls:
            await raises_in_time(RegistryUnavailable, call)


@in_asyncio
async def test_frozen_server_hangs_no_call_and_is_used_again_once_it_thaws(start: Start) -> None:
    server = start()
    async with host(server.url, timeout_s=TIMEOUT_S) as a:
        server.freeze()
        began_s = time.monotonic()
        results = await asyncio.gather(
            *(a.locate([f"K/{n}"]) for n in range(40)),
            *(a.claim("a-1", [Claim(f"K/{n}")]) for n in range(3)),
            return_exceptions=True,
        )
        assert {type(result) for result in results} == {RegistryUnavailable}
        assert time.monotonic() - began_s < 8 * TIMEOUT_S
        server.thaw()
        assert await claimed(a, "a-1")


@in_asyncio
async def test_server_restarted_empty_begins_a_generation_and_old_claims_are_void(
    start: Start,
) -> None:
    server = start()
    async with host(server.url) as a, host(server.url, "b") as b:
        before, epoch = await a.view(), await claimed(a, "a-1")
        server.kill()
        server.start()
        await b.view()
        assert await b.join(member("b", incarnation="b-2"))
        assert await claimed(b, "b-2") > epoch
        with pytest.raises(StaleGeneration) as stale:
            await a.save("a-1", ACTOR, epoch, 1, b"late")
        assert stale.value.view.generation > before.generation
        with pytest.raises(Fenced):
            await a.save("a-1", ACTOR, epoch, 1, b"late")
        assert await b.load(ACTOR) is None


@in_asyncio
async def test_server_restarted_with_its_data_keeps_locations_and_states_but_no_members(
    start: Start,
) -> None:
    server = start("--appendonly", "yes", "--appendfsync", "always")
    async with host(server.url) as a:
        before, epoch = await a.view(), await claimed(a, "a-1")
        await a.save("a-1", ACTOR, epoch, 1, b"state")
        server.kill()
        server.start()
        with pytest.raises(StaleGeneration):
            await a.renew("a-1", 1)
        assert await a.locate([ACTOR]) == [Location("a-1", epoch)]
        view = await a.join(member("a", incarnation="a-2"))
        assert view.generation > before.generation
        assert [m.incarnation for m in view.members] == ["a-2"]
        assert await a.claim("a-2", [Claim(ACTOR)]) == [
            Claimed(view_epoch := (await a.locate([ACTOR]))[0].epoch, Stored(epoch, 1, b"state"))  # type: ignore[union-attr]
        ]
        assert view_epoch > epoch


@in_asyncio
async def test_emptied_server_begins_a_generation_without_a_restart(start: Start) -> None:
    server = start()
    async with host(server.url) as a:
        before, epoch = await a.view(), await claimed(a, "a-1")
        with server.admin() as admin:
            admin.flushall()
        after = await a.view()
        assert after.generation > before.generation
        await a.join(member("a", incarnation="a-2"))
        assert await claimed(a, "a-2") > epoch


@in_asyncio
async def test_epochs_stay_above_what_any_host_has_heard_even_if_the_clock_stepped_back(
    start: Start,
) -> None:
    server = start()
    async with host(server.url) as a:
        with server.admin() as admin:
            # As if TIME had been a century ahead when the generation began.
            admin.hset("roost:{faults}:meta", "epoch", "4000000000000000")
        far = await claimed(a, "a-1")
        assert far == 4000000000000001
        with server.admin() as admin:
            admin.flushall()
        await a.view()
        await a.join(member("a", incarnation="a-2"))
        assert await claimed(a, "a-2") > far


@in_asyncio
async def test_epochs_beyond_the_exact_numbers_of_lua_are_still_exact(start: Start) -> None:
    server = start()
    async with host(server.url) as a:
        for top in (2**53, 10**16 - 2, 2**62):
            with server.admin() as admin:
                admin.hset("roost:{faults}:meta", "epoch", str(top))
            epochs = [await claimed(a, "a-1") for _ in range(4)]
            assert epochs == [top + 1, top + 2, top + 3, top + 4]
            assert not await a.save("a-1", ACTOR, epochs[2], 1, b"")
            assert await a.save("a-1", ACTOR, epochs[3], 2**60, b"newer")
            assert not await a.save("a-1", ACTOR, epochs[3], 2**60 - 1, b"older")


# Changing sides


def follow(replica: Server, master: Server) -> None:
    with replica.admin() as admin:
        admin.replicaof("127.0.0.1", master.port)
        wait_until(lambda: admin.info("replication")["master_link_status"] == "up", 20.0)


def promote(replica: Server) -> None:
    with replica.admin() as admin:
        admin.replicaof("NO", "ONE")


FAST_SYNC = ("--repl-diskless-sync-delay", "0")


@in_asyncio
async def test_promoted_replica_begins_a_generation(start: Start) -> None:
    master, replica = start(*FAST_SYNC), start(*FAST_SYNC)
    follow(replica, master)
    async with host(master.url) as a:
        before, epoch = await a.view(), await claimed(a, "a-1")
        with master.admin() as admin:
            assert admin.wait(1, 10_000) == 1
        promote(replica)
        heir = registry_at(replica.url)
        after = await heir.view()
        assert after.generation > before.generation
        assert after.members == ()
        await heir.join(member("b"))
        assert await claimed(heir, "b-1") > epoch
        await heir.aclose()


@in_asyncio
async def test_server_that_followed_another_and_came_back_begins_a_generation(
    start: Start,
) -> None:
    """Its run id is the same as ever, and its data were replaced by older ones that name it."""
    server, lagging = start(*FAST_SYNC), start(*FAST_SYNC)
    follow(lagging, server)
    async with host(server.url) as a:
        before = await a.view()
        with server.admin() as admin:
            assert admin.wait(1, 10_000) == 1
        promote(lagging)
        lost = await claimed(a, "a-1")
        follow(server, lagging)
        promote(server)
        with pytest.raises(StaleGeneration) as stale:
            await a.save("a-1", ACTOR, lost, 1, b"")
        assert stale.value.view.generation > before.generation
        assert await a.locate([ACTOR]) == [None]
        await a.join(member("a", incarnation="a-2"))
        assert await claimed(a, "a-2") > lost


@in_asyncio
async def test_read_only_replica_is_unavailable(start: Start) -> None:
    master, replica = start(*FAST_SYNC), start(*FAST_SYNC)
    async with host(master.url):
        follow(replica, master)
    reader = registry_at(replica.url)
    await raises_in_time(RegistryUnavailable, reader.join(member("b")))
    await reader.aclose()


# Full, misconfigured, forbidden


@in_asyncio
async def test_full_server_still_takes_renewals_and_releases(start: Start) -> None:
    server = start("--maxmemory-policy", "noeviction")
    async with host(server.url) as a, host(server.url, "b") as b:
        epoch, kept = await claimed(a, "a-1"), await claimed(a, "a-1", "Counter/kept")
        await a.save("a-1", "Counter/kept", kept, 1, b"state")
        with server.admin() as admin:
            admin.config_set("maxmemory", "1mb")
        await raises_in_time(RegistryUnavailable, a.claim("a-1", [Claim("Counter/new")]))
        await raises_in_time(RegistryUnavailable, a.save("a-1", ACTOR, epoch, 1, b"x" * 100))
        await raises_in_time(RegistryUnavailable, a.heartbeat("a-1", Load()))
        assert (await a.renew("a-1", 1)).counters == {"a-1": 1, "b-1": 0}
        renewer = a.renewer()
        assert renewer.renew("a-1", 2).counters["a-1"] == 2
        renewer.close()
        await a.set_member("a-1", state=MemberState.DRAINING)
        await a.release("a-1", [(ACTOR, epoch)])
        assert await a.locate([ACTOR]) == [None]
        assert await a.load("Counter/kept") == Stored(kept, 1, b"state")
        assert await a.forget("a-1", "Counter/kept", kept)
        assert await a.bury("b-1", 0)
        assert (await a.leave("a-1")).members == ()
        await b.view()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
@in_asyncio
async def test_policy_that_evicts_authoritative_keys_is_refused_with_the_remedy(
    start: Start, policy: str
) -> None:
    server = start("--maxmemory-policy", policy)
    registry = registry_at(server.url)
    with pytest.raises(RegistryMisconfigured, match=f"{policy}.*set maxmemory-policy.*volatile"):
        await registry.check_policy()
    await registry.aclose()


@pytest.mark.parametrize("policy", ["volatile-lru", "noeviction", "volatile-ttl"])
@in_asyncio
async def test_policy_that_keeps_authoritative_keys_is_accepted(start: Start, policy: str) -> None:
    registry = registry_at(start("--maxmemory-policy", policy).url)
    await registry.check_policy()
    await registry.aclose()


@in_asyncio
async def test_no_key_that_decides_anything_has_a_time_to_live(start: Start) -> None:
    server = start()
    async with host(server.url) as a, host(server.url, "b") as b:
        epoch = await claimed(a, "a-1")
        await a.save("a-1", ACTOR, epoch, 1, b"state")
        await a.heartbeat("a-1", Load())
        await b.leave("b-1")
        with server.admin() as admin:
            mortal = [key for key in admin.scan_iter() if admin.ttl(key) != -1]
            assert mortal == ["roost:{faults}:gone:b-1"]
            assert all(key.startswith("roost:{faults}:") for key in admin.scan_iter())


@in_asyncio
async def test_password_in_the_url_is_used_and_never_shown(start: Start) -> None:
    server = start("--requirepass", "secret:x")
    address = f"127.0.0.1:{server.port}"
    async with host(f"redis://:secret%3Ax@{address}/0") as a:
        await a.check_policy()
        renewer = a.renewer()
        assert renewer.renew("a-1", 1).counters == {"a-1": 1}
        renewer.close()
    for url in (f"redis://:wr0ng@{address}/0", f"redis://{address}/0"):
        registry = registry_at(url)
        with pytest.raises(RegistryMisconfigured, match=address) as refused:
            await registry.view()
        assert "wr0ng" not in str(refused.value)
        await registry.aclose()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:6379", "http://h", "redis://:pa/ss@h:6379", "redis://h:x"]
)
def test_url_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(RegistryMisconfigured, match="must look like redis://") as refused:
        RedisRegistry(url, "faults")
    assert "pa" not in str(refused.value).replace("password", "")


@in_asyncio
async def test_server_that_forgot_the_scripts_is_told_them_again(start: Start) -> None:
    server = start()
    async with host(server.url) as a:
        renewer = a.renewer()
        for counter in (1, 3):
            with server.admin() as admin:
                admin.script_flush()
            assert await claimed(a, "a-1")
            assert renewer.renew("a-1", counter).counters["a-1"] == counter
        renewer.close()


# Requests that arrive twice, or late


class Recorder(RedisRegistry):
    """Remembers each script it ran, exactly as sent, so that it can arrive again."""

    def __init__(self, url: str, timeout_s: float = PATIENT_S) -> None:
        super().__init__(url, "faults", new_event=asyncio.Event, timeout_s=timeout_s)
        self.sent: list[tuple[Script, Sequence[Any], int | None]] = []

    async def _run(
        self, script: Script, args: Sequence[Any], generation: int | None
    ) -> Sequence[Any]:
        self.sent.append((script, args, generation))
        return await super()._run(script, args, generation)

    async def arrive_again(self, name: str) -> None:
        """Every request of that script so far, once more."""
        for script, args, generation in self.sent:
            if script.name == name:
                await super()._run(script, args, generation)


async def everything(registry: RedisRegistry) -> list[Any]:
    locations = await registry.locate([ACTOR, "Counter/b"])
    states = [await registry.load(actor) for actor in (ACTOR, "Counter/b")]
    counters = (await registry.renew("b-1", 0)).counters
    return [await registry.view(), locations, states, counters]


@in_asyncio
async def test_no_request_that_arrives_late_changes_anything(start: Start) -> None:
    server = start()
    a = Recorder(server.url)
    async with host(server.url, "b") as b:
        await a.join(member("a"))
        first = await claimed(a, "a-1")
        await a.save("a-1", ACTOR, first, 1, b"first")
        await a.release("a-1", [(ACTOR, first)])
        second = await claimed(a, "a-1")
        await a.save("a-1", ACTOR, second, 1, b"second")
        await a.save("a-1", ACTOR, second, 2, b"third")
        gone = await claimed(a, "a-1", "Counter/b")
        await a.forget("a-1", "Counter/b", gone)
        last = await claimed(a, "a-1", "Counter/b")
        await a.set_member("a-1", state=MemberState.DRAINING)
        await a.set_member("a-1", ready=False)
        await a.set_member("a-1", state=MemberState.UP, ready=True)
        await a.renew("a-1", 5)
        await a.renew("a-1", 6)
        before = await everything(b)
        assert before[1] == [Location("a-1", second), Location("a-1", last)]
        for name in ("change", "claim", "save", "release", "forget", "renew", "heartbeat"):
            await a.arrive_again(name)
            assert await everything(b) == before, name
        await a.leave("a-1")
        after = await everything(b)
        for name in ("change", "claim", "save", "release", "forget", "renew", "remove"):
            await a.arrive_again(name)
            assert await everything(b) == after, name
    await a.aclose()


@in_asyncio
async def test_late_burial_does_not_touch_a_host_that_has_renewed_since(start: Start) -> None:
    server = start()
    a = Recorder(server.url)
    async with host(server.url, "b") as b:
        await a.join(member("a"))
        await b.renew("b-1", 1)
        assert not await a.bury("b-1", 0)
        await a.arrive_again("remove")
        assert (await b.renew("b-1", 2)).counters == {"a-1": 0, "b-1": 2}
    await a.aclose()


@in_asyncio
async def test_claim_whose_reply_was_lost_is_sent_again_and_tells_the_recorded_epoch(
    start: Start,
) -> None:
    server = start()
    proxy = TcpProxy(server.port)
    await proxy.start()
    async with (
        host(server.url, "b") as b,
        host(f"redis://{proxy.address}/0") as a,
    ):
        await claimed(a, "a-1", "K/warm")  # or the first stalled reply is "no such script"
        for n in range(20):
            proxy.stall("out")
            claim = asyncio.ensure_future(a.claim("a-1", [Claim(f"K/{n}")]))
            while await b.locate([f"K/{n}"]) == [None]:
                await asyncio.sleep(0)
            [once] = await b.locate([f"K/{n}"])
            proxy.cut()
            proxy.heal()
            [answer] = await claim
            assert isinstance(answer, Claimed)
            assert await b.locate([f"K/{n}"]) == [once] == [Location("a-1", answer.epoch)]
    await proxy.close()


@in_asyncio
async def test_claim_that_timed_out_and_is_executed_later_does_not_disturb_the_next(
    start: Start,
) -> None:
    server = start()
    a = Recorder(server.url, timeout_s=TIMEOUT_S)
    async with host(server.url, "b") as b:
        await a.join(member("a"))
        server.freeze()
        with pytest.raises(RegistryUnavailable):
            await a.claim("a-1", [Claim(ACTOR)])
        server.thaw()
        epoch = await claimed(a, "a-1")
        await a.arrive_again("claim")
        assert await b.locate([ACTOR]) == [Location("a-1", epoch)]
        assert await a.save("a-1", ACTOR, epoch, 1, b"mine")
        assert isinstance((await b.claim("b-1", [Claim(ACTOR)]))[0], Held)
    await a.aclose()


# Connections, threads, loops


@in_asyncio
async def test_connections_are_bounded_however_many_calls_run(start: Start) -> None:
    server = start()
    async with host(server.url, connections_max=4) as a:
        await asyncio.gather(*(a.locate([f"K/{n}"]) for n in range(300)))
        with server.admin() as admin:
            assert len(admin.client_list()) <= 4 + 1


@in_asyncio
async def test_cancelled_call_ends_at_whatever_moment_it_is_cancelled(start: Start) -> None:
    """Up to Python 3.11 asyncio.wait_for, with which redis-py writes, swallows some of these."""
    server = start()
    async with host(server.url) as a:

        async def locate_forever() -> None:
            while True:
                await a.locate([ACTOR])

        for n in range(200):
            task = asyncio.ensure_future(locate_forever())
            for _ in range(20 + n):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=5.0)
            assert task in done


@in_asyncio
async def test_listener_subscribes_again_after_the_server_was_away(start: Start) -> None:
    server = start()
    async with host(server.url) as a:
        told: list[tuple[int, int]] = []
        a.on_change(lambda generation, version: told.append((generation, version)))
        listening = asyncio.ensure_future(a.listen())
        server.kill()
        server.start()
        view = await a.join(member("a", incarnation="a-2"))
        weight, deadline_s = 1.0, time.monotonic() + 20.0
        while not told:
            assert time.monotonic() < deadline_s
            weight = 3.0 - weight
            view = await a.set_member("a-2", weight=weight)
            await asyncio.sleep(0.01)
        assert told[0][0] == view.generation
        listening.cancel()


@in_asyncio
async def test_renewer_and_registry_speak_for_the_same_generation(start: Start) -> None:
    server = start()
    async with host(server.url) as a:
        renewer = a.renewer()
        assert renewer.renew("a-1", 1) == await a.renew("a-1", 1)
        server.kill()
        with pytest.raises(RegistryUnavailable):
            renewer.renew("a-1", 2)
        server.start()
        with pytest.raises(StaleGeneration):
            renewer.renew("a-1", 3)
        assert await a.locate([ACTOR]) == [None]
        with pytest.raises(Fenced):
            renewer.renew("a-1", 4)
        renewer.close()


def keeper_for(
    registry: RedisRegistry, me: str, heard: list[Renewal]
) -> tuple[LeaseKeeper, list[Fenced]]:
    renewer, fenced = registry.renewer(), list[Fenced]()
    keeper = LeaseKeeper(
        LeaseTerms.of(0.8),
        lambda counter: renewer.renew(me, counter),
        on_renewal=lambda renewal, _: heard.append(renewal),
        on_fenced=fenced.append,
        activations_remain=lambda: False,
    )
    return keeper, fenced


@in_asyncio
async def test_frozen_server_costs_the_lease_at_its_deadline_and_not_later(start: Start) -> None:
    server = start()
    async with host(server.url, timeout_s=TIMEOUT_S) as a:
        heard: list[Renewal] = []
        keeper, fenced = keeper_for(a, "a-1", heard)
        keeper.start()
        deadline_s = time.monotonic() + 20.0
        frozen = False
        while not fenced:
            assert time.monotonic() < deadline_s
            if len(heard) >= 3 and not frozen:
                server.freeze()
                frozen = True
            keeper.tick()
            await asyncio.sleep(0.01)
        assert frozen
        assert not keeper.is_held()
        server.thaw()
        assert keeper.wait_stopped(10.0)
        assert max(renewal.counters["a-1"] for renewal in heard) >= 3


def test_trio_tasks_that_claim_at_once_share_scripts_through_the_crossing(start: Start) -> None:
    server = start()

    async def main() -> None:
        async with open_crossing() as crossing:
            a = RedisRegistry(server.url, "faults", cross=crossing.cross, new_event=trio.Event)
            await a.join(member("a"))
            epochs: dict[str, int] = {}

            async def claim(actor: str) -> None:
                epochs[actor] = await claimed(a, "a-1", actor)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.listen)
                async with trio.open_nursery() as claimers:
                    for n in range(500):
                        claimers.start_soon(claim, f"K/{n}")
                nursery.cancel_scope.cancel()
            assert len(epochs) == 500
            assert len(set(epochs.values())) < 20
            assert await a.locate([*epochs]) == [Location("a-1", e) for e in epochs.values()]
            await a.aclose()

    run(main)


@in_asyncio
async def test_locations_of_a_million_actors_would_be_stored_compactly(start: Start) -> None:
    server = start()
    async with host(server.url) as a:
        names = [f"Document/{n:036d}" for n in range(400_000)]
        crowded = [name for name in names if bucket_of(name) < 65_536 // 8]
        with server.admin() as admin:
            before = admin.info("memory")["used_memory"]
            await a.claim("a-1", [Claim(name) for name in crowded])
            bytes_per_actor = (admin.info("memory")["used_memory"] - before) / len(crowded)
            key = f"roost:{{faults}}:l:{bucket_of(crowded[0])}"
            assert admin.object("encoding", key) == "listpack"
        assert bytes_per_actor < 256 * 2**20 / 1_000_000 / 2


def test_world_of_the_contract_really_uses_its_server(redis_world: RedisWorld) -> None:
    assert asyncio.run(redis_world.registry().view()).members == ()
