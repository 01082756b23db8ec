"""What only Redis can do to specs, reminders and assertions: requests that arrive late or twice, a
full server, marks that expire, and real restarts with older data."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from placement import Claim, Claimed, Location, RegistryUnavailable
from placement.redis_registry import RedisRegistry
from placement.redis_scripts import Script
from tests.contract.servers import Server
from tests.contract.worlds import RedisWorld, in_asyncio, member

ACTOR = "Agent/a"
ALL = [(0, 2**64 - 1)]


@pytest.fixture
def world(redis_world: RedisWorld) -> RedisWorld:
    return redis_world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def server(binary: Path, folder: Path) -> Iterator[Server]:
    """A server of the test's own, whose data is saved when it is asked to, in ``folder``."""
    server = Server(binary, folder, ["--maxmemory-policy", "noeviction"])
    yield server
    server.kill()


class Recorder(RedisRegistry):
    """Remembers each script exactly as it was sent, so that it can arrive again."""

    def __init__(self, url: str, cluster: str, **options: Any) -> None:
        super().__init__(url, cluster, **options)
        self.sent: list[tuple[Script, Sequence[Any]]] = []

    async def _run(
        self, script: Script, args: Sequence[Any], generation: int | None
    ) -> Sequence[Any]:
        heard = self._heard
        spoken_for = heard.generation if generation is None else generation
        self.sent.append((script, (1, self._meta, spoken_for, heard.epoch, *args)))
        return await super()._run(script, args, generation)

    def arrive_again(self, name: str = "") -> None:
        """Every request so far, or every one of that script, once more, in the order sent."""
        with redis.Redis.from_url(self._url) as late:
            for script, sent in self.sent:
                if name in ("", script.name):
                    late.execute_command("EVAL", script.text, *sent)


async def joined(world: RedisWorld) -> tuple[Recorder, str]:
    registry = world.registry_of(Recorder)
    await registry.join(member("a"))
    return registry, "a-1"


async def claimed(registry: RedisRegistry, me: str, actor: str = ACTOR) -> int:
    [answer] = await registry.claim(me, [Claim(actor)])
    assert isinstance(answer, Claimed)
    return answer.epoch


# Late and repeated requests


@in_asyncio
async def test_claim_that_arrives_twice_brings_no_old_epoch_back(world: RedisWorld) -> None:
    a, me = await joined(world)
    b = world.registry_of(RedisRegistry)
    await b.join(member("b"))
    epoch = await claimed(a, me)
    await a.release(me, [(ACTOR, epoch)])
    newer = await claimed(b, "b-1")
    await b.release("b-1", [(ACTOR, newer)])
    a.arrive_again("claim")
    assert await a.locate([ACTOR]) == [None]
    assert await a.save(me, ACTOR, epoch, 1, b"old") is False


@in_asyncio
async def test_late_assertion_does_not_bring_back_what_was_released(world: RedisWorld) -> None:
    a, me = await joined(world)
    epoch, other = await claimed(a, me), await claimed(a, me, "Agent/b")
    await world.restart(keep_data=False)
    await a.join(member("a"))
    a.sent.clear()
    assert await a.assert_owned(me, [(ACTOR, epoch)]) == [True]
    await a.release(me, [(ACTOR, epoch)])
    a.arrive_again("assert")
    assert await a.locate([ACTOR]) == [None]
    assert await a.assert_owned(me, [("Agent/b", other)]) == [True]
    a.arrive_again("assert")
    assert await a.locate([ACTOR, "Agent/b"]) == [None, Location(me, other)]


@in_asyncio
async def test_assertion_behind_a_later_claim_of_its_host_is_told_to_try_again(
    world: RedisWorld,
) -> None:
    a, me = await joined(world)
    epoch = await claimed(a, me)
    a._call_no -= 2  # as if this had been sent before the claim, and had arrived after it
    with pytest.raises(RegistryUnavailable, match="a later claim came first"):
        await a.assert_owned(me, [(ACTOR, epoch)])


@in_asyncio
async def test_repeated_assertion_is_answered_as_the_first_one_was(world: RedisWorld) -> None:
    a, me = await joined(world)
    epoch = await claimed(a, me)
    await world.restart(keep_data=False)
    await a.join(member("a"))
    assert await a.assert_owned(me, [(ACTOR, epoch), ("Agent/b", epoch)]) == [True, True]
    a._call_no -= 1
    assert await a.assert_owned(me, [(ACTOR, epoch), ("Agent/b", epoch)]) == [True, True]


@in_asyncio
async def test_late_settling_does_not_settle_a_later_generation(world: RedisWorld) -> None:
    fresh = world.registry_of(Recorder)
    await fresh.settle()
    assert await fresh.is_settled()
    await world.restart(keep_data=True)
    fresh.arrive_again()
    await fresh.view()
    assert not await fresh.is_settled()


@in_asyncio
async def test_late_spec_replaces_no_newer_one_and_revives_no_ended_actor(
    world: RedisWorld,
) -> None:
    a, me = await joined(world)
    epoch = await claimed(a, me)
    for spec in (b"one", b"two", b"three"):
        await a.keep_spec(me, ACTOR, epoch, spec)
    kept = [(ACTOR, b"three", Location(me, epoch))]
    a.arrive_again()
    assert await a.specs(ALL, 10) == kept
    a.sent = a.sent[:-2]  # without the newest
    a.arrive_again()
    assert await a.specs(ALL, 10) == kept
    await a.end_durable(me, ACTOR, epoch)
    a.arrive_again("keep_spec")
    assert await a.specs(ALL, 10) == []


