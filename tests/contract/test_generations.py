"""New generations, the same in memory and in Redis: what is asserted, and when one is settled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from placement import Claim, Claimed, Fenced, Held, Location, Registry, StaleGeneration, Stored
from tests.contract.worlds import World, in_asyncio, member

ACTOR = "Counter/a"
OTHER = "Counter/b"

both = pytest.mark.parametrize("keep_data", [True, False], ids=["with data", "empty"])


async def joined(world: World, host: str) -> tuple[Registry, str]:
    registry = world.registry()
    await registry.join(member(host))
    return registry, f"{host}-1"


async def claimed(registry: Registry, me: str, actor: str = ACTOR) -> int:
    [answer] = await registry.claim(me, [Claim(actor)])
    assert isinstance(answer, Claimed)
    return answer.epoch


async def restarted(world: World, hosts: Sequence[tuple[Registry, str]], keep_data: bool) -> None:
    """The server restarted, and all hosts have joined the new generation."""
    await world.restart(keep_data=keep_data)
    for registry, me in hosts:
        await registry.join(member(me[:-2]))


# What a registry object speaks for


@in_asyncio
async def test_registry_speaks_for_no_generation_until_it_has_heard_of_one(world: World) -> None:
    registry = world.registry()
    assert registry.generation == 0
    view = await registry.view()
    assert registry.generation == view.generation > 0


@in_asyncio
async def test_registry_speaks_for_the_new_generation_once_it_was_told(world: World) -> None:
    a, me = await joined(world, "a")
    before = a.generation
    await world.restart(keep_data=True)
    assert a.generation == before
    with pytest.raises(StaleGeneration) as stale:
        await a.renew(me, 1)
    assert a.generation == stale.value.view.generation > before


# Asserting


@both
@in_asyncio
async def test_what_runs_is_located_again_at_its_old_epoch_and_can_be_saved(
    world: World, keep_data: bool
) -> None:
    a, me = await joined(world, "a")
    epoch, other_epoch = await claimed(a, me), await claimed(a, me, OTHER)
    await restarted(world, [(a, me)], keep_data)
    assert await a.assert_owned(me, [(ACTOR, epoch), (OTHER, other_epoch)]) == [True, True]
    assert await a.locate([ACTOR, OTHER]) == [Location(me, epoch), Location(me, other_epoch)]
    assert await a.save(me, ACTOR, epoch, 7, b"state")
    assert await a.load(ACTOR) == Stored(epoch, 7, b"state")


@both
@in_asyncio
async def test_asserted_actor_is_held_and_the_next_claim_of_it_has_a_higher_epoch(
    world: World, keep_data: bool
) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    epoch = await claimed(a, me)
    await restarted(world, [(a, me), (b, other)], keep_data)
    await a.assert_owned(me, [(ACTOR, epoch)])
    assert await b.claim(other, [Claim(ACTOR)]) == [Held(Location(me, epoch))]
    await a.release(me, [(ACTOR, epoch)])
    assert await claimed(b, other) > epoch


@in_asyncio
async def test_later_claim_is_not_undone_and_its_loser_is_told(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    old, kept = await claimed(a, me), await claimed(a, me, OTHER)
    await restarted(world, [(b, other)], keep_data=True)
    new = await claimed(b, other)
    await a.join(member("a"))
    assert await a.assert_owned(me, [(ACTOR, old), (OTHER, kept)]) == [False, True]
    assert await a.locate([ACTOR, OTHER]) == [Location(other, new), Location(me, kept)]


@in_asyncio
async def test_nothing_more_is_asserted_once_anybody_has_claimed_in_the_generation(
    world: World,
) -> None:
    """Else a late assertion would bring an epoch back that is older than one that has ended."""
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    old, kept = await claimed(a, me), await claimed(a, me, OTHER)
    await restarted(world, [(a, me), (b, other)], keep_data=False)
    assert await a.assert_owned(me, [(OTHER, kept)]) == [True]
    new = await claimed(b, other)
    await b.release(other, [(ACTOR, new)])
    assert await a.assert_owned(me, [(ACTOR, old), (OTHER, kept)]) == [False, True]
    assert await a.locate([ACTOR, OTHER]) == [None, Location(me, kept)]
    await restarted(world, [(a, me)], keep_data=False)
    assert await a.assert_owned(me, [(OTHER, kept)]) == [True]


@in_asyncio
async def test_newer_epoch_replaces_what_an_old_copy_of_the_data_tells(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    old = await claimed(a, me)
    await world.back_up()
    await a.release(me, [(ACTOR, old)])
    new = await claimed(b, other)
    await world.roll_back()
    for registry, host in ((a, "a"), (b, "b")):
        await registry.join(member(host))
    assert await a.locate([ACTOR]) == [Location(me, old)]
    assert await b.assert_owned(other, [(ACTOR, new)]) == [True]
    assert await a.assert_owned(me, [(ACTOR, old)]) == [False]
    assert await a.locate([ACTOR]) == [Location(other, new)]


@in_asyncio
async def test_asserting_twice_is_true_twice(world: World) -> None:
    a, me = await joined(world, "a")
    epoch = await claimed(a, me)
    await restarted(world, [(a, me)], keep_data=False)
    for _ in range(2):
        assert await a.assert_owned(me, [(ACTOR, epoch)]) == [True]
    assert await a.locate([ACTOR]) == [Location(me, epoch)]


@in_asyncio
async def test_of_two_hosts_with_one_epoch_only_the_first_may_go_on(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    epoch = await claimed(a, me)
    await restarted(world, [(a, me), (b, other)], keep_data=False)
    assert await a.assert_owned(me, [(ACTOR, epoch)]) == [True]
    assert await b.assert_owned(other, [(ACTOR, epoch)]) == [False]
    assert await a.assert_owned(me, [(ACTOR, epoch)]) == [True]


@in_asyncio
async def test_assertions_of_an_older_generation_or_of_no_member_are_void(world: World) -> None:
    a, me = await joined(world, "a")
    epoch = await claimed(a, me)
    await world.restart(keep_data=False)
    with pytest.raises(StaleGeneration):
        await a.assert_owned(me, [(ACTOR, epoch)])
    with pytest.raises(Fenced):
        await a.assert_owned(me, [(ACTOR, epoch)])
    assert await a.locate([ACTOR]) == [None]


@in_asyncio
async def test_thousands_are_asserted_in_the_order_given(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    names = [f"K/{n}" for n in range(2500)]
    epochs = [c.epoch for c in await a.claim(me, [Claim(n) for n in names]) if type(c) is Claimed]
    await restarted(world, [(a, me), (b, other)], keep_data=False)
    later = max(epochs) + 1
    await b.assert_owned(other, [(name, later) for name in names[::3]])
    answers = await a.assert_owned(me, list(zip(names, epochs, strict=True)))
    assert answers == [n % 3 != 0 for n in range(2500)]
    assert await a.assert_owned(me, []) == []


@both
@in_asyncio
async def test_epochs_stay_above_what_is_asserted_after_any_loss(
    world: World, keep_data: bool
) -> None:
    a, me = await joined(world, "a")
    await claimed(a, me)
    await world.back_up()
    far = await claimed(a, me) + 10**16  # as if the server's clock had been far ahead
    await world.roll_back()
    await restarted(world, [(a, me)], keep_data)
    assert await a.assert_owned(me, [(ACTOR, far)]) == [True]
    b, other = await joined(world, "b")
    assert await claimed(b, other, OTHER) > far


@in_asyncio
async def test_epochs_go_on_above_every_generation_that_a_host_has_heard_of(world: World) -> None:
    """It may be all that is left of them: who heard the epochs is gone, the clock stepped back."""
    a, me = await joined(world, "a")
    far = a.generation + 10**12  # as if the server's clock had been far ahead
    with pytest.raises(StaleGeneration):
        await a.claim(me, [Claim(ACTOR)], generation=far)
    await a.join(member("a"))
    assert a.generation > far
    assert await claimed(a, me) > far


# Rollbacks


@in_asyncio
async def test_rolled_back_server_begins_a_generation_above_all_that_a_host_has_heard(
    world: World,
) -> None:
    a, me = await joined(world, "a")
    first = await claimed(a, me)
    await a.save(me, ACTOR, first, 1, b"old")
    await world.back_up()
    seen = {a.generation}
    await a.save(me, ACTOR, first, 2, b"new")
    epochs = [first, await claimed(a, me, OTHER)]
    for _ in range(3):
        await world.roll_back()
        view = await a.view()
        assert view.members == ()
        assert view.generation > max(seen)
        seen.add(view.generation)
        assert await a.load(ACTOR) == Stored(first, 1, b"old")
        assert await a.locate([ACTOR, OTHER]) == [Location(me, first), None]
        await a.join(member("a"))
        epochs.append(await claimed(a, me, OTHER))
    assert epochs == sorted(set(epochs))


# Settled


@both
@in_asyncio
async def test_generation_is_settled_for_all_once_someone_says_so_and_the_next_one_is_not(
    world: World, keep_data: bool
) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    assert not await b.is_settled()
    await a.settle()
    await a.settle()
    assert await a.is_settled()
    assert await b.is_settled()
    await restarted(world, [(a, me), (b, other)], keep_data)
    assert not await a.is_settled()
    await b.settle()
    assert await a.is_settled()


@in_asyncio
async def test_settling_an_older_generation_is_void(world: World) -> None:
    a, _ = await joined(world, "a")
    b, _ = await joined(world, "b")
    await world.restart(keep_data=True)
    with pytest.raises(StaleGeneration):
        await a.settle()
    await b.view()
    assert not await b.is_settled()


@in_asyncio
async def test_rollback_to_data_of_a_settled_generation_is_not_settled(world: World) -> None:
    a, _ = await joined(world, "a")
    await a.settle()
    await world.back_up()
    await world.roll_back()
    await a.view()
    assert not await a.is_settled()
