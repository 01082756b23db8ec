"""One host's road to the simulated registry: requests and replies that are late, lost or doubled.

What a client does (gives up in time, sends again over a new connection, hears generations and
epochs, lets claims share a script) is as in placement.redis_registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from random import Random
from typing import Any, cast

import trio

from placement.batcher import Batcher
from placement.ports import Claim, RegistryUnavailable, StaleGeneration
from placement.records import Claimed, Held, Location, View
from tests.simulation.network import Gate
from tests.simulation.server import Reply, Request, Server, distinct
from tests.simulation.weather import Weather
from wire.memory_wire import Events


class Road:
    """What all hosts' roads share."""

    def __init__(
        self, server: Server, events: Events, rng: Random, timeout_s: float,
        on_ask: Callable[[str, str], None], on_asked: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.server = server
        self.events = events
        self.rng = rng
        self.timeout_s = timeout_s
        self.on_ask = on_ask  # told (host, script) of each request before it leaves
        self.on_asked = on_asked  # told the same when it has left
        self.happened: Counter[str] = Counter()
        self.weather = Weather()
        self.registries: list[SimRegistry] = []
        server.published = self._publish

    def _publish(self, generation: int, version: int) -> None:
        for registry in self.registries:
            registry.hear_of_change(generation, version)

    def draw(self, span: tuple[float, float]) -> float:
        return self.rng.uniform(*span)

    def chance(self, chance: float, what: str = "") -> bool:
        """Whether it happens; ``what``: counted under that name if it does."""
        happens = chance > 0 and self.rng.random() < chance
        self.happened[what] += happens
        return happens


class _Waiting:
    """A client that waits for a reply."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: Reply | None = None
        self.is_over = False  # it has given up, or has its answer

    def hear(self, reply: Reply) -> None:
        if self.reply is None:
            self.reply = reply
            self.done.set()


class SimRegistry:
    """See placement.ports.Registry for the promises, and the module."""

    def __init__(self, road: Road, host: str, gate: Gate, number: int) -> None:
        self.is_cut = False
        self.generation = 0
        self._epoch = int((1e6 + trio.current_time()) * 1e6)  # as placement.redis_replies.Heard
        self._road = road
        self._host = host
        self._gate = gate
        self._name = f"{host}/{number}"
        self._claim_no = 0
        self._claims = Batcher(self._claim_batch, trio.Event, 1_000)
        self._callbacks: list[Callable[[int, int], None]] = []
        road.registries.append(self)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_") or not hasattr(self._road_registry, name):
            raise AttributeError(name)

        async def ask(*args: Any, **kwargs: Any) -> Any:
            return await self._ask(name, args, kwargs)

        return ask

    @property
    def _road_registry(self) -> type:
        from placement.memory import MemoryRegistry

        return MemoryRegistry

    async def claim(
        self, me: str, claims: Sequence[Claim], generation: int | None = None
    ) -> list[Claimed | Held]:
        answers: list[Claimed | Held] = []
        for part in distinct(claims):
            answers += await self._claims.submit((me, generation), part)
        return answers

    async def _claim_batch(self, key: Hashable, claims: list[Claim]) -> list[Claimed | Held]:
        me, generation = cast("tuple[str, int | None]", key)
        answers: list[Claimed | Held] = []
        for part in distinct(claims):
            self._claim_no += 1
            number = (self._name, self._claim_no)
            answers += await self._ask("claim", (me, part), {}, number, generation)
        return answers

    async def assert_owned(self, me: str, owned: Sequence[tuple[str, int]]) -> list[bool]:
        if not owned:
            return []
        self._claim_no += 1
        number = (self._name, self._claim_no)
        answers: list[bool] = await self._ask("assert_owned", (me, owned), {}, number)
        return answers

    # One request --------------------------------------------------------------------------

    async def _ask(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any],
        claim_no: tuple[str, int] | None = None, generation: int | None = None,
    ) -> Any:  # fmt: skip
        self._road.on_ask(self._host, name)
        spoken_for = self.generation if generation is None else generation
        request = Request(self._host, spoken_for, self._epoch, name, args, kwargs, claim_no)
        waiting = _Waiting()
        self._gate.call_soon(self._send, request, waiting)
        with trio.move_on_after(self._road.timeout_s):
            await waiting.done.wait()
        waiting.is_over = True
        if waiting.reply is None:
            raise RegistryUnavailable(f"{name}: no answer from the registry")
        return self._hear(waiting.reply)

    def _send(self, request: Request, waiting: _Waiting) -> None:
        """The request leaves the host, and meets its fate."""
        road, weather = self._road, self._road.weather
        road.on_asked(self._host, request.name)
        if self.is_cut or road.chance(weather.asked_never, "request lost"):
            return
        if not road.server.is_up:
            refused = Reply(0, error=RegistryUnavailable("connection refused"))
            self._gate.call_later(road.draw(weather.answered_delay_s), waiting.hear, refused)
            return
        delay_s = road.draw(weather.asked_delay_s)
        if road.chance(weather.asked_late, "request late"):
            delay_s += road.timeout_s * road.rng.uniform(0.5, 4.0)
        if road.chance(weather.asked_again, "request again, much later"):
            later_s = delay_s + road.timeout_s * road.rng.uniform(0.0, 8.0)
            road.events.call_later(later_s, self._arrive, request, None)
        if request.name != "renew" and road.chance(weather.asked_twice, "request sent again"):
            road.events.call_later(delay_s, self._arrive, request, None)
            delay_s += road.draw(weather.asked_delay_s)
        if road.chance(weather.broken, "connection to the registry broken"):
            error = Reply(0, error=RegistryUnavailable("connection reset"))
            self._gate.call_later(road.draw((0.0, 2 * delay_s)), waiting.hear, error)
        road.events.call_later(delay_s, self._arrive, request, waiting)

    def _arrive(self, request: Request, waiting: _Waiting | None) -> None:
        """The script runs, whether or not anyone still waits for it."""
        road, weather = self._road, self._road.weather
        if not road.server.is_up:
            return
        reply = road.server.run(request)
        road.happened["script ran after its client gave up"] += waiting is None or waiting.is_over
        if (
            waiting is not None
            and not self.is_cut
            and not road.chance(weather.unanswered, "reply lost")
        ):
            self._gate.call_later(road.draw(weather.answered_delay_s), waiting.hear, reply)

    def _hear(self, reply: Reply) -> Any:
        """Take in generation and epochs, as placement.redis_replies.Heard does."""
        if isinstance(reply.error, RegistryUnavailable) and not reply.generation:
            raise reply.error
        self.generation = self.generation or reply.generation
        if isinstance(reply.error, StaleGeneration):
            self.generation = reply.error.view.generation
        if reply.error is not None:
            raise reply.error
        if isinstance(reply.value, View):
            self.generation = reply.value.generation
        for part in reply.value if isinstance(reply.value, list) else ():
            location = part.location if isinstance(part, Held) else part
            if isinstance(location, (Claimed, Location)):
                self._epoch = max(self._epoch, location.epoch)
        return reply.value

    # Notifications ------------------------------------------------------------------------

    def on_change(self, callback: Callable[[int, int], None]) -> None:
        self._callbacks.append(callback)

    def hear_of_change(self, generation: int, version: int) -> None:
        """The server has published a change; it may be lost, or late."""
        road, weather = self._road, self._road.weather
        if self.is_cut or road.chance(weather.unpublished, "publication lost"):
            return
        for callback in self._callbacks:
            delay_s = road.draw(weather.answered_delay_s)
            self._gate.call_later(delay_s, callback, generation, version)

    async def listen(self) -> None:
        """Returns at once: notifications come by themselves."""

    async def aclose(self) -> None:
        self._callbacks.clear()
        if self in self._road.registries:
            self._road.registries.remove(self)
