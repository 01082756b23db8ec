"""Tells in a row wait as bare payloads and share what a turn needs: nobody must be able to tell."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import actors
import actors.testing
from actors import Actor, SystemConfig, handler
from actors.activation import Activation
from actors.ref import id_of
from actors.rows import PASS_S, TOLD_PER_LOOK, TOLD_PER_PASS
from actors.workers import Worker, WorkerPool
from tests.unit.actors.cluster_kit import key_owned_by

MAILBOX_MAX = 20


class Log(Actor, mailbox_max=MAILBOX_MAX):
    """Writes down what it is told: by whom, and what."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.deepest = 0

    def _note(self, who: str, n: int) -> None:
        self.deepest = max(self.deepest, self._activation.depth)
        self.seen.append((who, n))

    @handler
    async def note(self, who: str, n: int) -> None:
        self._note(who, n)

    @handler
    def plain(self, who: str, n: int = 0, *, odd: bool = False) -> None:
        self._note(who, n)

    @handler
    async def slow(self, who: str, n: int) -> None:
        self._note(who, n)
        await trio.sleep(0.1)

    @handler
    async def fails(self, who: str, n: int) -> None:
        self._note(who, n)
        raise RuntimeError("told to fail")

    @handler(reentrant=True)
    async def peek(self) -> int:
        return len(self.seen)

    @handler(reentrant=True)
    async def linger(self) -> None:
        await trio.sleep(0.5)

    @handler
    async def all(self) -> list[tuple[str, int]]:
        return self.seen

    @handler
    async def most(self) -> int:
        return self.deepest


ran: list[int] = []


class Restarts(Actor, on_error="restart"):
    @handler
    async def note(self, n: int) -> None:
        ran.append(n)
        if n == 3:
            raise RuntimeError("three is too many")


class Fails(Restarts, on_error="stop"):
    pass


lent: Log


class Teller(Actor):
    """Another sender."""

    async def on_activate(self) -> None:
        self.set_timer(self.tick, 0.1)

    async def tick(self) -> None: ...

    @handler
    async def tell(self, to: Log, n: int, count: int) -> None:
        for each in range(n, n + count):
            await to.note.tell("teller", each)

    @handler
    async def lend(self, n: int, count: int = 1) -> None:
        for each in range(n, n + count):
            await lent.note.tell("teller", each)

    @handler
    async def pass_on(self, to: Log, n: int) -> None:
        await to.note.tell("teller", n)


#: What a program does next: how, and how often in a row.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["note", "plain", "slow", "fails", "default", "named", "headers", "deadline", "nowait",
             "ask", "peek", "teller", "pass on", "mistake", "pause", "fresh ref"]
        ),
        st.integers(1, 2 * MAILBOX_MAX),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


class Program:
    """One task that tells; several are one sender, the system's root."""

    def __init__(self, system: actors.System, name: str) -> None:
        self.name = name
        self.system = system
        self.log = system.ref(Log, "log")
        self.teller = system.ref(Teller, name)
        self.told: list[int] = []  # in this order, on the way that keeps it
        self.n = 0

    async def run(self, steps: Sequence[tuple[str, int]]) -> None:
        for what, count in steps:
            for _ in range(count):
                self.n += 1
                if await self._step(what):
                    self.told.append(self.n)

    async def _step(self, what: str) -> bool:
        """Whether a message has gone to the log in this program's name."""
        log, name, n = self.log, self.name, self.n
        told = {"note": log.note, "plain": log.plain, "slow": log.slow, "fails": log.fails}
        if what in told:
            await told[what].tell(name, n)
            return True
        match what:
            case "default":
                await log.plain.tell(name)
            case "named":
                await log.note.tell(n=n, who=name)
                return True
            case "headers":
                await log.note.with_options(headers={"trace": "1"}).tell(name, n)
                return True
            case "deadline":
                await log.note.with_options(timeout_s=60).tell(name, n)
                return True
            case "nowait":
                try:
                    log.note.tell_nowait(name, n)
                except actors.MailboxFull:
                    return False
                return True
            case "ask":
                await log.note(name, n)
                return True
            case "peek":
                await log.peek()
            case "teller":
                await self.teller.tell.tell(log, n, 3)
            case "pass on":
                await self.teller.pass_on.tell(log, n)
            case "mistake":
                await log.note.tell(name, "x")  # type: ignore[arg-type]
            case "pause":
                await trio.sleep(0.01)
            case "fresh ref":
                self.log = self.system.ref(Log, "log")
        return False


