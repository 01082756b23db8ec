"""System: what a program holds to make refs, spawn, watch and stop actors on one host."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from actors.activation import CRASH, STOP, WATCH, Activation
from actors.actor import Actor
from actors.adopter import Adopter
from actors.calls import Sender, StreamCall, TellNowait, WaitingCall
from actors.claimer import Claimer
from actors.config import SystemConfig
from actors.crowd import Crowd
from actors.deadlines import DeadlineWheel
from actors.durables import Durables
from actors.incoming import CURRENT
from actors.interceptors import Interceptor, Interceptors
from actors.isolation.processes import Processes
from actors.kinds import SPAWN, SPAWNER
from actors.kindtable import KindTable
from actors.lifecycle import Lifecycle
from actors.membership import Membership
from actors.reasons import Reason, Terminated
from actors.rebalancer import Rebalancer
from actors.ref import Ref, id_of, prepare
from actors.reminders import Reminders
from actors.router import Router
from actors.statistics import CallMeter, Statistics
from actors.turns import DURABLE
from actors.workers import WorkerPool
from placement.ports import Registry, RegistryError
from placement.records import Member, MemberState, View
from placement.ring import Ring
from placement.view import NO_VIEW, number
from wire.errors import (
    CallCycle,
    DeadlineExceeded,
    InvalidArgument,
    NotDelivered,
    OutcomeUnknown,
    Unavailable,
)
from wire.ids import ActorId, actor_id, parse_actor_id
from wire.items import Content, Mode
from wire.ports import NO_TRAFFIC, Peer

if TYPE_CHECKING:
    from actors.kinds import Kind

log = logging.getLogger("roost.actors")

A = TypeVar("A", bound=Actor)
FAILURES_MAX = 1_000
IDLE_TICK_S = 0.25


class System:
    """The actors of one host, and the road to all others. Made by ``actors.open_system`` and
    ``actors.open_host``; all of it runs on one thread."""

    def __init__(
        self,
        kinds: Iterable[type[Actor]],
        registry: Registry,
        nursery: trio.Nursery,
        config: SystemConfig,
        *,
        is_local: bool,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.config = config
        #: Trio's time, without the detour over the current run.
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.registry = registry
        self.nursery = nursery
        self.is_local = is_local
        self.interceptors = Interceptors(interceptors) if interceptors else None
        self.kinds = KindTable(
            self._ref_named, kinds, hosts_what_it_meets=is_local, mailbox_max=config.mailbox_max
        )
        self.me = Peer("local", "local", "")
        self.view: View = NO_VIEW
        self.members: dict[str, Member] = {}
        self.ring = Ring(NO_VIEW)
        self.root = Sender()
        self.meter = CallMeter()
        self.activations: dict[ActorId, Activation] = {}
        self.activations_total = 0
        self.crowd = Crowd(config)
        self.processes = Processes(self)
        self.leases_lost_total = 0
        self.failures: dict[ActorId, tuple[str, float]] = {}  # why actors failed, and when
        self.router = Router(self)
        self.lifecycle = Lifecycle(self)
        self.claimer = Claimer(self)
        self.adopter = Adopter(self)
        self.rebalancer = Rebalancer(self)
        self.durables = Durables(self)
        self.reminders = Reminders(self)
        self.pool = WorkerPool(nursery)
        self.idle_wheel = DeadlineWheel(IDLE_TICK_S)
        self.membership: Membership | None = None  # a local system has none
        self.serving = False
        self.is_leaving = False  # what is sent now would find nobody who sends it on
        self._tokens = 0
        self._emptied = trio.Event()
        self._fence: str | None = None
        self._fence_wake = trio.Event()

    # For users ----------------------------------------------------------------------------

    @property
    def host_id(self) -> str:
        """The name of this host; "local" for a local system."""
        return self.me.host_id

    def ref(self, kind: type[A], key: str) -> A:
        """A handle on the actor ``key`` of that class, typed as the class. Starts nothing.

        Raises InvalidArgument for an illegal key, and TypeError for what is no actor class (by
        names alone: :meth:`ask`).
        """
        return cast(A, Ref(self, self.kinds.of(kind), actor_id(kind.__roost_kind__, key)))

    async def spawn(
        self, kind: type[A], key: str, /, *args: Any, durable: bool = False, **kwargs: Any
    ) -> A:
        """Start the actor now, where the ring places it, and return its ref.

        Arguments go to its ``on_spawn``, also when it runs already. A ``durable`` actor is never
        idle, and comes back unasked, with the same arguments, when its host is gone, until it is
        stopped. Raises ActorFailed when it cannot start, and what any ask raises.
        """
        ref = self.ref(kind, key)
        payload = self.kinds.of(kind).handlers[SPAWN].signature.encode(args, kwargs)
        headers = {DURABLE: "1"} if durable else {}
        spawner = CURRENT.get()
        if spawner is not None:
            headers[SPAWNER] = str(spawner.activation.id)
        await self._ask(id_of(ref), SPAWN, payload, None, headers or None)
        return ref

    async def spawn_id(
        self, target: ActorId, arguments: Sequence[Any] | dict[str, Any] = (), *,
        durable: bool = False, timeout_s: float | None = None,
    ) -> None:  # fmt: skip
        """Like ``spawn``, by id, for a kind that need not be known here."""
        headers = {DURABLE: "1"} if durable else None
        await self._ask(target, SPAWN, self.kinds.encode(arguments), timeout_s, headers)

    async def stop(self, ref: object) -> bool:
        """Stop an actor once its waiting messages have run, and wait for it.

        Returns False when it was not running. A later message starts it again, and so does a
        durable spawn that waits. An actor that stops itself so would wait for itself (CallCycle):
        ``self.passivate()`` is for that.
        """
        return await self.stop_id(id_of(ref))

    async def stop_id(self, target: ActorId) -> bool:
        """Like ``stop``, by id."""
        current = CURRENT.get()
        if current is not None and current.worker is not None and current.activation.id == target:
            raise CallCycle(f"{target} waits for its own end: let the one who called it stop it")
        if target not in self.activations:
            try:
                (where,) = await self.registry.locate([str(target)])
                runs = where is not None and where.incarnation in self.members
                if not runs and not await self.durables.has_spec(target):
                    return False
            except RegistryError as exc:
                raise Unavailable(f"{target} cannot be stopped now: {exc}") from exc
        await self.ask_system(target, STOP)
        return True

    async def watch(self, ref: object) -> Terminated:
        """Wait until the actor stops or fails, wherever it lives; moves do not count.

        Watching starts the actor if it does not run, and keeps it from being passivated.
        """
        target = id_of(ref)
        while True:
            try:
                return await self._watch_once(target)
            except (NotDelivered, OutcomeUnknown, DeadlineExceeded) as exc:
                log.debug("watch of %s goes on: %s", target, exc)
                await trio.sleep(0.05)

    async def _watch_once(self, target: ActorId) -> Terminated:
        decode = self.kinds.terminated.decode
        make = partial(StreamCall, decode=decode, window=2, start_only=True)
        call: StreamCall = prepare(
            self, make, target, WATCH, Mode.STREAM, Content.MSGPACK, b"\x90", None, None
        )
        self.router.submit(call)
        try:
            terminated: Terminated = await call.next()
        except StopAsyncIteration:
            raise NotDelivered(f"the watch of {target} ended without a word") from None
        finally:
            call.leave()
        return terminated

    async def ask(
        self, target: str | ActorId, method: str, *args: Any, timeout_s: float | None = None,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Call a handler by names alone: ``await system.ask("Counter/a", "add", 1)``.

        The result comes as msgpack's plain types. Raises what any ask raises.
        """
        id = parse_actor_id(target) if isinstance(target, str) else target
        return await self.ask_system(id, method, args, kwargs, timeout_s)

    async def ask_system(
        self, target: ActorId, method: str, args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None, timeout_s: float | None = None,
    ) -> Any:  # fmt: skip
        """An ask of a method that need not be a handler known here."""
        if args and kwargs:
            raise InvalidArgument("give a call by name either positional or named arguments")
        payload = self.kinds.encode(kwargs or args)
        return await self._ask(target, method, payload, timeout_s)

    async def _ask(
        self, target: ActorId, method: str, payload: bytes, timeout_s: float | None,
        headers: dict[str, str] | None = None,
    ) -> Any:  # fmt: skip
        call: WaitingCall = prepare(
            self, WaitingCall, target, method, Mode.ASK, Content.MSGPACK, payload, timeout_s,
            headers,
        )  # fmt: skip
        self.router.submit(call)
        await call.wait()
        return self.kinds.anything.decode(call.result_content, call.result_payload)

    def statistics(self) -> Statistics:
        """How the system does now. Takes about 0.3 us per actor."""
        depths = [activation.depth for activation in self.activations.values()]
        links, membership = self.router.links, self.membership
        return Statistics(
            actors=len(depths),
            activations_total=self.activations_total,
            passivations_total=self.lifecycle.passivated_total,
            adopted_total=self.adopter.adopted_total,
            processes=self.crowd.processes,
            processes_max=self.config.processes_max,
            moves=self.rebalancer.mover.statistics(),
            mailbox_depth=sum(depths),
            mailbox_deepest=max(depths, default=0),
            asks=self.meter.asks(),
            errors=dict(self.meter.errors),
            no_capacity_total=self.meter.no_capacity,
            leases_lost_total=self.leases_lost_total,
            lease_margin_s=math.inf if membership is None else membership.lease_margin_s(),
            view_generation=self.view.generation,
            view_version=self.view.version,
            members=len(self.members),
            is_ready=self.is_ready(),
            traffic=NO_TRAFFIC if links is None else links.traffic(),
        )

    # For the parts ------------------------------------------------------------------------

    def _ref_named(self, cls: type | None, name: str) -> object:
        id = parse_actor_id(name)
        return Ref(self, self.kinds.named(id.kind, cls), id)

    def new_token(self) -> str:
        """A name for a running call, unique in the cluster."""
        self._tokens += 1
        return f"{self.me.incarnation}:{self._tokens}"

    def is_serving(self) -> bool:
        """Whether this host may act: it has joined, and holds its lease."""
        if not self.serving or self.membership is None:
            return self.serving
        keeper = self.membership.keeper
        return keeper is not None and keeper.is_held()

    def is_joining(self) -> bool:
        """Whether this host holds a lease and does not serve yet: nothing can run here."""
        return not self.serving and self.membership is not None and self.membership.is_held()

    def is_ready(self) -> bool:
        """Whether this host takes new actors; one that drains does not."""
        mine = self.members.get(self.me.incarnation)
        return self.is_serving() and (mine is None or mine.state is not MemberState.DRAINING)

    def expects_hosts(self) -> bool:
        """Whether hosts may live that the view does not know yet: a new generation has begun."""
        return self.membership is not None and self.membership.expects_hosts()

    async def refresh_view(self) -> None:
        """Take over the registry's newest view. Raises RegistryError."""
        if self.membership is not None:
            await self.membership.refresh()

    async def catch_up(self, incarnations: Iterable[str]) -> None:
        """Refresh the view if it does not know one of those that the registry named."""
        if self.membership is not None:
            await self.membership.catch_up(incarnations)

    def is_full(self, kind: Kind) -> bool:
        """Whether no further actor of that kind may start here."""
        return self.crowd.is_full(kind)

    def start(self, id: ActorId, kind: Kind, *, is_spilled: bool = False) -> Activation:
        """Begin an activation: it is claimed first, and takes messages on trial meanwhile."""
        activation = Activation(self, id, kind)
        activation.is_spilled = is_spilled
        self.hold(activation)
        self.activations_total += 1
        self.claimer.claim(activation)
        return activation

    def hold(self, activation: Activation) -> None:
        """It counts as running here until it is ``gone``."""
        self.activations[activation.id] = activation
        self.crowd.came(activation.kind)

    def gone(self, activation: Activation) -> None:
        """An activation has ended and nothing of it runs any more."""
        if self.activations.get(activation.id) is activation and not activation.running:
            del self.activations[activation.id]
            self.crowd.went(activation.kind)
            self.idle_wheel.discard(activation)
            if not self.activations:
                self._emptied.set()

    def record_failure(self, target: ActorId, why: str) -> None:
        """Keep the reason for ``roost ps``, bounded."""
        self.failures.pop(target, None)
        if len(self.failures) >= FAILURES_MAX:
            del self.failures[next(iter(self.failures))]
        self.failures[target] = (why, trio.current_time())

    def escalate(self, activation: Activation, why: str) -> None:
        """The actor that spawned ``activation``, wherever it lives, crashes as if its run() had
        raised. Whoever spawned it is known until it is passivated or its host dies."""
        if activation.spawner is None:
            return
        payload = self.kinds.encode(f"{activation.id}, which it spawned, failed: {why}")
        call: TellNowait = prepare(
            self, TellNowait, activation.spawner, CRASH, Mode.TELL, Content.MSGPACK, payload,
            None, None,
        )  # fmt: skip
        self.router.submit(call)
        if call.error is not None:
            log.error("%s is not told that %s failed", activation.spawner, activation.id)

    def set_view(self, view: View) -> None:
        """Take over ``view``, unless a newer one came before it."""
        if number(view) < number(self.view):
            return
        self.view = view
        self.members = {m.incarnation: m for m in view.members}
        self.ring = Ring(view)
        self.router.set_peers(
            {m.incarnation: Peer(m.host_id, m.incarnation, m.address) for m in view.members}
        )
        self.rebalancer.view_changed()
        self.durables.view_changed()

    def name_of(self, incarnation: str) -> str:
        member = self.members.get(incarnation)
        return member.host_id if member is not None else incarnation

    def fenced(self, why: str, incarnation: str = "") -> None:
        """The lease is lost: serve nothing, end everything. ``incarnation``: whose lease, if the
        word of it may come so late that this host has another one."""
        if not self.serving or incarnation not in ("", self.me.incarnation):
            return
        log.error("this host has lost its lease: %s", why)
        self.leases_lost_total += 1
        self.serving = False
        for activation in list(self.activations.values()):
            self.lifecycle.kill(activation, Reason.FENCED)
        self.router.outgoing.fail_everything(Unavailable(f"this host lost its lease: {why}"))
        self._fence = why
        self._fence_wake.set()

    async def wait_fenced(self) -> str:
        """Wait until the lease is lost; returns why."""
        await self._fence_wake.wait()
        self._fence_wake = trio.Event()
        return self._fence or ""

    async def wait_empty(self) -> None:
        """Wait until no activation is left."""
        while self.activations:
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def stop_all(self, reason: Reason, timeout_s: float) -> int:
        """Stop every actor: what runs may finish within ``timeout_s``, states are saved, claims
        released. With others to go to, they are handed over instead. Returns how many had to be
        cut short."""
        until = trio.current_time() + timeout_s
        if reason is Reason.DRAIN:
            await self.rebalancer.drain(until)
        for activation in list(self.activations.values()):
            self.lifecycle.stop(activation, reason)
        with trio.CancelScope(deadline=until):
            await self.wait_empty()
        left = list(self.activations.values())
        owned = [(str(a.id), a.epoch) for a in left if a.epoch]
        for activation in left:
            log.warning("%s is cut short: it did not stop within %g s", activation.id, timeout_s)
            self.lifecycle.kill(activation, reason)
        with trio.move_on_after(2.0):
            await self.wait_empty()
            if owned:
                try:
                    await self.registry.release(self.me.incarnation, owned)
                except RegistryError as exc:  # leaving frees them, or the end of the lease does
                    log.warning("what was cut short is not released: %s", exc)
        return len(left)

    async def run(self) -> None:
        """The system's own tasks, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.router.run)
            nursery.start_soon(self.claimer.run)
            if not self.is_local:
                nursery.start_soon(self.rebalancer.run)
                nursery.start_soon(self.durables.run)
                self.reminders.start()
            nursery.start_soon(self.idle_wheel.run)


def new_incarnation() -> str:
    """A name for one start of one host, never used again."""
    return uuid.uuid4().hex[:16]
