"""Durable actors, the same in memory and in Redis: specs by ranges of hashes, and reminders."""

from __future__ import annotations

import asyncio
import math

import pytest

from placement import Claim, Claimed, Fenced, Location, Registry, Reminder, Stored
from placement.durable import SPEC_BYTES_MAX
from placement.ring import Ring, stable_hash
from tests.contract.worlds import World, in_asyncio, member

ACTOR = "Agent/a"
OTHER = "Agent/b"
ALL = [(0, 2**64 - 1)]
HOUR_S = 3600.0


async def joined(world: World, host: str = "a") -> tuple[Registry, str]:
    registry = world.registry()
    await registry.join(member(host))
    return registry, f"{host}-1"


async def claimed(registry: Registry, me: str, actor: str = ACTOR) -> int:
    [answer] = await registry.claim(me, [Claim(actor)])
    assert isinstance(answer, Claimed)
    return answer.epoch


async def durable(registry: Registry, me: str, names: list[str]) -> None:
    """Make each of ``names`` durable; the spec is the name."""
    answers = await registry.claim(me, [Claim(name) for name in names])
    for name, answer in zip(names, answers, strict=True):
        assert isinstance(answer, Claimed)
        assert await registry.keep_spec(me, name, answer.epoch, name.encode())


# Specs


@in_asyncio
async def test_spec_of_any_bytes_and_any_name_comes_back_with_its_location(world: World) -> None:
    a, me = await joined(world)
    spec = bytes(range(256)) + b" 1 2 \r\n"
    for actor in (ACTOR, "K/ü b:1 !", "K/" + "x" * 512):
        epoch = await claimed(a, me, actor)
        assert await a.keep_spec(me, actor, epoch, spec)
        here = stable_hash(actor)
        assert await a.specs([(here, here)], 10) == [(actor, spec, Location(me, epoch))]


@in_asyncio
async def test_spec_is_kept_only_for_who_is_located_there_exactly(world: World) -> None:
    a, me = await joined(world)
    b, other = await joined(world, "b")
    stale, epoch = await claimed(a, me), await claimed(a, me)
    assert not await a.keep_spec(me, ACTOR, stale, b"stale")
    assert not await b.keep_spec(other, ACTOR, epoch, b"stranger")
    assert not await a.keep_spec(me, OTHER, epoch, b"never claimed")
    assert await a.specs(ALL, 10) == []
    assert await a.keep_spec(me, ACTOR, epoch, b"first")
    assert await a.keep_spec(me, ACTOR, epoch, b"second")
    assert await a.specs(ALL, 10) == [(ACTOR, b"second", Location(me, epoch))]


@in_asyncio
async def test_next_owner_may_replace_the_spec_whatever_the_first_one_sent(world: World) -> None:
    a, me = await joined(world)
    b, other = await joined(world, "b")
    epoch = await claimed(a, me)
    for n in range(5):
        assert await a.keep_spec(me, ACTOR, epoch, b"a%d" % n)
    await a.release(me, [(ACTOR, epoch)])
    epoch = await claimed(b, other)
    assert await b.keep_spec(other, ACTOR, epoch, b"b")
    assert await a.specs(ALL, 10) == [(ACTOR, b"b", Location(other, epoch))]


@in_asyncio
async def test_spec_at_the_bound_is_kept_and_one_above_is_refused(world: World) -> None:
    a, me = await joined(world)
    epoch = await claimed(a, me)
    largest = b"x" * SPEC_BYTES_MAX
    assert await a.keep_spec(me, ACTOR, epoch, largest)
    with pytest.raises(ValueError, match="65536 bytes"):
        await a.keep_spec(me, ACTOR, epoch, largest + b"x")
    assert await a.specs(ALL, 10) == [(ACTOR, largest, Location(me, epoch))]


@in_asyncio
async def test_spec_stays_when_its_actor_is_released_or_its_host_is_gone(world: World) -> None:
    a, _ = await joined(world)
    b, other = await joined(world, "b")
    await durable(b, other, [ACTOR, OTHER])
    [location] = await a.locate([ACTOR])
    assert location is not None
    await b.release(other, [(ACTOR, location.epoch)])
    await a.bury(other, 0)
    found = {actor: where for actor, _, where in await a.specs(ALL, 10)}
    assert found == {ACTOR: None, OTHER: location}


