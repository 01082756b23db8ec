"""How actors start, stop, passivate, and what they keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
from actors import Actor, Reason, SystemConfig, handler
from placement.memory import MemoryStore

log: list[Any] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Sums(msgspec.Struct):
    total: int = 0


class Counter(Actor, idle_after_s=10):
    state: Sums

    async def on_activate(self) -> None:
        log.append(("activate", self.key, self.state.total))

    async def on_deactivate(self, reason: Reason) -> None:
        log.append(("deactivate", self.key, reason))

    @handler
    async def add(self, n: int = 1) -> int:
        self.state.total += n
        return self.state.total

    @handler
    async def slow_add(self, n: int, seconds: float) -> int:
        await trio.sleep(seconds)
        return await self.add(n)

    @handler
    async def leave(self) -> None:
        self.passivate()

    @handler
    async def keep(self) -> None:
        await self.save()

    @handler
    async def my_epoch(self) -> int:
        return self.epoch


class Durable(Counter, persist="turn"):
    pass


# Passivation ------------------------------------------------------------------------------


async def test_an_idle_actor_is_passivated_and_its_next_message_finds_its_state(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Counter, "a")
        assert await ref.add(3) == 3
        await trio.sleep(11)
        assert log == [("activate", "a", 0), ("deactivate", "a", Reason.IDLE)]
        assert not system.activations
        assert await ref.add(4) == 7
        assert log[2:] == [("activate", "a", 3)]


async def test_an_actor_that_gets_messages_stays(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Counter, "a")
        for _ in range(10):
            await ref.add()
            await trio.sleep(8)
        assert log == [("activate", "a", 0)]


async def test_an_actor_with_a_handler_at_work_is_not_idle(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = actors.with_timeout(system.ref(Counter, "a"), 100)
        assert await ref.slow_add(1, 50) == 1
        assert log == [("activate", "a", 0)]


async def test_idle_after_s_zero_means_never(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(idle_after_s=0)) as system:

        class Stays(Actor):
            @handler
            async def hi(self) -> None: ...

        await system.ref(Stays, "a").hi()
        await trio.sleep(1e5)
        assert len(system.activations) == 1


async def test_passivate_runs_what_waits_first(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Counter, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.slow_add, 1, 1.0)
            await trio.sleep(0.5)
            nursery.start_soon(ref.leave)
            await wait_all_tasks_blocked()
            await ref.add.tell(5)
        await trio.sleep(1)
        assert log == [("activate", "a", 0), ("deactivate", "a", Reason.IDLE)]
        assert await ref.add(0) == 6


class SlowToLeave(Actor, idle_after_s=1):
    state: Sums

    async def on_deactivate(self, reason: Reason) -> None:
        log.append("leaving")
        await trio.sleep(2)
        self.state.total += 100

    @handler
    async def add(self, n: int) -> int:
        self.state.total += n
        log.append(n)
        return self.state.total

    @handler
    async def leave(self) -> None:
        self.passivate()


async def test_messages_that_come_during_passivation_run_after_it_in_order(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(SlowToLeave, "a")
        await ref.leave()
        await trio.sleep(1)
        assert log == ["leaving"]
        for n in range(1, 5):
            await ref.add.tell(n)
        assert await ref.add(5) == 115
        assert log == ["leaving", 1, 2, 3, 4, 5]


async def test_a_message_at_any_moment_of_passivation_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(SlowToLeave, "a")
        for step in range(60):
            await ref.leave.tell()
            for _ in range(step % 12):
                await trio.lowlevel.checkpoint()
            await trio.sleep((step // 12) * 0.5)
            await ref.add(1)
        assert [entry for entry in log if entry == 1] == [1] * 60


async def test_an_epoch_grows_with_each_activation(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref, epochs = system.ref(Counter, "a"), []
        for _ in range(4):
            epochs.append(await ref.my_epoch())
            await system.stop(ref)
        assert epochs == sorted(set(epochs))


# Stopping ---------------------------------------------------------------------------------


async def test_stop_lets_waiting_messages_run_saves_and_says_true(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Counter, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.slow_add, 1, 1.0)
            await wait_all_tasks_blocked()
            await ref.add.tell(2)
            assert await system.stop(ref) is True
        assert log[-1] == ("deactivate", "a", Reason.STOPPED)
        assert await ref.add(0) == 3


async def test_stopping_what_does_not_run_says_false(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        assert await system.stop(system.ref(Counter, "a")) is False
        assert log == []


async def test_two_stops_at_once_both_say_true(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(SlowToLeave, "a")
        await ref.add(1)
        answers: list[bool] = []

        async def stop() -> None:
            answers.append(await system.stop(ref))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await trio.sleep(0.5)
            nursery.start_soon(stop)
        assert answers == [True, True]


async def test_a_stop_during_passivation_says_true(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(SlowToLeave, "a")
        await ref.leave()
        await trio.sleep(1)
        assert await system.stop(ref) is True
        assert not system.activations


async def test_a_closing_system_stops_every_actor_and_saves_its_state(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        for n in range(5):
            await system.ref(Counter, str(n)).add(n)
    assert sorted(e for e in log if e[0] == "deactivate") == [
        ("deactivate", str(n), Reason.SHUTDOWN) for n in range(5)
    ]
    async with actors.open_system(store=store) as system:
        assert [await system.ref(Counter, str(n)).add(0) for n in range(5)] == [0, 1, 2, 3, 4]


async def test_a_cancelled_system_stops_its_actors_all_the_same(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    with trio.move_on_after(5):
        async with actors.open_system(store=store) as system:
            await system.ref(Counter, "a").add(9)
            await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(5)
    assert log[-1] == ("deactivate", "a", Reason.SHUTDOWN)
    assert store.stored["Counter/a"].data


async def test_what_the_block_raises_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async def raise_inside(error: BaseException) -> None:
        async with actors.open_system() as system:
            await system.ref(Counter, "a").add()
            raise error

    for error in (KeyError("x"), KeyboardInterrupt(), pytest.fail.Exception("no")):
        with pytest.raises(type(error)) as caught:
            await raise_inside(error)
        assert caught.value is error


class Number(msgspec.Struct):
    value: int = 0


class Text(msgspec.Struct):
    value: str = ""
    added: list[int] = []


class Longer(msgspec.Struct):
    value: int = 0
    added: list[int] = []


def _of_state(state: type[msgspec.Struct]) -> Any:
    async def keep(self: Any, value: int) -> None:
        self.state.value = value

    async def kept(self: Any) -> Any:
        return msgspec.to_builtins(self.state)

    body = {
        "__annotations__": {"state": state}, "__module__": __name__,
        "keep": handler(keep), "kept": handler(kept),
    }  # fmt: skip
    return type("Versioned", (Actor,), body)


async def test_a_state_may_gain_fields_and_one_that_does_not_fit_says_so(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        await system.ref(_of_state(Number), "a").keep(5)
    async with actors.open_system(store=store) as system:
        assert await system.ref(_of_state(Longer), "a").kept() == {"value": 5, "added": []}
    async with actors.open_system(store=store) as system:
        with pytest.raises(actors.ActorFailed, match=r"stored state does not fit.*`\$\.value`"):
            await system.ref(_of_state(Text), "a").kept()


@pytest.mark.parametrize(
    "opened",
    [actors.open_system(), actors.open_host(actors.HostConfig(redis_url="redis://127.0.0.1"))],
    ids=["a system", "a host"],
)
def test_outside_of_trio_opening_says_how_to_get_into_it(
    opened: AbstractAsyncContextManager[object],
) -> None:
    async def main() -> None:
        async with opened:
            pass

    with pytest.raises(RuntimeError, match=r"await actors\.run_in_asyncio"):
        asyncio.run(main())


class Pair(Actor):
    @handler
    async def ping(self, other: Pair) -> None:
        log.append(self.key)
        await other.ping.tell(self.ref)


async def test_actors_that_keep_each_other_busy_do_not_keep_a_system_open(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        await system.ref(Pair, "a").ping.tell(system.ref(Pair, "b"))
        while len(log) < 10:
            await trio.lowlevel.checkpoint()
    assert trio.current_time() < 5


async def test_a_call_on_a_closed_system_fails_at_once(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Counter, "a")
        await ref.add()
    for call in (ref.add, ref.add.tell):
        with pytest.raises(actors.Unavailable):
            await call()
    with pytest.raises(actors.Unavailable):
        ref.add.tell_nowait()


# Hooks that fail or hang ------------------------------------------------------------------


class Fussy(Actor):
    failures = 0

    async def on_activate(self) -> None:
        if Fussy.failures:
            Fussy.failures -= 1
            raise RuntimeError("not today")

    @handler
    async def hi(self) -> str:
        return "hi"


async def test_an_actor_that_cannot_activate_fails_its_callers_and_is_tried_anew(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        Fussy.failures = 2
        ref = system.ref(Fussy, "a")
        for _ in range(2):
            with pytest.raises(actors.ActorFailed, match="RuntimeError: not today"):
                await ref.hi()
        assert await ref.hi() == "hi"
        assert "not today" in system.failures[ref.id][0]


async def test_spawn_of_an_actor_that_cannot_activate_fails(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        Fussy.failures = 1
        with pytest.raises(actors.ActorFailed, match="not today"):
            await system.spawn(Fussy, "a")


class Broken(Actor):
    def __init__(self) -> None:
        raise LookupError("no parts")

    @handler
    async def hi(self) -> None: ...


async def test_an_init_that_raises_fails_the_callers(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.ActorFailed, match="LookupError: no parts"):
            await system.ref(Broken, "a").hi()
        await trio.sleep(1)
        assert not system.activations


class Hanging(Actor):
    async def on_activate(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append("cancelled")

    @handler
    async def hi(self) -> None: ...


async def test_an_on_activate_that_hangs_costs_its_callers_their_deadline(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        with pytest.raises(actors.DeadlineExceeded):
            await actors.with_timeout(system.ref(Hanging, "a"), 3).hi()
        assert trio.current_time() == pytest.approx(3, abs=0.1)
        system.lifecycle.kill(system.activations[system.ref(Hanging, "a").id], Reason.FENCED)
        await system.wait_empty()
        assert log == ["cancelled"]


class Clinging(Actor):
    state: Sums

    async def on_deactivate(self, reason: Reason) -> None:
        self.state.total += 1
        try:
            await trio.sleep_forever()
        finally:
            log.append("let go")

    @handler
    async def total(self) -> int:
        return self.state.total


async def test_an_on_deactivate_that_hangs_is_cancelled_and_the_state_saved(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system(config=SystemConfig(deactivate_timeout_s=2)) as system:
        ref = system.ref(Clinging, "a")
        await ref.total()
        assert await system.stop(ref)
        assert trio.current_time() == pytest.approx(2, abs=0.1)
        assert log == ["let go"]
        assert "on_deactivate took more than 2 s" in system.failures[ref.id][0]
        assert await ref.total() == 1


async def test_a_killed_actor_is_gone_only_when_its_hook_is(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Clinging, "a")
        await ref.total()
        activation = system.activations[ref.id]
        system.lifecycle.stop(activation, Reason.IDLE)
        await trio.sleep(1)
        system.lifecycle.kill(activation, Reason.FENCED)
        assert system.activations
        await system.wait_empty()
        assert log == ["let go"]


class Grumpy(Counter):
    async def on_deactivate(self, reason: Reason) -> None:
        raise RuntimeError("I stay")


async def test_an_on_deactivate_that_raises_does_not_keep_the_state_from_being_saved(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Grumpy, "a")
        await ref.add(5)
        assert await system.stop(ref)
        assert await ref.add(0) == 5


# What is saved ----------------------------------------------------------------------------


async def test_persist_turn_saves_before_the_reply(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        for n in range(1, 4):
            await system.ref(Durable, "a").add(n)
            saved = msgspec.msgpack.decode(store.stored["Durable/a"].data[1:])
            assert saved == {"total": n * (n + 1) // 2}


async def test_otherwise_only_save_and_leaving_save(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        ref = system.ref(Counter, "a")
        await ref.add(1)
        assert "Counter/a" not in store.stored
        await ref.keep()
        first = store.stored["Counter/a"]
        await ref.keep()
        assert store.stored["Counter/a"] == first, "what has not changed is not saved again"
        await ref.add(1)
        await system.stop(ref)
        assert store.stored["Counter/a"].save_no == first.save_no + 1


class Notes(Actor):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def snapshot(self) -> bytes:
        return "\n".join(self.lines).encode()

    def restore(self, snapshot: bytes) -> None:
        self.lines = snapshot.decode().splitlines()

    @handler
    async def write(self, line: str) -> list[str]:
        self.lines.append(line)
        return self.lines


async def test_a_snapshot_takes_the_place_of_state(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        ref = system.ref(Notes, "a")
        await ref.write("one")
        await system.stop(ref)
        assert await ref.write("two") == ["one", "two"]


class Forgetful(Notes):
    def restore(self, snapshot: bytes) -> None:
        raise ValueError("I cannot read this")


async def test_a_restore_that_raises_keeps_the_actor_from_starting_and_the_snapshot_whole(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        await system.ref(Forgetful, "a").write("one")
        await system.stop(system.ref(Forgetful, "a"))
        kept = store.stored["Forgetful/a"]
        with pytest.raises(actors.ActorFailed, match="I cannot read this"):
            await system.ref(Forgetful, "a").write("two")
    assert store.stored["Forgetful/a"] == kept


async def test_a_state_that_no_longer_fits_its_type_is_a_named_failure(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        await system.ref(Durable, "a").add(1)
        before = store.stored["Durable/a"]
    store.stored["Durable/a"] = before._replace(
        data=b"\x01" + msgspec.msgpack.encode({"total": "x"})
    )
    async with actors.open_system(store=store) as system:
        with pytest.raises(actors.ActorFailed, match="Expected `int`, got `str`"):
            await system.ref(Durable, "a").add(1)


class Heavy(Counter):
    @handler
    async def grow(self) -> None:
        self.state.total = "x" * 10_000  # type: ignore[assignment]
        await self.save()


async def test_a_state_over_the_limit_is_an_error_of_the_actor(autojump_clock: MockClock) -> None:
    async with actors.open_system(config=SystemConfig(payload_bytes_max=1000)) as system:
        with pytest.raises(actors.ActorError, match="payload_bytes_max is 1000"):
            await system.ref(Heavy, "a").grow()


class Careless(Counter):
    @handler
    async def spoil(self) -> None:
        self.state.total = "x"  # type: ignore[assignment]

    @handler
    async def keep(self) -> None:
        await self.save()

    @handler
    async def leave(self) -> None:
        await self.system.stop(self.ref)


async def test_a_state_that_could_not_be_read_again_is_not_stored(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    async with actors.open_system(store=store) as system:
        ref = system.ref(Careless, "a")
        await ref.add(1)
        await ref.keep()
        before = store.stored["Careless/a"]
        await ref.spoil()
        with pytest.raises(actors.ActorError, match="does not fit its class: Expected `int`"):
            await ref.keep()
        assert store.stored["Careless/a"] == before
        assert await system.stop(ref)
        assert await ref.add(1) == 2  # it goes on from what was stored


async def test_an_actor_that_waits_for_its_own_end_is_told_so_at_once(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        began = trio.current_time()
        with pytest.raises(actors.ActorError, match="waits for its own end"):
            await system.ref(Careless, "a").leave()
        assert trio.current_time() == began


class Spawned(Actor):
    async def on_spawn(self, name: str, n: int = 0) -> None:
        log.append((name, n))


async def test_spawn_hands_its_arguments_to_on_spawn_each_time(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        await system.spawn(Spawned, "a", "x")
        await system.spawn(Spawned, "a", "y", n=2)
        assert log == [("x", 0), ("y", 2)]
        with pytest.raises(actors.InvalidArgument, match="missing argument 'name'"):
            await system.spawn(Spawned, "a")


class Streamer(Actor):
    @handler
    async def items(self) -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()


async def test_a_stream_under_way_ends_with_its_system(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        stream = system.ref(Streamer, "a").items()
        assert await stream.__anext__() == 1
    with pytest.raises(actors.RoostError):
        await stream.__anext__()


async def test_what_is_cut_short_by_the_end_of_a_system_starts_nothing_anew(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        for n in range(3):
            system.ref(Counter, "a").slow_add.tell_nowait(n, 60)
        await wait_all_tasks_blocked()
    assert [entry[0] for entry in log] == ["activate"], "it was cut short, without its hook"
    assert trio.current_time() < 15