@given(programs=st.lists(STEPS, min_size=1, max_size=3))
def test_whatever_comes_between_each_message_runs_once_and_in_its_order(
    programs: list[list[tuple[str, int]]],
) -> None:
    async def main() -> None:
        async with actors.open_system() as system:
            all_of_them = [Program(system, f"p{n}") for n in range(len(programs))]
            async with trio.open_nursery() as nursery:
                for program, steps in zip(all_of_them, programs, strict=True):
                    nursery.start_soon(program.run, steps)
            await trio.sleep(60)  # what tellers were told is with the log now
            seen = await all_of_them[0].log.all()
            for program in all_of_them:
                ran = [n for who, n in seen if who == program.name and n]
                assert ran == program.told
            told = [n for who, n in seen if who == "teller"]
            assert len(told) == sum(
                count * {"teller": 3, "pass on": 1}.get(what, 0)
                for steps in programs
                for what, count in steps
            )
            peeks = sum(any(what == "peek" for what, _ in steps) for steps in programs)
            assert await all_of_them[0].log.most() <= MAILBOX_MAX + peeks  # which need no room
            activation = system.activations[id_of(all_of_them[0].log)]
            await wait_all_tasks_blocked()
            assert activation.row is None  # an idle actor keeps none
            assert activation.queue is None

    trio.run(main, clock=MockClock(autojump_threshold=0))


def activation_of(system: actors.System, ref: object) -> Activation:
    return system.activations[id_of(ref)]


async def _fill(system: actors.System, count: int) -> Log:
    """A turn that lasts 0.1 s, and behind it a row of that many."""
    log = system.ref(Log, "log")
    await log.slow.tell("first", 0)
    await wait_all_tasks_blocked()
    for n in range(count):
        await log.note.tell("row", n)
    return log


