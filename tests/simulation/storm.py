"""Storms: what a seed does to its world, step by step. Chance decides; the profile weighs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import trio

from tests.simulation.hosts import Sizes
from tests.simulation.weather import FAIR, GUSTS, LINK_GUSTS, REGISTRY_GUSTS, mixed
from tests.simulation.world import Life, Trap, World

HOSTS_MAX = 5
PAUSES_S = (0.0, 0.05, 0.3, 1.0, 3.0)
PACES = (1.0, 1.0, 8.0)

#: Steps, each with the pause after it in seconds.
Script = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Profile:
    """What kinds of faults a run has, and how often each is the next step."""

    name: str
    weights: Mapping[str, float]
    gusts: tuple[str, ...] = ()
    is_planned: bool = False  # nothing fails: then no call may fail either

    def may_lose_data(self) -> bool:
        return "failover" in self.weights


_MOVES = {"join": 3, "drain": 3}
_LINKS = {"gust": 3, "cut": 3, "partition": 2, "heal": 1}
_HOSTS = {"crash": 3, "restart": 4, "freeze": 3, "freeze at send": 4, "stagger": 1, "rumour": 2}
_REGISTRY = {
    "gust": 3,
    "registry down": 1,
    "registry up": 3,
    "cut registry": 2,
    "heal": 3,
    "clock": 1,
}
_FAILOVER = {"failover": 1, "old words": 0.5, "clock": 0.5}

PROFILES = (
    Profile("planned", {**_MOVES, "wait": 2, "gust": 1}, ("slow links",), is_planned=True),
    Profile("links", {**_MOVES, **_LINKS}, LINK_GUSTS),
    Profile("hosts", {**_MOVES, **_HOSTS, "heal": 2}),
    Profile("registry", {**_MOVES, **_REGISTRY}, (*REGISTRY_GUSTS, "bad snapshots")),
    Profile("failover", {**_MOVES, **_FAILOVER, "crash": 1, "restart": 2, "freeze": 1}),
    Profile("storm", {**_MOVES, **_LINKS, **_HOSTS, **_REGISTRY, **_FAILOVER}, GUSTS),
)


#: How long hosts are frozen, in leases: shorter than one, about as long, or much longer.
LEASES = (0.3, 0.8, 1.0, 1.2, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class TrapKind:
    """See world.Trap. ``stranded``: the chance that the registry is out of reach after it."""

    script: str = ""
    has_left: bool = False
    leases: tuple[float, ...] = LEASES
    stranded: float = 0.0


TRAPS = (
    TrapKind(),
    TrapKind("renew", True, (0.4, 0.5, 0.6), 0.8),
    TrapKind("claim"),
    TrapKind("claim", True),
    TrapKind("save"),
    TrapKind("save", True, stranded=0.3),
)

#: Everything that a storm may do.
STEP_NAMES = frozenset(name for profile in PROFILES for name in profile.weights)


def draw_sizes(rng: Random) -> Sizes:
    """What a run's hosts are like."""
    return Sizes(
        lease_ttl_s=rng.choice((2.0, 4.0, 8.0)),
        window=rng.choice((1, 2, 4, 16)),
        mailbox_max=rng.choice((2, 4, 50)),
        stream_window=rng.choice((2, 8)),
        idle_after_s=rng.choice((0.5, 2.0, 30.0)),
        link_credit_bytes=rng.choice((200, 1_000, 100_000)),
        link_batch_items=rng.choice((1, 3, 100)),
        link_room_items=rng.choice((2, 100)),
    )


