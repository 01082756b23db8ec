"""The registry's contract: the same for the memory registry and for Redis."""

import asyncio

import pytest

from placement import (
    Claim,
    Claimed,
    Fenced,
    Held,
    Load,
    Location,
    Member,
    MemberState,
    Registry,
    StaleGeneration,
    Stored,
)
from tests.contract.worlds import World, in_asyncio, member

ACTOR = "Counter/a"
RACES = 1000


async def joined(world: World, host: str) -> tuple[Registry, str]:
    registry = world.registry()
    await registry.join(member(host))
    return registry, f"{host}-1"


async def claimed(registry: Registry, me: str, actor: str = ACTOR) -> int:
    [answer] = await registry.claim(me, [Claim(actor)])
    assert isinstance(answer, Claimed)
    return answer.epoch


# Members and views


@in_asyncio
async def test_every_host_sees_the_same_members_in_the_same_order(world: World) -> None:
    b, _ = await joined(world, "b")
    a, _ = await joined(world, "a")
    view = await a.view()
    assert [m.host_id for m in view.members] == ["a", "b"]
    assert await b.view() == view
    assert view.members[0] == member("a")


@in_asyncio
async def test_member_record_survives_the_registry_unchanged(world: World) -> None:
    registry = world.registry()
    full = Member("ü-1", "i-1", "10.0.0.1:1", MemberState.JOINING, 0.3, 7, ("A", "B"), False)
    assert (await registry.join(full)).members == (full,)


@in_asyncio
async def test_every_change_raises_the_version_and_nothing_else_does(world: World) -> None:
    a, me = await joined(world, "a")
    before = await a.view()
    await a.join(member("a"))
    await a.renew(me, 1)
    await a.heartbeat(me, Load(actors=3))
    await a.set_member(me, state=MemberState.UP, ready=True, weight=1.0)
    assert await a.view() == before
    changed = await a.set_member(me, weight=2.0)
    assert changed.version == before.version + 1
    assert changed.members == (member("a", weight=2.0),)


@in_asyncio
async def test_join_run_twice_changes_nothing_and_undoes_no_later_change(world: World) -> None:
    a, me = await joined(world, "a")
    draining = await a.set_member(me, state=MemberState.DRAINING)
    assert await a.join(member("a")) == draining


@in_asyncio
async def test_restart_leaves_the_earlier_incarnation_in_the_view_but_not_ready(
    world: World,
) -> None:
    registry, _ = await joined(world, "a")
    await registry.join(member("b"))
    view = await registry.join(member("a", incarnation="a-2"))
    assert [(m.incarnation, m.ready) for m in view.members] == [
        ("a-1", False),
        ("a-2", True),
        ("b-1", True),
    ]


@in_asyncio
async def test_incarnation_that_left_cannot_join_again(world: World) -> None:
    a, me = await joined(world, "a")
    await a.leave(me)
    with pytest.raises(Fenced):
        await a.join(member("a"))


@in_asyncio
async def test_unknown_member_cannot_be_changed_and_death_is_no_change(world: World) -> None:
    a, me = await joined(world, "a")
    with pytest.raises(Fenced):
        await a.set_member("nobody", ready=False)
    with pytest.raises(ValueError, match="bury"):
        await a.set_member(me, state=MemberState.DEAD)


@in_asyncio
async def test_change_of_the_view_is_told_to_listeners(world: World) -> None:
    a, _ = await joined(world, "a")
    told: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    a.on_change(lambda generation, version: told.put_nowait((generation, version)))
    listening = asyncio.ensure_future(a.listen())
    b = world.registry()
    # The subscription takes a moment, and a hint may be lost meanwhile: change until one is heard.
    view = await b.join(member("b"))
    weight = 1.0
    while told.empty():
        weight = 3.0 - weight
        view = await b.set_member("b-1", weight=weight)
        await asyncio.sleep(0)
    heard = await told.get()
    while heard != (view.generation, view.version):
        heard = await told.get()
    listening.cancel()


