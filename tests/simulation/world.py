"""The world of a simulation: hosts in one Trio run, and everything that can be done to them.

All chance comes from one generator, so a seed decides the whole run. Who decides what to do is
elsewhere: the seed's storm (storm.py), or Hypothesis (machine.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import trio

from actors import Actor
from actors.service_nursery import open_service_nursery
from placement.ports import RegistryError
from tests.simulation import kinds
from tests.simulation.clock import HostClock
from tests.simulation.events import (
    Answered,
    Called,
    Event,
    Failed,
    Leased,
    LeaseOver,
    Left,
    Misled,
    Noted,
    SentLate,
)
from tests.simulation.freezer import Freezer
from tests.simulation.hosts import SimHost, Sizes
from tests.simulation.network import SimNetwork
from tests.simulation.observer import Observer, observe, stop_observing
from tests.simulation.registry import Road, SimRegistry
from tests.simulation.server import Server
from tests.simulation.weather import FAIR, Weather
from wire.errors import RoostError, Unavailable
from wire.items import Accepted, Chunk, Envelope, Item, Moved, Refused, Reply, Resume, Tells

DRIFT = 0.01
REPLICA_EVERY_S = 0.7
STRANDED_AFTER_S = 0.25  # a reply that is on its way still comes
_LEASED_ITEMS = (Envelope, Tells, Reply, Accepted, Refused, Chunk, Moved, Resume)
_LEASED_SCRIPTS = ("save",)


class Life:
    """One start of one host: its process, as it were."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scope = trio.CancelScope()
        self.dying = trio.Event()
        self.ended = trio.Event()
        self.host: SimHost | None = None
        self.is_up = False  # it has joined, and runs programs
        self.is_leaving = False
        self.programs = 0  # that run

    @property
    def incarnation(self) -> str:
        return self.host.system.me.incarnation if self.host is not None else ""


@dataclass(frozen=True, slots=True)
class Trap:
    """What freezes a host: its next send or request, or only one of ``script``."""

    seconds: float
    has_left: bool = False  # freeze when the request is on its way, and not before
    script: str = ""
    is_stranded: bool = False  # when it thaws, the registry is out of its reach