class Storm:
    """Does the steps of one run."""

    def __init__(self, world: World, profile: Profile) -> None:
        self._world = world
        self._profile = profile
        self._rng = world.rng
        self._down: list[Life] = []  # crashed, and not restarted yet
        self._steps: dict[str, Callable[[], object]] = {
            "join": self.join,
            "drain": self.drain,
            "crash": self.crash,
            "restart": self.restart,
            "freeze": self.freeze,
            "freeze at send": self.freeze_at_send,
            "stagger": self.stagger,
            "gust": self.gust,
            "cut": self.cut,
            "partition": self.partition,
            "cut registry": self.cut_registry,
            "heal": self.heal,
            "registry down": self.registry_down,
            "registry up": self.registry_up,
            "clock": lambda: world.step_clock(self._rng.uniform(-30.0, 30.0)),
            "rumour": self.rumour,
            "failover": self.failover,
            "old words": self.old_words,
            "wait": lambda: None,
        }

    async def blow(self, steps: int) -> None:
        """That many steps, with pauses between."""
        rng, weights = self._rng, self._profile.weights
        for _ in range(steps):
            (what,) = rng.choices(list(weights), list(weights.values()))
            self._steps[what]()
            if rng.random() < 0.1:
                self._world.pace = rng.choice(PACES)
            await trio.sleep(rng.choice(PAUSES_S) * rng.random())

    async def play(self, script: Script) -> None:
        """These steps, each followed by its pause."""
        for what, pause_s in script:
            self._steps[what]()
            await trio.sleep(pause_s)

    def _any(self, least: int = 1) -> Life | None:
        """One of the hosts that are up, if there are at least so many."""
        up = self._world.up()
        return self._rng.choice(up) if len(up) >= least else None

    # Hosts --------------------------------------------------------------------------------

    def join(self) -> None:
        if len(self._world.lives) < HOSTS_MAX:
            self._world.start()

    def drain(self) -> None:
        life = self._any(2)
        if life is not None and not self._world.freezer.is_frozen(life.name):
            is_abrupt = not self._profile.is_planned and self._rng.random() < 0.5
            self._world.drain(life, is_abrupt=is_abrupt)

    def crash(self) -> None:
        life = self._any(2)
        if life is not None:
            self._world.crash(life)
            self._down.append(life)

    def restart(self) -> None:
        for life in self._down:
            if life.ended.is_set() and life.name not in self._world.lives:
                self._down.remove(life)
                self._world.start(life.name)
                return

    def freeze(self) -> None:
        life = self._any()
        if life is not None:
            self._world.freeze(life, self._frozen_s())

    def freeze_at_send(self) -> None:
        life = self._any()
        if life is not None:
            trap = self._rng.choice(TRAPS)
            seconds = self._world.sizes.lease_ttl_s * self._rng.choice(trap.leases)
            is_stranded = self._rng.random() < trap.stranded
            self._world.freeze_at_send(life, Trap(seconds, trap.has_left, trap.script, is_stranded))

    def stagger(self) -> None:
        """Two hosts stop one after the other, neither for longer than its lease."""
        up, ttl_s = self._world.up(), self._world.sizes.lease_ttl_s
        if len(up) >= 2:
            one, other = self._rng.sample(up, 2)
            self._world.freeze(one, ttl_s * self._rng.uniform(0.5, 0.85))
            later_s = ttl_s * self._rng.uniform(0.3, 0.85)
            self._later(later_s, other, ttl_s * self._rng.uniform(0.25, 0.85))

    def _later(self, later_s: float, life: Life, seconds: float) -> None:
        async def freeze() -> None:
            await trio.sleep(later_s)
            if self._both_live(life):
                self._world.freeze(life, seconds)

        self._world.nursery.start_soon(freeze)

    def _frozen_s(self) -> float:
        return self._world.sizes.lease_ttl_s * self._rng.choice(LEASES)

    # Network and registry -----------------------------------------------------------------

    def gust(self) -> None:
        if self._rng.random() < 0.3:
            self._world.set_weather("fair", FAIR)
        else:
            self._world.set_weather(*mixed(self._profile.gusts, self._rng))

    def _pair(self) -> tuple[Life, Life] | None:
        up = self._world.up()
        if len(up) < 2:
            return None
        one, other = self._rng.sample(up, 2)
        return one, other

    def cut(self) -> None:
        if (pair := self._pair()) is not None:
            self._world.cut(*pair)

    def partition(self) -> None:
        if (pair := self._pair()) is not None:
            self._world.partition(*pair)

    def cut_registry(self) -> None:
        if (life := self._any()) is not None:
            self._world.cut_registry(life)

    def heal(self) -> None:
        self._world.heal()

    def registry_down(self) -> None:
        if self._world.server.is_up:
            self._world.stop_server()

    def registry_up(self) -> None:
        if not self._world.server.is_up:
            self._world.resume_server()

    def rumour(self) -> None:
        """Events of Kubernetes: stale, repeated, about whoever lives or has lived."""
        teller = self._any()
        if teller is not None and self._world.incarnations:
            about, ready = self._rng.choice(self._world.incarnations[-6:]), self._rng.random() < 0.7
            for _ in range(self._rng.randint(1, 3)):
                tell = partial(self._world.rumour, teller, about, ready=ready)
                self._world.nursery.start_soon(tell)

    def failover(self) -> None:
        self._world.replace_server(self._rng.choice(("same", "empty", "old", "replica")))

    def old_words(self) -> None:
        """What a host offers to a newcomer arrives when it has long gone on by itself, the registry
        has forgotten that, and the host cannot tell it."""
        old = self._any()
        if old is not None and len(self._world.lives) < HOSTS_MAX:
            new = self._world.start()
            self._world.nursery.start_soon(self._keep_back, old, new)

    async def _keep_back(self, old: Life, new: Life) -> None:
        world, rng = self._world, self._rng
        while not new.is_up and new.name in world.lives:
            await trio.sleep(0.05)
        if self._both_live(old, new):
            world.partition(old, new)
            await trio.sleep(rng.uniform(6.5, 8.5))
        if self._both_live(old, new):
            world.cut_registry(old)
            world.replace_server("old")
            await trio.sleep(rng.uniform(0.0, 0.3))
            world.network.heal()

    def _both_live(self, *lives: Life) -> bool:
        living = self._world.lives
        return not self._world.is_closing and all(living.get(x.name) is x for x in lives)