@in_asyncio
async def test_late_end_does_not_touch_the_next_life_of_a_durable_actor(world: RedisWorld) -> None:
    a, me = await joined(world)
    epoch = await claimed(a, me)
    await a.keep_spec(me, ACTOR, epoch, b"old")
    await a.end_durable(me, ACTOR, epoch)
    epoch = await claimed(a, me)
    await a.keep_spec(me, ACTOR, epoch, b"new")
    await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
    a.arrive_again("end_durable")
    assert await a.specs(ALL, 10) == [(ACTOR, b"new", Location(me, epoch))]
    assert await a.drop_reminder(ACTOR, "wake")


@in_asyncio
async def test_late_requests_on_reminders_revive_delay_and_drop_nothing(world: RedisWorld) -> None:
    a, _ = await joined(world)
    a.sent.clear()
    await a.set_reminder(ACTOR, "fired", 0.0, 0.0)
    await a.set_reminder(ACTOR, "repeats", 0.0, 3600.0)
    await a.set_reminder(ACTOR, "dropped", 0.0, 0.0)
    await a.set_reminder(ACTOR, "sooner", 3600.0, 0.0)
    await a.set_reminder(ACTOR, "sooner", 0.0, 0.0)
    await a.set_reminder(ACTOR, "back", 0.0, 0.0)
    for reminder in await a.due_reminders(10):
        if reminder.name in ("fired", "repeats"):
            await a.reminder_fired(reminder)
    await a.drop_reminder(ACTOR, "never-set")
    await a.drop_reminder(ACTOR, "dropped")
    await a.drop_reminder(ACTOR, "back")
    await a.set_reminder(ACTOR, "back", 0.0, 0.0)
    while len(before := await a.due_reminders(10)) < 2:
        await asyncio.sleep(0)
    assert sorted(r.name for r in before) == ["back", "sooner"]
    for _ in range(2):
        a.arrive_again()
        assert await a.due_reminders(10) == before
        a.sent.reverse()
    assert not await a.drop_reminder(ACTOR, "fired")
    assert not await a.drop_reminder(ACTOR, "dropped")
    assert await a.drop_reminder(ACTOR, "repeats")


# What the server keeps


@in_asyncio
async def test_ended_actors_and_dropped_reminders_leave_nothing_but_marks_that_expire(
    world: RedisWorld,
) -> None:
    a, me = await joined(world)
    with redis.Redis.from_url(a._url) as admin:
        prefix = a._meta.removesuffix("meta")
        before = set(admin.scan_iter(f"{prefix}*", count=1000))
        for n in range(20):
            actor = f"Agent/{n}"
            epoch = await claimed(a, me, actor)
            await a.keep_spec(me, actor, epoch, b"spec")
            await a.set_reminder(actor, "ends with its actor", 0.0, 1.0)
            await a.set_reminder(actor, "dropped", 0.0, 1.0)
            await a.drop_reminder(actor, "dropped")
            await a.end_durable(me, actor, epoch)
        left = set(admin.scan_iter(f"{prefix}*", count=1000)) - before
        left.discard(f"{prefix}claims".encode())
        assert len(left) == 20
        assert all(b":dropped:" in key for key in left)
        assert all(0 < admin.ttl(key) <= 300 for key in left)


@in_asyncio
async def test_full_server_takes_assertions_and_all_that_ends_something(server: Server) -> None:
    a = RedisRegistry(server.url, "full", new_event=asyncio.Event, timeout_s=10.0)
    await a.join(member("a"))
    epoch = await claimed(a, "a-1")
    await a.keep_spec("a-1", ACTOR, epoch, b"spec")
    for name in ("once", "again", "dropped"):
        await a.set_reminder(ACTOR, name, 0.0, 3600.0 if name == "again" else 0.0)
    with server.admin() as admin:
        admin.hset("roost:{full}:meta", "run", "0" * 40)
        admin.config_set("maxmemory", "1mb")
    await a.view()
    await a.join(member("a"))
    assert await a.assert_owned("a-1", [(ACTOR, epoch)]) == [True]
    await a.settle()
    assert await a.is_settled()
    for refused in (
        a.keep_spec("a-1", ACTOR, epoch, b"more"),
        a.set_reminder(ACTOR, "more", 0.0, 0.0),
    ):
        with pytest.raises(RegistryUnavailable):
            await refused
    assert await a.drop_reminder(ACTOR, "dropped")
    due = await a.due_reminders(10)
    assert len(due) == 2
    for reminder in due:
        await a.reminder_fired(reminder)
    assert await a.due_reminders(10) == []
    assert len(await a.specs(ALL, 10)) == 1
    assert await a.end_durable("a-1", ACTOR, epoch)
    await a.aclose()


# Real restarts


@in_asyncio
async def test_generations_differ_even_if_the_server_comes_back_twice_with_data_ahead_of_its_clock(
    server: Server, folder: Path
) -> None:
    def began() -> RedisRegistry:
        return RedisRegistry(server.url, "lag", new_event=asyncio.Event, timeout_s=10.0)

    first = began()
    await first.view()
    ahead = 4_000_000_000_000_000  # as if TIME had been a century on when this was written
    with server.admin() as admin:
        admin.hset("roost:{lag}:meta", "generation", ahead)
        admin.save()
    shutil.copy(folder / "dump.rdb", folder / "copy.rdb")
    generations = [ahead]
    for _ in range(2):
        server.kill()
        shutil.copy(folder / "copy.rdb", folder / "dump.rdb")
        server.start()
        newcomer = began()
        generations.append((await newcomer.view()).generation)
        await newcomer.aclose()
    await first.aclose()
    assert ahead < min(generations[1:])
    assert len(set(generations)) == 3