@in_asyncio
async def test_each_member_finds_exactly_its_own_by_its_ranges_page_by_page(world: World) -> None:
    a, me = await joined(world)
    for host in ("b", "c"):
        await joined(world, host)
    names = [f"Agent/{n}" for n in range(300)]
    await durable(a, me, names)
    ring = Ring(await a.view())
    everything: list[str] = []
    for m in ring.members:
        ranges, mine, page = ring.ranges(m.incarnation), list[str](), ["more"]
        while len(page) > (1 if mine else 0):
            page = [actor for actor, _, _ in await a.specs(ranges, 20)]
            assert len(page) <= 20
            assert page[:1] == mine[-1:] or not mine
            mine += page[1:] if mine else page
            here = stable_hash(mine[-1])
            ranges = [(max(first, here), last) for first, last in ranges if last >= here]
        assert mine == sorted(mine, key=stable_hash)
        assert {ring.owner(actor) for actor in mine} == {m}
        everything += mine
    assert sorted(everything) == sorted(names)


@in_asyncio
async def test_ranges_are_inclusive_answered_in_their_order_and_up_to_the_limit(
    world: World,
) -> None:
    a, me = await joined(world)
    names = sorted((f"Agent/{n}" for n in range(20)), key=stable_hash)
    await durable(a, me, names)
    at = [stable_hash(name) for name in names]
    ranges = [(at[10], at[12]), (at[15] + 1, at[16] - 1), (at[2], at[4]), (at[0], at[0])]
    wanted = [*names[10:13], *names[2:5], names[0]]
    for limit in (0, 1, 4, 6, 7, 100):
        found = await a.specs(ranges, limit)
        assert [actor for actor, _, _ in found] == wanted[:limit]
        assert all(spec == actor.encode() for actor, spec, _ in found)
    assert await a.specs([], 10) == []
    assert len(await a.specs(ALL, 100)) == 20


@in_asyncio
async def test_thousands_of_ranges_are_read_to_the_last(world: World) -> None:
    a, me = await joined(world)
    names = sorted((f"Agent/{n}" for n in range(10)), key=stable_hash)
    await durable(a, me, names)
    hashes = [stable_hash(name) for name in names]
    empty = [(n, n) for n in range(3000)]
    found = await a.specs([*empty, (hashes[7], hashes[7]), *empty, (hashes[1], hashes[1])], 5)
    assert [actor for actor, _, _ in found] == [names[7], names[1]]


@in_asyncio
async def test_ending_a_durable_actor_releases_it_and_forgets_spec_and_reminders_at_once(
    world: World,
) -> None:
    a, me = await joined(world)
    await durable(a, me, [ACTOR, OTHER])
    epoch = await claimed(a, me)
    await a.save(me, ACTOR, epoch, 1, b"state")
    for actor in (ACTOR, OTHER):
        await a.set_reminder(actor, "soon", 0.0, 0.0)
        await a.set_reminder(actor, "again", 0.0, HOUR_S)
    assert not await a.end_durable(me, ACTOR, epoch - 1)
    assert len(await a.specs(ALL, 10)) == 2
    assert await a.end_durable(me, ACTOR, epoch)
    assert await a.locate([ACTOR]) == [None]
    assert [actor for actor, _, _ in await a.specs(ALL, 10)] == [OTHER]
    assert {r.actor for r in await a.due_reminders(10)} == {OTHER}
    assert not await a.drop_reminder(ACTOR, "again")
    assert await a.load(ACTOR) == Stored(epoch, 1, b"state")
    assert not await a.end_durable(me, ACTOR, epoch)


@in_asyncio
async def test_ended_actor_can_be_made_durable_again(world: World) -> None:
    a, me = await joined(world)
    for n in range(3):
        epoch = await claimed(a, me)
        assert await a.keep_spec(me, ACTOR, epoch, b"%d" % n)
        await a.set_reminder(ACTOR, "soon", 0.0, 0.0)
        assert await a.specs(ALL, 10) == [(ACTOR, b"%d" % n, Location(me, epoch))]
        await due(a)
        assert await a.end_durable(me, ACTOR, epoch)
        assert await a.due_reminders(10) == []