async def test_tells_behind_a_busy_turn_are_a_row_and_one_more_message_ends_it(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        log = await _fill(system, 6)
        activation = system.activations[id_of(log)]
        row = activation.row
        assert row is not None
        assert len(row.payloads) == 5  # the first by itself is none
        assert activation.depth == 6
        await log.plain.tell("other", 0)
        assert activation.row is None
        assert activation.depth == 7
        assert not row.take(b"")
        assert await log.all() == [("first", 0), *(("row", n) for n in range(6)), ("other", 0)]


async def test_a_row_fills_a_mailbox_like_any_messages(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        log = await _fill(system, MAILBOX_MAX)
        with pytest.raises(actors.MailboxFull):
            log.note.tell_nowait("row", MAILBOX_MAX)
        began_s = trio.current_time()
        await log.note.tell("row", MAILBOX_MAX)  # waits for the slow turn
        assert trio.current_time() - began_s == pytest.approx(0.1)
        assert [n for who, n in await log.all() if who == "row"] == list(range(MAILBOX_MAX + 1))


SLOW = MAILBOX_MAX + 3


async def _fill_slowly(system: actors.System) -> Log:
    """A full mailbox, all of it a row, of which one turn of 0.1 s runs; at 0.25 s."""
    log = system.ref(Log, "log")
    for n in range(3):
        await log.slow.tell("row", n)
        await wait_all_tasks_blocked()  # one by itself is none, and neither is the first behind it
    await trio.sleep(0.15)
    for n in range(3, SLOW - 2):
        await log.slow.tell("row", n)
    await trio.sleep(0.1)
    for n in range(SLOW - 2, SLOW):
        await log.slow.tell("row", n)
    activation = activation_of(system, log)
    assert activation.row is not None
    assert activation.depth == len(activation.row.payloads) == MAILBOX_MAX
    return log


async def test_each_turn_of_a_row_makes_room_for_one_that_waits(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        log = await _fill_slowly(system)
        for n in range(3):
            await log.note.tell("waits", n)
            assert trio.current_time() == pytest.approx(0.3 + 0.1 * n)
        await log.all()


async def test_a_stop_lets_a_row_run_first(autojump_clock: MockClock) -> None:
    async with actors.open_system() as system:
        log = await _fill_slowly(system)
        seen = activation_of(system, log).actor.seen  # type: ignore[attr-defined]
        await system.stop(log)
        assert trio.current_time() == pytest.approx(0.1 * SLOW)
        assert [n for _, n in seen] == list(range(SLOW))


@pytest.mark.parametrize("kind", ["restarts", "fails"])
async def test_a_row_ends_with_the_life_of_its_actor(autojump_clock: MockClock, kind: str) -> None:
    async with actors.open_system() as system:
        weak = system.ref(Restarts if kind == "restarts" else Fails, "a")
        await weak.note(0)
        ran.clear()
        for n in range(1, 6):
            await weak.note.tell(n)
        await trio.sleep(10)
        # One that failed is gone with what waited; one that restarts goes on behind the crash.
        assert ran == ([1, 2, 3, 4, 5] if kind == "restarts" else [1, 2, 3])


async def test_a_handle_that_two_senders_share_keeps_their_rows_apart(
    autojump_clock: MockClock,
) -> None:
    global lent
    async with actors.open_system() as system:
        lent = await _fill(system, 3)
        teller = system.ref(Teller, "t")
        await teller.lend(1)
        row = system.activations[id_of(lent)].row
        assert row is None or row.sender is system.activations[id_of(teller)]
        assert await lent.all() == [
            ("first", 0), ("row", 0), ("row", 1), ("row", 2), ("teller", 1)
        ]  # fmt: skip


async def test_a_row_wakes_no_worker_that_looks_for_reentrant_messages(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0
    run = WorkerPool.run

    def counted(pool: WorkerPool, activation: Activation, at_once: bool = False) -> Worker:
        nonlocal runs
        runs += 1
        assert runs < 20, "workers come and go and find nothing to do"
        return run(pool, activation, at_once)

    monkeypatch.setattr(WorkerPool, "run", counted)
    async with actors.open_system() as system:
        log = system.ref(Log, "log")
        await log.peek()
        for n in range(4):
            await log.slow.tell("row", n)
        await trio.sleep(1)
        assert len(await log.all()) == 4


@pytest.mark.parametrize("is_local", [True, False])
async def test_a_row_follows_its_actor_to_another_host(
    autojump_clock: MockClock, is_local: bool
) -> None:
    async with actors.testing.open_cluster([Log], hosts=3) as cluster:
        stays, leaves = cluster.hosts[0], cluster.hosts[2]
        log = (leaves if is_local else stays).ref(Log, key_owned_by(leaves, Log))
        before, after = range(MAILBOX_MAX), range(MAILBOX_MAX, 2 * MAILBOX_MAX)
        for _ in range(3):
            await log.slow.tell("first", 0)
        for n in before:
            await log.note.tell("row", n)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.drain, leaves)
            if not is_local:
                for n in after:
                    await log.note.tell("row", n)
        log = stays.ref(Log, log.key)
        sent = [*before, *after] if not is_local else [*before]
        assert [n for who, n in await log.all() if who == "row"] == sent


class Sink(Actor):
    @handler
    async def put(self, n: int) -> None:
        await trio.sleep(0.01)
        put[self.id.key].append((self.system.host_id, n))


put: dict[str, list[tuple[str, int]]] = defaultdict(list)


async def test_rows_keep_their_order_while_actors_move_to_a_new_host(
    autojump_clock: MockClock,
) -> None:
    put.clear()
    told: dict[str, int] = {}
    async with actors.testing.open_cluster([Sink], hosts=1) as cluster:
        first = cluster.hosts[0]

        async def tell(key: str) -> None:
            sink, rng = first.ref(Sink, key), Random(key)
            for n in range(1_500):
                await sink.put.tell(n)
                told[key] = n + 1
                if rng.random() < 0.04:
                    await trio.sleep(rng.choice((0.0, 0.1, 0.6)))

        async with trio.open_nursery() as nursery:
            for n in range(12):
                nursery.start_soon(tell, f"k{n}")
            await trio.sleep(1)
            await cluster.add_host()
        await trio.sleep(20)
        for key, count in told.items():
            assert [n for _, n in put[key]] == list(range(count))
        moved = [key for key, found in put.items() if len({host for host, _ in found}) == 2]
        assert len(moved) > 2


class Loops(Actor):
    """Each turn starts a task elsewhere that asks this very actor, and does not wait for it."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.errors: list[BaseException] = []

    async def _ask(self, me: Loops, n: int) -> None:
        await tasks_may_ask.wait()
        try:
            self.answers.append(await me.echo(n))
        except actors.RoostError as exc:
            self.errors.append(exc)

    @handler
    async def start(self, me: Loops, n: int) -> None:
        elsewhere.start_soon(self._ask, me, n)
        if n == ROW - 1:
            tasks_may_ask.set()  # they all ask while this turn runs
            await trio.sleep(1)

    @handler
    async def ask_itself(self, me: Loops, n: int) -> None:
        try:
            await me.echo(n)
        except actors.RoostError as exc:
            self.errors.append(exc)

    @handler
    async def echo(self, n: int) -> int:
        return n

    @handler(reentrant=True)
    def found(self) -> tuple[list[int], list[str]]:
        return sorted(self.answers), [str(e) for e in self.errors]


ROW = 10
elsewhere: trio.Nursery
tasks_may_ask: trio.Event


async def test_a_task_that_a_turn_started_is_not_taken_for_a_later_turn(
    autojump_clock: MockClock,
) -> None:
    """Turns of a row share an in-call; a task that has a copy of its context ends that."""
    global elsewhere, tasks_may_ask
    tasks_may_ask = trio.Event()
    async with trio.open_nursery() as elsewhere, actors.open_system() as system:
        loops = system.ref(Loops, "a")
        await loops.echo(0)
        for n in range(ROW):
            await loops.start.tell(loops, n)
        await trio.sleep(2)
        answers, errors = await loops.found()
        # The last turn's own task asks what that turn is busy with: that is a cycle, as ever.
        assert answers == list(range(ROW - 1))
        assert len(errors) == 1
        assert "waits for a call that waits for it" in errors[0]


async def test_a_turn_of_a_row_that_asks_its_own_actor_is_a_cycle(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        loops = system.ref(Loops, "a")
        await loops.echo(0)
        for n in range(ROW):
            await loops.ask_itself.tell(loops, n)
        await trio.sleep(1)
        _, errors = await loops.found()
        assert len(errors) == ROW
        assert trio.current_time() == pytest.approx(1)


async def test_a_row_does_not_keep_others_from_running() -> None:
    """Neither who tells nor who runs what was told goes on for ever."""
    spins = 0

    async def spin() -> None:
        nonlocal spins
        while True:
            await trio.lowlevel.checkpoint()
            spins += 1

    config = SystemConfig(mailbox_max=100_000)
    async with actors.open_system(config=config) as system, trio.open_nursery() as nursery:
        nursery.start_soon(spin)
        loops = system.ref(Loops, "a")
        await loops.echo(0)
        count = 20 * TOLD_PER_PASS
        for n in range(count):
            await loops.echo.tell(n)
        assert spins >= 19
        spins = 0
        await loops.echo(0)
        nursery.cancel_scope.cancel()


class Busy(Actor):
    """Each turn takes a while of the processor, and gives no way."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    @handler
    async def work(self) -> None:
        busy_clock.jump(PASS_S / 16)
        self.seen.append(spins)

    @handler
    def all(self) -> list[int]:
        return self.seen


busy_clock: MockClock
spins = 0


async def test_a_row_of_long_turns_gives_way_by_time(mock_clock: MockClock) -> None:
    global busy_clock
    busy_clock = mock_clock

    async def spin() -> None:
        global spins
        while True:
            await trio.lowlevel.checkpoint()
            spins += 1

    async with actors.open_system() as system, trio.open_nursery() as nursery:
        busy = system.ref(Busy, "a")
        await busy.all()
        nursery.start_soon(spin)
        for _ in range(4 * TOLD_PER_PASS):
            await busy.work.tell()
        at_once = Counter(await busy.all())
        # Trio may run the one last in one pass and first in the next.
        assert max(at_once.values()) <= 2 * TOLD_PER_LOOK + 2
        nursery.cancel_scope.cancel()


async def test_no_turn_of_a_row_begins_once_the_host_serves_no_more(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        log = await _fill_slowly(system)
        seen = activation_of(system, log).actor.seen  # type: ignore[attr-defined]
        await trio.sleep(0.1)
        system.serving = False
        count = len(seen)
        await trio.sleep(1)
        assert len(seen) == count


async def test_no_turn_of_a_row_begins_beside_a_reentrant_one(autojump_clock: MockClock) -> None:
    """As with any other messages: one at a time, and reentrant ones beside them."""
    async with actors.open_system() as system:
        log = await _fill_slowly(system)
        seen = activation_of(system, log).actor.seen  # type: ignore[attr-defined]
        async with trio.open_nursery() as nursery:
            await trio.sleep(0)
            count = len(seen)
            nursery.start_soon(log.linger)  # ends 0.5 s from now; what ran when it came, earlier
            await trio.sleep(0.45)
            assert len(seen) == count
        assert len(await log.all()) == SLOW


async def test_an_error_in_a_row_is_logged_and_the_rest_runs(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with actors.open_system() as system:
        log = await _fill(system, 0)
        for n in range(3):
            await log.fails.tell("fails", n)
        assert [n for who, n in await log.all() if who == "fails"] == [0, 1, 2]
    assert caplog.text.count("Log/log.fails raised, and nobody waits for it") == 3


async def test_a_mistake_in_a_row_is_its_callers_and_no_crash(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where decoding itself finds it: a ref that names nothing."""

    class Meets(Actor, on_error="stop"):
        @handler
        async def meet(self, other: Log) -> None: ...

        @handler
        async def lives(self) -> bool:
            return True

    async with actors.open_system() as system:
        meets = system.ref(Meets, "a")
        await meets.lives()
        activation = activation_of(system, meets)
        for _ in range(5):
            await meets.meet.tell({"$ref": "no id"})  # type: ignore[arg-type]
        await trio.sleep(0.1)
        assert await meets.lives()
        assert activation_of(system, meets) is activation
    assert caplog.text.count("Meets/a was told, and did not run: actor 'no id'") == 5


class Threads(Actor):
    """Leaves a thread behind, which asks this very actor while a later turn runs."""

    @handler
    async def start(self, me: Threads, n: int) -> None:
        if n == 1:
            with trio.move_on_after(0.05):
                await trio.to_thread.run_sync(self._later, me, abandon_on_cancel=True)
        if n == ROW - 1:
            thread_may_ask.set()
            while not (thread_heard or self._activation.depth):  # the thread asks within this turn
                await trio.sleep(0.001)

    def _later(self, me: Threads) -> None:
        thread_may_ask.wait()
        try:
            thread_heard.append(trio.from_thread.run(me.echo, 7))
        except actors.RoostError as exc:
            thread_heard.append(exc)

    @handler
    async def echo(self, n: int) -> int:
        return n


thread_may_ask: threading.Event
thread_heard: list[object] = []


async def test_a_thread_that_a_turn_left_behind_is_not_taken_for_a_later_turn() -> None:
    global thread_may_ask
    thread_may_ask = threading.Event()
    thread_heard.clear()
    async with actors.open_system() as system:
        ref = system.ref(Threads, "a")
        await ref.echo(0)
        for n in range(ROW):
            await ref.start.tell(ref, n)
        with trio.fail_after(5):
            while not thread_heard:
                await trio.sleep(0.001)
    assert thread_heard == [7]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nothing refers to goes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
async def test_what_has_ended_is_let_go_though_a_handle_keeps_its_last_row(
    autojump_clock: MockClock,
) -> None:
    async with actors.open_system() as system:
        log = system.ref(Log, "log")
        await log.peek()
        teller = system.ref(Teller, "t")
        global lent
        lent = log
        await teller.lend(0, 5)
        await trio.sleep(1)  # its timer too has fired
        gone = [weakref.ref(activation_of(system, each).actor) for each in (teller, log)]
        await system.stop(teller)
        await system.stop(log)
        await system.ref(Loops, "x").echo(0)  # the claimer has no eyes for the last one now
        assert [each() for each in gone] == [None, None]
        found = [a for a in gc.get_objects() if isinstance(a, Activation) and a.id.kind in KINDS]
        assert found == []


KINDS = ("Log", "Teller")
