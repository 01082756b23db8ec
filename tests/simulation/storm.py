"""Storms: what a seed does to its world, step by step. Chance decides; the profile weighs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import trio

from tests.simulation.hosts import Sizes
from tests.simulation.weather import FAIR, GUSTS, LINK_GUSTS, REGISTRY_GUSTS, mixed
from tests.simulation.world import Life, World

HOSTS_MAX = 5


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
_LINKS = {"gust": 3, "cut": 3, "partition": 2, "heal": 3}
_HOSTS = {"crash": 3, "restart": 4, "freeze": 3, "freeze at send": 4}
_REGISTRY = {"gust": 3, "registry down": 1, "registry up": 3, "cut registry": 2, "heal": 3}
_FAILOVER = {"failover": 1}

PROFILES = (
    Profile("planned", {**_MOVES, "wait": 2, "gust": 1}, ("slow links",), is_planned=True),
    Profile("links", {**_MOVES, **_LINKS}, LINK_GUSTS),
    Profile("hosts", {**_MOVES, **_HOSTS}),
    Profile("registry", {**_MOVES, **_REGISTRY}, (*REGISTRY_GUSTS, "bad snapshots")),
    Profile("failover", {**_MOVES, **_FAILOVER, "crash": 1, "restart": 2, "freeze": 1}),
    Profile("storm", {**_MOVES, **_LINKS, **_HOSTS, **_REGISTRY, **_FAILOVER}, GUSTS),
)


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
            "gust": self.gust,
            "cut": self.cut,
            "partition": self.partition,
            "cut registry": self.cut_registry,
            "heal": self.heal,
            "registry down": self.registry_down,
            "registry up": self.registry_up,
            "failover": self.failover,
            "wait": lambda: None,
        }

    async def blow(self, steps: int) -> None:
        """That many steps, with pauses between."""
        weights = self._profile.weights
        for _ in range(steps):
            (what,) = self._rng.choices(list(weights), list(weights.values()))
            self._steps[what]()
            await trio.sleep(self._rng.choice((0.0, 0.05, 0.3, 1.0, 3.0)) * self._rng.random())

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
            self._world.freeze_at_send(life, self._frozen_s())

    def _frozen_s(self) -> float:
        """Shorter than a lease, about as long, or much longer."""
        return self._world.sizes.lease_ttl_s * self._rng.choice((0.3, 0.8, 1.0, 1.2, 2.0, 4.0))

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

    def failover(self) -> None:
        self._world.replace_server(self._rng.choice(("same", "empty", "old", "replica")))