@in_asyncio
async def test_host_that_is_no_member_keeps_and_ends_nothing(world: World) -> None:
    a, me = await joined(world)
    b, _ = await joined(world, "b")
    await durable(a, me, [ACTOR])
    [location] = await a.locate([ACTOR])
    assert location is not None
    await b.bury(me, 0)
    for call in (
        a.keep_spec(me, ACTOR, location.epoch, b"late"),
        a.end_durable(me, ACTOR, location.epoch),
    ):
        with pytest.raises(Fenced):
            await call
    assert await b.specs(ALL, 10) == [(ACTOR, ACTOR.encode(), location)]


@pytest.mark.parametrize("keep_data", [True, False], ids=["with data", "empty"])
@in_asyncio
async def test_specs_and_reminders_live_as_long_as_the_servers_data(
    world: World, keep_data: bool
) -> None:
    a, me = await joined(world)
    await durable(a, me, [ACTOR])
    await a.set_reminder(ACTOR, "soon", 0.0, HOUR_S)
    await world.restart(keep_data=keep_data)
    await a.view()
    assert [actor for actor, _, _ in await a.specs(ALL, 10)] == [ACTOR] * keep_data
    assert [r.name for r in await a.due_reminders(10)] == ["soon"] * keep_data


@in_asyncio
async def test_rollback_brings_back_the_specs_and_reminders_of_then(world: World) -> None:
    a, me = await joined(world)
    await durable(a, me, [ACTOR])
    await a.set_reminder(ACTOR, "then", 0.0, 0.0)
    await world.back_up()
    await a.end_durable(me, ACTOR, (await a.locate([ACTOR]))[0].epoch)  # type: ignore[union-attr]
    await durable(a, me, [OTHER])
    await a.set_reminder(OTHER, "now", 0.0, 0.0)
    await world.roll_back()
    await a.view()
    assert [actor for actor, _, _ in await a.specs(ALL, 10)] == [ACTOR]
    assert [(r.actor, r.name) for r in await a.due_reminders(10)] == [(ACTOR, "then")]


# Reminders


async def due(registry: Registry) -> Reminder:
    """The one reminder, once it is due: set anew within a millisecond, it takes one more."""
    while not (found := await registry.due_reminders(10)):
        await asyncio.sleep(0)
    [reminder] = found
    return reminder


def told(reminders: list[Reminder]) -> list[tuple[str, str]]:
    return [(r.actor, r.name) for r in reminders]


@in_asyncio
async def test_reminder_is_due_when_its_time_has_come_and_not_before(world: World) -> None:
    a, _ = await joined(world)
    await a.set_reminder(ACTOR, "wake", 100.0, 0.0)
    await world.pass_time(50.0)
    assert await a.due_reminders(10) == []
    await world.pass_time(51.0)
    [reminder] = await a.due_reminders(10)
    assert (reminder.actor, reminder.name, reminder.every_s) == (ACTOR, "wake", 0.0)


@in_asyncio
async def test_reminder_stays_due_for_every_host_until_it_is_reported_and_only_once(
    world: World,
) -> None:
    a, _ = await joined(world)
    b, _ = await joined(world, "b")
    await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
    [reminder] = await b.due_reminders(10)
    assert await a.due_reminders(10) == [reminder]
    await b.reminder_fired(reminder)
    await a.reminder_fired(reminder)
    assert await a.due_reminders(10) == []
    assert not await a.drop_reminder(ACTOR, "wake")


@in_asyncio
async def test_repeated_reminder_is_due_again_a_period_later_each_time(world: World) -> None:
    a, _ = await joined(world)
    await a.set_reminder(ACTOR, "tick", 5 * HOUR_S, HOUR_S)
    await world.pass_time(5 * HOUR_S)
    for _ in range(3):
        [reminder] = await a.due_reminders(10)
        assert reminder.every_s == HOUR_S
        await a.reminder_fired(reminder)
        await world.pass_time(HOUR_S - 30.0)
        assert await a.due_reminders(10) == []
        await world.pass_time(30.0)


@in_asyncio
async def test_after_an_outage_a_repeated_reminder_fires_once_and_keeps_its_rhythm(
    world: World,
) -> None:
    a, _ = await joined(world)
    await a.set_reminder(ACTOR, "tick", 0.0, HOUR_S)
    await world.pass_time(1000 * HOUR_S + 600.0)
    [late] = await a.due_reminders(10)
    await a.reminder_fired(late)
    assert await a.due_reminders(10) == []
    await world.pass_time(HOUR_S - 630.0)
    assert await a.due_reminders(10) == []
    await world.pass_time(60.0)
    assert told(await a.due_reminders(10)) == [(ACTOR, "tick")]