@in_asyncio
async def test_heartbeats_are_shown_by_incarnation_and_end_with_the_member(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    await a.heartbeat(me, Load(actors=1, view_version=2))
    await b.heartbeat(other, Load(mailbox=5))
    assert await a.loads() == {me: Load(actors=1, view_version=2), other: Load(mailbox=5)}
    await b.leave(other)
    assert await a.loads() == {me: Load(actors=1, view_version=2)}


# Leases


@in_asyncio
async def test_renewal_tells_every_counter_and_the_views_number(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    await b.renew(other, 7)
    renewal = await a.renew(me, 1)
    view = await a.view()
    assert renewal == (view.generation, view.version, {me: 1, other: 7})


@in_asyncio
async def test_counter_is_only_ever_raised(world: World) -> None:
    a, me = await joined(world, "a")
    await a.renew(me, 10)
    assert (await a.renew(me, 9)).counters == {me: 10}


@in_asyncio
async def test_bury_with_a_counter_that_has_moved_is_refused(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    await b.renew(other, 3)
    assert not await a.bury(other, 2)
    await b.renew(other, 4)
    assert not await a.bury(other, 3)
    assert await b.renew(other, 5)
    assert len((await a.view()).members) == 2
    assert await claimed(b, other)
    assert isinstance((await a.claim(me, [Claim(ACTOR)]))[0], Held)


@in_asyncio
async def test_burying_twice_is_true_twice_and_raises_the_version_once(world: World) -> None:
    a, _ = await joined(world, "a")
    await joined(world, "b")
    assert await a.bury("b-1", 0)
    view = await a.view()
    assert await a.bury("b-1", 0)
    assert await a.bury("never-was", 0)
    assert await a.view() == view
    assert [m.host_id for m in view.members] == ["a"]


@in_asyncio
async def test_buried_host_is_fenced_from_all_it_does_for_itself(world: World) -> None:
    a, me = await joined(world, "a")
    b, _ = await joined(world, "b")
    epoch = await claimed(a, me)
    assert await b.bury(me, 0)
    for call in (
        a.renew(me, 1),
        a.heartbeat(me, Load()),
        a.claim(me, [Claim("Counter/b")]),
        a.release(me, [(ACTOR, epoch)]),
        a.save(me, ACTOR, epoch, 1, b""),
        a.forget(me, ACTOR, epoch),
        a.set_member(me, ready=True),
        a.join(member("a")),
    ):
        with pytest.raises(Fenced):
            await call
    assert await a.leave(me) == await b.view()


# Claims


@in_asyncio
async def test_two_hosts_claim_one_actor_a_thousand_times_and_one_wins(world: World) -> None:
    hosts = [await joined(world, name) for name in ("a", "b")]
    epochs, wins = [0], dict.fromkeys((me for _, me in hosts), 0)
    for race in range(RACES):
        order = hosts if race % 2 else hosts[::-1]
        answers = await asyncio.gather(*(r.claim(me, [Claim(ACTOR)]) for r, me in order))
        outcome = {me: answer for (_, me), [answer] in zip(order, answers, strict=True)}
        [winner] = [me for me, answer in outcome.items() if isinstance(answer, Claimed)]
        [loser] = [me for me in outcome if me != winner]
        won = outcome[winner]
        assert isinstance(won, Claimed)
        assert outcome[loser] == Held(Location(winner, won.epoch))
        epochs.append(won.epoch)
        wins[winner] += 1
        [owner] = [registry for registry, me in hosts if me == winner]
        await owner.release(winner, [(ACTOR, won.epoch)])
    assert epochs == sorted(set(epochs))
    assert sum(wins.values()) == RACES


@in_asyncio
async def test_claims_are_answered_in_the_order_asked(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    taken = [Claim(f"K/{n}") for n in range(0, 3000, 3)]
    await b.claim(other, taken)
    answers = await a.claim(me, [Claim(f"K/{n}") for n in range(3000)])
    assert [isinstance(answer, Held) for answer in answers] == [n % 3 == 0 for n in range(3000)]
    locations = await a.locate([f"K/{n}" for n in range(3001)])
    assert locations.pop() is None
    holders = [location and location.incarnation for location in locations]
    assert holders == [other if n % 3 == 0 else me for n in range(3000)]


@in_asyncio
async def test_claim_of_ones_own_actor_succeeds_with_a_higher_epoch(world: World) -> None:
    a, me = await joined(world, "a")
    first = await claimed(a, me)
    assert await claimed(a, me) > first


@in_asyncio
async def test_actor_named_twice_in_one_call_gets_two_epochs(world: World) -> None:
    a, me = await joined(world, "a")
    first, second = await a.claim(me, [Claim(ACTOR), Claim(ACTOR)])
    assert isinstance(first, Claimed)
    assert isinstance(second, Claimed)
    assert second.epoch > first.epoch
    assert await a.locate([ACTOR]) == [Location(me, second.epoch)]


@in_asyncio
async def test_actor_of_a_live_host_is_held_and_of_a_dead_one_is_free(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    epoch = await claimed(b, other)
    assert await a.claim(me, [Claim(ACTOR)]) == [Held(Location(other, epoch))]
    assert await a.bury(other, 0)
    assert await a.locate([ACTOR]) == [Location(other, epoch)]
    assert await claimed(a, me) > epoch


@in_asyncio
async def test_actors_of_a_host_that_left_are_free(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    epoch = await claimed(b, other)
    await b.leave(other)
    assert await claimed(a, me) > epoch


@in_asyncio
async def test_claims_after_leaving_are_fenced(world: World) -> None:
    a, me = await joined(world, "a")
    await a.leave(me)
    with pytest.raises(Fenced):
        await a.claim(me, [Claim(ACTOR)])


@in_asyncio
async def test_concurrent_claims_of_one_host_all_succeed(world: World) -> None:
    a, me = await joined(world, "a")
    answers = await asyncio.gather(*(a.claim(me, [Claim(f"K/{n % 50}")]) for n in range(200)))
    epochs: dict[int, list[int]] = {}
    for n, [answer] in enumerate(answers):
        assert isinstance(answer, Claimed)
        epochs.setdefault(n % 50, []).append(answer.epoch)
    for of_one_actor in epochs.values():
        assert of_one_actor == sorted(set(of_one_actor))


@in_asyncio
async def test_no_claims_at_all_are_no_answers(world: World) -> None:
    a, me = await joined(world, "a")
    assert await a.claim(me, []) == []
    assert await a.locate([]) == []
    await a.release(me, [])


@in_asyncio
async def test_release_frees_exactly_what_it_names(world: World) -> None:
    a, me = await joined(world, "a")
    old, other = await claimed(a, me), await claimed(a, me, "Counter/b")
    new = await claimed(a, me)
    await a.release(me, [(ACTOR, old), ("Counter/b", other), ("Counter/c", 1)])
    assert await a.locate([ACTOR, "Counter/b"]) == [Location(me, new), None]
    await a.release(me, [(ACTOR, new)])
    await a.release(me, [(ACTOR, new)])
    assert await a.locate([ACTOR]) == [None]


# Saved states


@in_asyncio
async def test_saved_state_comes_back_with_the_next_claim(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    epoch = await claimed(a, me)
    assert await a.load(ACTOR) is None
    data = bytes(range(256)) * 4 + b":1:2:"
    assert await a.save(me, ACTOR, epoch, 1, data)
    await a.release(me, [(ACTOR, epoch)])
    stored = Stored(epoch, 1, data)
    assert await b.load(ACTOR) == stored
    free, [answer] = "Counter/free", await b.claim(other, [Claim(ACTOR)])
    assert isinstance(answer, Claimed)
    assert answer.stored == stored
    mixed = await b.claim(other, [Claim(free), Claim(ACTOR), Claim("Counter/free2")])
    assert [c.stored for c in mixed if isinstance(c, Claimed)] == [None, stored, None]


@in_asyncio
async def test_save_of_one_who_is_not_the_owner_is_refused(world: World) -> None:
    a, me = await joined(world, "a")
    b, other = await joined(world, "b")
    stale = await claimed(a, me)
    epoch = await claimed(a, me)
    assert await a.save(me, ACTOR, epoch, 1, b"right")
    assert not await a.save(me, ACTOR, stale, 9, b"stale epoch")
    assert not await b.save(other, ACTOR, epoch, 9, b"stranger")
    assert not await a.save(me, "Counter/never-claimed", epoch, 1, b"")
    await a.release(me, [(ACTOR, epoch)])
    assert not await a.save(me, ACTOR, epoch, 9, b"released")
    assert await a.load(ACTOR) == Stored(epoch, 1, b"right")


@in_asyncio
async def test_save_twice_is_true_twice_and_an_older_one_is_refused(world: World) -> None:
    a, me = await joined(world, "a")
    epoch = await claimed(a, me)
    assert await a.save(me, ACTOR, epoch, 10, b"ten")
    assert await a.save(me, ACTOR, epoch, 10, b"ten")
    assert not await a.save(me, ACTOR, epoch, 9, b"nine")
    assert await a.load(ACTOR) == Stored(epoch, 10, b"ten")
    epoch = await claimed(a, me)
    assert await a.save(me, ACTOR, epoch, 1, b"one")
    assert await a.load(ACTOR) == Stored(epoch, 1, b"one")


@in_asyncio
async def test_forget_releases_and_deletes_at_once_and_only_for_the_owner(world: World) -> None:
    a, me = await joined(world, "a")
    epoch = await claimed(a, me)
    await a.save(me, ACTOR, epoch, 1, b"state")
    assert not await a.forget(me, ACTOR, epoch - 1)
    assert await a.load(ACTOR) is not None
    assert await a.forget(me, ACTOR, epoch)
    assert await a.load(ACTOR) is None
    assert await a.locate([ACTOR]) == [None]
    assert not await a.forget(me, ACTOR, epoch)


# Listing


@in_asyncio
async def test_pages_together_list_every_actor_of_the_prefix_once(world: World) -> None:
    a, me = await joined(world, "a")
    names = [f"Counter/{n}" for n in range(250)] + [f"Count/{n}" for n in range(50)]
    await a.claim(me, [Claim(name) for name in names])
    found, cursor, pages = [], "", 0
    while cursor or not pages:
        page, cursor = await a.list_actors("Counter/", 20, cursor)
        assert page or not cursor
        found += page
        pages += 1
    assert sorted(name for name, _ in found) == sorted(names[:250])
    assert {location.incarnation for _, location in found} == {me}
    assert pages > 5


@in_asyncio
async def test_names_of_any_kind_are_kept_apart(world: World) -> None:
    a, me = await joined(world, "a")
    names = ["K/ü", "K/u", "K/a b", "K/a:b", "K/" + "x" * 512, "K/" + "x" * 511, "K/%", "K/*"]
    for name in names:
        epoch = await claimed(a, me, name)
        await a.save(me, name, epoch, 1, name.encode())
    listed, _ = await a.list_actors("K/", 100, "")
    assert sorted(name for name, _ in listed) == sorted(names)
    for name in names:
        stored = await a.load(name)
        assert stored is not None
        assert stored.data == name.encode()


# Generations


@pytest.mark.parametrize("keep_data", [True, False], ids=["with data", "empty"])
@in_asyncio
async def test_restarted_server_begins_a_generation_in_which_old_claims_are_void(
    world: World, keep_data: bool
) -> None:
    a, me = await joined(world, "a")
    before, epoch = await a.view(), await claimed(a, me)
    await a.save(me, ACTOR, epoch, 1, b"state")
    await world.restart(keep_data=keep_data)
    with pytest.raises(StaleGeneration) as stale:
        await a.save(me, ACTOR, epoch, 2, b"late")
    assert stale.value.view.generation > before.generation
    assert stale.value.view.members == ()
    with pytest.raises(Fenced):
        await a.save(me, ACTOR, epoch, 2, b"late")
    with pytest.raises(Fenced):
        await a.renew(me, 5)
    assert await a.load(ACTOR) == (Stored(epoch, 1, b"state") if keep_data else None)


@in_asyncio
async def test_a_claim_for_a_generation_is_void_in_a_later_one_that_its_host_has_joined(
    world: World,
) -> None:
    a, _ = await joined(world, "a")
    before = a.generation
    await world.restart(keep_data=True)
    await a.view()
    await a.join(member("a", incarnation="a-2"))
    assert a.generation > before
    with pytest.raises(StaleGeneration):
        await a.claim("a-2", [Claim(ACTOR)], before)
    assert await a.locate([ACTOR]) == [None]
    [won] = await a.claim("a-2", [Claim(ACTOR)], a.generation)
    assert isinstance(won, Claimed)


@in_asyncio
async def test_epochs_never_go_backward_across_generations(world: World) -> None:
    a, me = await joined(world, "a")
    epochs = [await claimed(a, me)]
    for keep_data in (True, False, True):
        await world.restart(keep_data=keep_data)
        await a.view()
        me = f"a-{len(epochs) + 1}"
        await a.join(member("a", incarnation=me))
        epochs.append(await claimed(a, me))
    assert epochs == sorted(set(epochs))


@in_asyncio
async def test_each_host_is_told_of_a_new_generation_once(world: World) -> None:
    a, _ = await joined(world, "a")
    b, _ = await joined(world, "b")
    await world.restart(keep_data=True)
    for registry in (a, b):
        with pytest.raises(StaleGeneration):
            await registry.locate([ACTOR])
        assert await registry.locate([ACTOR]) == [None]


@in_asyncio
async def test_asking_for_the_view_or_joining_takes_up_the_new_generation(world: World) -> None:
    a, _ = await joined(world, "a")
    b, _ = await joined(world, "b")
    await world.restart(keep_data=True)
    view = await a.view()
    assert await a.locate([ACTOR]) == [None]
    joined_view = await b.join(member("b", incarnation="b-2"))
    assert joined_view.generation == view.generation
    assert [m.incarnation for m in joined_view.members] == ["b-2"]


@in_asyncio
async def test_newcomer_takes_up_whatever_generation_there_is(world: World) -> None:
    await joined(world, "a")
    await world.restart(keep_data=True)
    b, other = await joined(world, "b")
    assert await claimed(b, other)