class World:
    """See the module."""

    def __init__(self, seed: int, sizes: Sizes, nursery: trio.Nursery, events: list[Event]) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.sizes = sizes
        self.events = events
        self.nursery = nursery
        self.freezer = Freezer()
        self.happened: Counter[str] = Counter()
        self.network = SimNetwork(
            self.rng, self.freezer, self._on_send, self.broken_link, self.happened
        )
        self.server = Server(self.log, kinds.ops_in)
        self.road = Road(
            self.server, self.network._events, self.rng, sizes.lease_ttl_s / 6, self._on_ask,
            self._on_asked,
        )  # fmt: skip
        self.road.happened = self.happened
        self.observer = Observer(self._log_of_host)
        self.weather = FAIR
        self.lives: dict[str, Life] = {}
        self.incarnations: list[str] = []  # all that there have been
        self.program: Callable[[World, Life, int], Awaitable[None]] | None = None
        self.programs_per_host = 0
        self.clients = 0  # that run
        self.is_closing = False  # programs make no new calls
        self.pace = 1.0  # how much longer than usual they pause between calls
        self.durables: dict[str, None] = {}
        self._ops = count(1)
        self._names = count(1)
        self._registries = count(1)
        self._incarnations: dict[str, Iterator[int]] = defaultdict(lambda: count(1))
        self._lease_ends: dict[str, float] = {}
        self._dead: set[str] = set()
        self._traps: dict[str, Trap] = {}  # by host
        self._freezes: dict[str, int] = defaultdict(int)

    # What is written down -----------------------------------------------------------------

    def log(self, event: Event) -> None:
        self.events.append(event)

    def _log_of_host(self, event: Any) -> None:
        """An event of a host; what a dead one's remains do is nobody's business."""
        if event.host in self._dead:
            return
        if isinstance(event, Leased):
            self._lease_ends[event.host] = event.until
        elif isinstance(event, LeaseOver):
            self._lease_ends[event.host] = min(self._lease_ends.get(event.host, 0.0), event.at)
        self.log(event)

    def note(self, what: str) -> None:
        self.log(Noted(trio.current_time(), what))

    def broken(self, what: str) -> None:
        """Something happened that no check needs to look for."""
        self.log(Left(trio.current_time(), what))

    def broken_link(self, what: str) -> None:
        """A link does what none may do."""
        self.log(Misled(trio.current_time(), what))

    def _on_send(self, host: str, item: Item) -> None:
        if isinstance(item, _LEASED_ITEMS):
            self._check_lease(host, type(item).__name__)
            self._spring(host)

    def _on_ask(self, name: str, script: str) -> None:
        life = self.lives.get(name)
        if life is not None and script in _LEASED_SCRIPTS:
            self._check_lease(life.incarnation, script)
        if life is not None:
            self._spring(life.incarnation, script)

    def _on_asked(self, name: str, script: str) -> None:
        life = self.lives.get(name)
        if life is not None:
            self._spring(life.incarnation, script, has_left=True)

    def _check_lease(self, host: str, what: str) -> None:
        now = trio.current_time()
        if now > self._lease_ends.get(host, now):
            self._log_of_host(SentLate(now, host, what))

    # For the actors (kinds.Witness) -------------------------------------------------------

    def next_op(self) -> int:
        return next(self._ops)

    def ran(self, actor: Actor, op: int, stage: str) -> None:
        self.observer.ran(actor._activation, op, stage)

    def linger_s(self, actor: Actor) -> float:
        return self.rng.choice((0.0, 0.0, 0.05, 0.5, 1.5))

    async def linger(self, actor: Actor, seconds: float) -> None:
        system = actor._activation.system
        living = (x for x in self.lives.values() if x.host and x.host.system is system)
        life = next(living, None)
        if life is not None:
            with trio.move_on_after(seconds, shield=True):
                await life.dying.wait()

    def restore_fails(self, actor: Actor) -> bool:
        return self.road.chance(self.weather.restore_fails)

    async def relayed(
        self, actor: Actor, target: str, mode: str, call: Callable[[int], Awaitable[Any]]
    ) -> Any:
        sender = f"{actor.id}#{actor.epoch}"
        return await self.called(sender, target, "add", mode, call)

    async def called(
        self, sender: str, target: str, method: str, mode: str,
        call: Callable[[int], Awaitable[Any]],
    ) -> Any:  # fmt: skip
        """Make ``call`` with a new operation, and write down what becomes of it."""
        op = self.next_op()
        self.log(Called(trio.current_time(), op, sender, target, method, mode))
        try:
            value = await call(op)
        except RoostError as exc:
            self.log(Failed(trio.current_time(), op, exc.code, exc.may_have_run, str(exc)))
            raise
        except trio.Cancelled:
            self.log(Failed(trio.current_time(), op, "cancelled", True, ""))
            raise
        self.log(Answered(trio.current_time(), op, value if isinstance(value, int) else -1))
        return value

    # Hosts --------------------------------------------------------------------------------

    def up(self) -> list[Life]:
        """The hosts that run programs, frozen ones too."""
        return [life for life in self.lives.values() if life.is_up and not life.is_leaving]

    def start(self, name: str = "") -> Life:
        """Start a host; it joins in its own time."""
        life = Life(name or f"h{next(self._names)}")
        assert life.name not in self.lives
        self.lives[life.name] = life
        self.note(f"start {life.name}")
        self.nursery.start_soon(self._live, life)
        return life

    async def _live(self, life: Life) -> None:
        self.freezer.root(trio.lowlevel.current_task(), life.name)
        try:
            with life.scope:
                async with open_service_nursery() as nursery:
                    await self._run_host(life, nursery)
        except Unavailable as exc:
            self.note(f"{life.name} does not start: {exc}")
        except Exception as exc:
            self.broken(f"{life.name} ended in {type(exc).__name__}: {exc!r}")
        finally:
            if self.lives.get(life.name, life) is life:
                self.lives.pop(life.name, None)
                self.freezer.thaw(life.name)
            if life.host is not None and not life.host.is_killed:
                self._log_of_host(LeaseOver(trio.current_time(), life.incarnation, "it ended"))
            life.ended.set()

    async def _run_host(self, life: Life, nursery: trio.Nursery) -> None:
        clock = HostClock(self.rng.uniform(1 - DRIFT, 1 + DRIFT), self.rng.uniform(0, 1e6))
        self.happened["clock off by over 0.5 %"] += abs(clock.rate - 1) > 0.005
        gate = self.network.gate(life.name)
        registry = SimRegistry(self.road, life.name, gate, next(self._registries))
        host = life.host = SimHost(
            life.name, self._incarnations[life.name], self.network, registry, nursery, self.sizes,
            clock, self._log_of_host,
        )  # fmt: skip
        async with host.running():
            life.is_up = True
            self.note(f"{life.incarnation} is up")
            self.incarnations.append(life.incarnation)
            for number in range(self.programs_per_host):
                if self.program is not None:
                    nursery.start_soon(self.program, self, life, number)
            await host.closed.wait()

    def registry_of(self, life: Life) -> SimRegistry:
        assert life.host is not None
        return life.host.line  # type: ignore[return-value]

    def crash(self, life: Life) -> None:
        """The process is gone at once."""
        self.note(f"crash {life.name}")
        incarnation = life.incarnation
        if incarnation:
            self._log_of_host(LeaseOver(trio.current_time(), incarnation, "crashed"))
            self._dead.add(incarnation)
        self.thaw(life)
        host = life.host
        if host is not None and self.network.host_at(host._me.address) is not None:
            host.kill()
        life.is_up = False
        life.dying.set()
        self.lives.pop(life.name, None)
        life.scope.cancel()

    def drain(self, life: Life, *, is_abrupt: bool = False) -> None:
        """Let a host leave; ``is_abrupt``: while its own programs still wait for answers."""
        assert life.host is not None
        self.note(f"drain {life.name}")
        life.is_leaving = True
        life.host.system.nursery.start_soon(self._drain, life, is_abrupt)

    async def _drain(self, life: Life, is_abrupt: bool) -> None:
        assert life.host is not None
        while life.programs and not is_abrupt:
            await trio.sleep(0.01)
        life.host.system.begin_drain()

    def freeze(self, life: Life, seconds: float) -> None:
        """Stop the process for so long, as SIGSTOP does."""
        self.note(f"freeze {life.name} for {seconds:.2f} s")
        self.freezer.freeze(life.name)
        self._freezes[life.name] += 1
        number = self._freezes[life.name]
        self.network._events.call_later(seconds, self._thaw_if, life, number)

    def _thaw_if(self, life: Life, number: int) -> None:
        if self._freezes[life.name] == number and self.lives.get(life.name) is life:
            self.thaw(life)

    def thaw(self, life: Life) -> None:
        if self.freezer.is_frozen(life.name):
            self.note(f"thaw {life.name}")
            is_heard = self.rng.random() < 0.5
            if is_heard:  # the replies that have come are heard before the deadlines that passed
                self.network.thawed(life.name, at_once=True)
            self.freezer.thaw(life.name)
            if not is_heard:
                self.network.thawed(life.name, at_once=False)

    def freeze_at_send(self, life: Life, trap: Trap) -> None:
        """Freeze between a check and its send, when it next sends or asks what needs a lease; or
        between a request and its reply."""
        self._traps[life.incarnation] = trap

    def _spring(self, host: str, script: str = "", *, has_left: bool = False) -> None:
        life, trap = self.lives.get(host.partition("#")[0]), self._traps.get(host)
        if trap is None or trap.has_left is not has_left or trap.script not in ("", script):
            return
        del self._traps[host]
        if life is not None and life.incarnation == host:
            self.happened["frozen with a request out" if has_left else "frozen at a send"] += 1
            self.freeze(life, trap.seconds)
            if trap.is_stranded:
                later_s = min(STRANDED_AFTER_S, trap.seconds)
                self.network._events.call_later(later_s, self.cut_registry, life)

    # Network and registry -----------------------------------------------------------------

    def set_weather(self, name: str, weather: Weather) -> None:
        self.note(f"weather: {name}")
        self.weather = self.road.weather = weather
        self.network.delay_s = weather.link_delay_s
        self.network.duplicate = weather.link_duplicate
        self.network.cut_chance = weather.link_cut

    def partition(self, source: Life, target: Life) -> None:
        """Nothing from one host reaches the other."""
        self.note(f"partition {source.name} -> {target.name}")
        self.network.partition(_address(source), _address(target))

    def cut(self, one: Life, other: Life) -> None:
        self.note(f"cut {one.name} - {other.name}")
        self.network.cut(_address(one), _address(other))

    def cut_registry(self, life: Life) -> None:
        if life.host is not None and not self.is_closing:
            self.note(f"registry out of reach for {life.name}")
            self.registry_of(life).is_cut = True

    def heal(self) -> None:
        self.note("heal")
        self.network.heal()
        for life in self.lives.values():
            if life.host is not None:
                self.registry_of(life).is_cut = False

    def stop_server(self) -> None:
        self.note("registry down")
        self.server.stop()

    def resume_server(self) -> None:
        """It was only out of reach."""
        self.note("registry up")
        self.server.is_up = True

    def spawned_durable(self, name: str, run_id: int) -> None:
        """A durable spawn, begun in that run of the registry, has been answered: the actor must
        come back from now on, unless another run began meanwhile and has lost the spec."""
        if self.server.run_id == run_id or name in self.server.store.specs:
            self.durables[name] = None

    def step_clock(self, seconds: float) -> None:
        """The registry's own clock (TIME) steps, either way."""
        self.note(f"clock of the registry steps by {seconds:.1f} s")
        self.server.time_step_s += seconds

    async def rumour(self, teller: Life, incarnation: str, *, ready: bool) -> None:
        """``teller`` heard, late or again, that a pod is ready or not, and writes it down."""
        assert teller.host is not None
        try:
            await teller.host.system.registry.set_member(incarnation, ready=ready)
        except RegistryError:
            self.happened["rumour of no live host"] += 1
        else:
            self.happened["rumour of a live host"] += 1

    async def all_ready(self) -> None:
        """Every pod is ready, and that is no rumour."""
        for life in self.up():
            await self.rumour(life, life.incarnation, ready=True)

    def replace_server(self, how: str) -> None:
        """The registry is another run: "same" data, "empty", "old" or from a "replica"."""
        self.note(f"registry replaced: {how}")
        old_s = self.rng.uniform(2.0, 15.0)
        data = {
            "same": lambda: None,
            "empty": self.server.empty_data,
            "old": lambda: self.server.old_data(old_s),
            "replica": lambda: self.server.old_data(0.0),
        }[how]()
        self.server.start(data)
        if data is not None:
            self.durables.clear()  # their specs may be among what is lost

    def calm_down(self) -> None:
        """All faults end."""
        self.set_weather("fair", FAIR)
        self._traps.clear()
        if not self.server.is_up:
            self.resume_server()
        for life in list(self.lives.values()):
            self.thaw(life)
        self.heal()

    async def keep_snapshots(self) -> None:
        """What a lagging replica would have, for ever."""
        while True:
            self.server.snapshot()
            await trio.sleep(REPLICA_EVERY_S)


def _address(life: Life) -> str:
    return f"{life.name}:50051"


@asynccontextmanager
async def open_world(seed: int, sizes: Sizes, events: list[Event]) -> AsyncIterator[World]:
    """A world without hosts, for the length of the block; what lives at its end is crashed.

    What happens is appended to ``events``.
    """
    async with trio.open_nursery() as nursery:
        world = World(seed, sizes, nursery, events)
        trio.lowlevel.add_instrument(world.freezer)
        kinds.install(world)
        nursery.start_soon(world.network.run)
        nursery.start_soon(world.keep_snapshots)
        observe(world.observer)
        try:
            yield world
            for life in list(world.lives.values()):
                world.crash(life)
                await life.ended.wait()
        finally:
            stop_observing()
            kinds.install(None)
            nursery.cancel_scope.cancel()