@in_asyncio
async def test_report_made_twice_does_not_skip_a_time(world: World) -> None:
    a, _ = await joined(world)
    await a.set_reminder(ACTOR, "tick", 0.0, 0.002)
    for _ in range(20):
        reminder = await due(a)
        await a.reminder_fired(reminder)
        again = await due(a)
        await a.reminder_fired(reminder)
        assert await a.due_reminders(10) == [again]
        assert again.due_ms > reminder.due_ms


@in_asyncio
async def test_reminder_set_anew_is_not_touched_by_the_report_of_the_earlier_one(
    world: World,
) -> None:
    a, _ = await joined(world)
    for _ in range(30):
        await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
        earlier = await due(a)
        await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
        await a.reminder_fired(earlier)
        assert await a.drop_reminder(ACTOR, "wake")


@in_asyncio
async def test_reminder_set_anew_after_it_fired_is_not_touched_by_a_second_report(
    world: World,
) -> None:
    a, _ = await joined(world)
    for _ in range(30):
        await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
        earlier = await due(a)
        await a.reminder_fired(earlier)
        await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
        await a.reminder_fired(earlier)
        assert await a.drop_reminder(ACTOR, "wake")


@in_asyncio
async def test_setting_a_reminder_replaces_the_one_of_that_name_only(world: World) -> None:
    a, _ = await joined(world)
    await a.set_reminder(ACTOR, "one", 0.0, 0.0)
    await a.set_reminder(ACTOR, "two", 0.0, 0.0)
    await a.set_reminder(OTHER, "one", 0.0, 0.0)
    await a.set_reminder(ACTOR, "one", HOUR_S, 0.0)
    assert sorted(told(await a.due_reminders(10))) == [(ACTOR, "two"), (OTHER, "one")]
    await world.pass_time(HOUR_S)
    assert len(await a.due_reminders(10)) == 3


@in_asyncio
async def test_dropped_reminder_is_never_due_and_dropping_tells_whether_it_was_there(
    world: World,
) -> None:
    a, _ = await joined(world)
    assert not await a.drop_reminder(ACTOR, "wake")
    await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
    [reminder] = await a.due_reminders(10)
    assert await a.drop_reminder(ACTOR, "wake")
    assert not await a.drop_reminder(ACTOR, "wake")
    await a.reminder_fired(reminder)
    assert await a.due_reminders(10) == []
    await a.set_reminder(ACTOR, "wake", 0.0, 0.0)
    await due(a)


@in_asyncio
async def test_longest_due_come_first_and_no_more_than_wanted(world: World) -> None:
    a, _ = await joined(world)
    for n in (3, 1, 4, 0, 2):
        await a.set_reminder(ACTOR, str(n), 10.0 * n, 0.0)
    await world.pass_time(35.0)
    assert [r.name for r in await a.due_reminders(10)] == ["0", "1", "2", "3"]
    assert [r.name for r in await a.due_reminders(2)] == ["0", "1"]
    assert await a.due_reminders(0) == await a.due_reminders(-1) == []


@in_asyncio
async def test_reminders_of_any_actor_and_name_are_kept_apart(world: World) -> None:
    a, _ = await joined(world)
    pairs = [("K/a", "bc"), ("K/ab", "c"), ("K/ü", "ü 1:2"), ("K/é b", ""), ("3:K/a", "\0\n")]
    for actor, name in pairs:
        await a.set_reminder(actor, name, 0.0, 0.0)
    assert sorted(told(await a.due_reminders(10))) == sorted(pairs)
    for actor, name in pairs:
        assert await a.drop_reminder(actor, name)
    assert await a.due_reminders(10) == []


@pytest.mark.parametrize("wrong_s", [-1.0, math.nan, math.inf, 1e12])
@in_asyncio
async def test_time_that_is_negative_or_endless_is_refused(world: World, wrong_s: float) -> None:
    a, _ = await joined(world)
    with pytest.raises(ValueError, match="between 0 and"):
        await a.set_reminder(ACTOR, "wake", wrong_s, 0.0)
    with pytest.raises(ValueError, match="between 0 and"):
        await a.set_reminder(ACTOR, "wake", 0.0, wrong_s)
    assert await a.due_reminders(10) == []
