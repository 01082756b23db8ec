"""Lifecycle: how activations start, save, restart, and stop. An adapter around decisions.

No user code runs before the claim is won; a state is loaded with it. What leaves is saved first,
released after, and only then may another message start it again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from actors import supervision
from actors.activation import Activation
from actors.actor import Actor
from actors.codec import encode
from actors.incoming import CURRENT, InCall
from actors.phase import Phase
from actors.reasons import Reason, Terminated
from actors.supervision import Directive, Escalate, Restart, Stop
from placement.ports import Fenced, Registry, RegistryError
from placement.records import Stored
from wire.errors import ActorFailed, NotDelivered, OutcomeUnknown, RoostError, Unavailable
from wire.items import Content, Mode

if TYPE_CHECKING:
    from actors.kinds import Kind
    from actors.system import System

log = logging.getLogger("roost.actors")

STATE = b"\x01"
SNAPSHOT = b"\x02"
SAVE_RETRY_S = 0.25
SENT_POLL_S = 0.005

#: Where the messages that wait will run is not known yet.
_UNDECIDED = (Phase.CLAIMING, Phase.QUIESCING, Phase.OFFERED)


class Life:
    """What saving needs to remember of one activation."""

    __slots__ = ("crash", "lock", "save_no", "saved")

    def __init__(self, saved: int | None) -> None:
        self.save_no = 0
        self.saved = saved  # hash of what is stored, to skip a save that changes nothing
        self.lock: trio.Lock | None = None
        self.crash: BaseException | None = None  # of a background task while on_activate ran


class Lifecycle:
    """Starts and ends the activations of one system."""

    #: Whether kinds with isolation="process" get one: in their processes they do not.
    isolates = True

    def __init__(self, system: System) -> None:
        self._system = system
        self.passivated_total = 0
        self._quiet: dict[Activation, trio.Event] = {}  # set when its last turn has ended

    # Start --------------------------------------------------------------------------------

    def claimed(self, activation: Activation, epoch: int, stored: Stored | None) -> None:
        """The claim is won: make the actor, restore it, and let it run."""
        activation.epoch = epoch
        activation.take_system_messages()
        try:
            self._make(activation, stored)
        except (Exception, SystemExit) as exc:
            self._could_not_start(activation, exc)
            return
        if type(activation.actor).on_activate is Actor.on_activate:
            self.started(activation)
        else:
            activation.phase = Phase.STARTING
            self._system.nursery.start_soon(self._activate, activation)

    def check_snapshot(self, kind: Kind, data: bytes) -> None:
        """Raises what decoding a snapshot of ``kind`` raises, before anyone claims for it."""
        if data[:1] == STATE:
            if kind.state_decoder is None:
                raise TypeError(f"a state is offered, but {kind.name} declares none here")
            kind.state_decoder.decode(Content.MSGPACK, data[1:])

    def _make(self, activation: Activation, stored: Stored | None) -> None:
        if activation.kind.options.isolation == "process" and self.isolates:
            from actors.isolation.proxy import proxy_for

            activation.actor = activation.child = proxy_for(activation, stored and stored.data)
            activation.life = Life(hash(stored.data) if stored else None)
            return
        cls = activation.kind.cls
        actor = cls.__new__(cls)
        actor._activation = activation
        activation.actor = actor
        if activation.kind.state_type is not None:
            actor.state = activation.kind.state_type()  # type: ignore[attr-defined]
        actor.__init__()  # type: ignore[misc]  # after the identity is there, so it can use it
        if stored is not None and stored.data:
            self._restore(activation, stored.data)
        activation.life = Life(hash(stored.data) if stored else None)

    def _restore(self, activation: Activation, data: bytes) -> None:
        tag, body = data[:1], data[1:]
        if tag == SNAPSHOT:
            activation.actor.restore(body)
            return
        decoder = activation.kind.state_decoder
        if decoder is None:
            raise TypeError(f"a state is stored, but {activation.kind.name} declares none")
        try:
            state = decoder.decode(Content.MSGPACK, body)
        except ValueError as exc:
            raise ValueError(f"the stored state does not fit its class: {exc}") from exc
        activation.actor.state = state  # type: ignore[attr-defined]

    async def _activate(self, activation: Activation) -> None:
        activation.life.crash = None
        error = await self._hook(activation, "on_activate", activation.actor.on_activate)
        error = error or activation.life.crash
        if activation.phase is not Phase.STARTING:
            return
        if error is not None:
            self._could_not_start(activation, error)
        else:
            self.started(activation)

    async def _hook(
        self, activation: Activation, name: str, hook: Callable[..., Awaitable[None]], *args: Any
    ) -> BaseException | None:
        """Run a hook of the actor as a turn of its own; returns what it raised.

        Calls that it makes are the actor's, calls that wait for it are cycles, kill() cancels it.
        """
        call = InCall(activation, name, b"")
        try:
            with trio.CancelScope() as call.worker:
                activation.active.append(call)
                CURRENT.set(call)
                await hook(*args)
        except (Exception, SystemExit) as exc:
            return exc
        finally:
            call.worker = None
            activation.active.remove(call)
            CURRENT.set(None)
            self.quiet(activation)
        return None

    def started(self, activation: Activation) -> None:
        """It may run: admit what came on trial, start ``run()``, watch for idleness."""
        activation.phase = Phase.ACTIVE
        activation.idle_since = trio.current_time()
        for call in activation.queue or ():
            call.is_admitted()
        if activation.inbox is not None:
            self._system.router.confirm_all(activation)
        if activation.kind.has_run and activation.child is None:
            run = activation.actor.run  # type: ignore[attr-defined]
            activation.open_nursery().start_soon(run, name=f"run of {activation.id}")
        self._watch_idleness(activation)
        if activation.stop_reason is not None:
            self._close(activation)
            self.quiet(activation)
        for _ in range(activation.kind.options.max_concurrency):
            activation.dispatch()

    def resumed(self, activation: Activation) -> None:
        """A move came to nothing; the claim has been raised: go on, with hooks and run() anew."""
        if type(activation.actor).on_activate is Actor.on_activate:
            self.started(activation)
        else:
            activation.phase = Phase.STARTING
            self._system.nursery.start_soon(self._activate, activation)

    def _could_not_start(self, activation: Activation, exc: BaseException) -> None:
        why = f"{activation.id} could not start: {_say(exc)}"
        log.error(why, exc_info=exc, extra={"actor": str(activation.id)})
        self._system.record_failure(activation.id, why)
        self._fail_waiting(activation, ActorFailed(why, {"type": type(exc).__name__}))
        activation.phase = Phase.STOPPING
        activation.is_closing = True
        self._system.nursery.start_soon(self._give_back, activation, why)

    async def _give_back(self, activation: Activation, why: str) -> None:
        await self._end_tasks(activation)
        await self._leave(activation, Reason.FAILED, why)

    def _fail_waiting(self, activation: Activation, error: RoostError) -> None:
        for call in activation.take_waiting():
            call.fail(error)
        while activation.waiters:
            activation.waiters.popleft().failed(error)

    def adopt(self, activation: Activation, epoch: int, snapshot: bytes) -> None:
        """Make the actor from another host's snapshot. Raises what restoring raises; nothing of
        it has run then."""
        self._make(activation, Stored(epoch, 0, snapshot) if snapshot else None)
        activation.epoch = epoch

    def has_hook(self, activation: Activation) -> bool:
        """Whether leaving calls code of the user's."""
        return type(activation.actor).on_deactivate is not Actor.on_deactivate

    def is_dirty(self, activation: Activation) -> bool:
        """Whether its state differs from what is stored."""
        data = self.snapshot(activation)
        return data is not None and hash(data) != activation.life.saved

    # Save ---------------------------------------------------------------------------------

    def snapshot(self, activation: Activation) -> bytes | None:
        """The state as bytes, None when its kind has none."""
        if activation.child is not None:
            return activation.child.tagged
        body = activation.actor.snapshot()
        if body is not None:
            return SNAPSHOT + body
        if activation.kind.state_type is None:
            return None
        state = activation.actor.state  # type: ignore[attr-defined]
        return STATE + encode(Content.MSGPACK, state)

    async def save(self, activation: Activation, registry: Registry | None = None) -> None:
        """Store the state if it changed, in the system's registry unless another is given.

        Raises NotDelivered when this activation no longer owns the actor (and ends it),
        Unavailable when the registry is out of reach.
        """
        if activation.kind.options.persist == "never":
            return
        life: Life = activation.life
        if life.lock is None:
            life.lock = trio.Lock()
        async with life.lock:
            if activation.child is not None:
                await activation.child.refresh()
            data = self.snapshot(activation)
            if data is None or hash(data) == life.saved:
                return
            self._check_data(activation, data)
            life.save_no += 1
            try:
                stored = self._system.is_serving() and await (
                    registry or self._system.registry
                ).save(
                    self._system.me.incarnation, str(activation.id), activation.epoch,
                    life.save_no, data,
                )  # fmt: skip
            except Fenced:
                stored = False
            except RegistryError as exc:
                raise Unavailable(f"state of {activation.id} is not saved: {exc}") from exc
            if not stored:
                self.lost_ownership(activation)
                raise NotDelivered(f"{activation.id} is no longer owned here: state not saved")
            life.saved = hash(data)

    async def save_again(self, activation: Activation, registry: Registry) -> None:
        """Save even what was stored before: the registry may have lost it."""
        if activation.life is not None and self.snapshot(activation) is not None:
            activation.life.saved = None
            await self.save(activation, registry)

    def _check_data(self, activation: Activation, data: bytes) -> None:
        """What is stored must be read again, or the actor would never start any more."""
        limit = self._system.config.payload_bytes_max
        if len(data) > limit:
            raise ValueError(
                f"state of {activation.id} has {len(data)} bytes; payload_bytes_max is {limit}"
            )
        try:
            self.check_snapshot(activation.kind, data)
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"state of {activation.id} does not fit its class: {exc}") from exc

    # Stop ---------------------------------------------------------------------------------

    def stop(self, activation: Activation, reason: Reason) -> None:
        """Stop once the messages that wait have run, up to a spawn that makes it durable: that
        begins another life. DRAIN also takes no new ones."""
        if reason in (Reason.DRAIN, Reason.MOVED, Reason.SHUTDOWN):
            activation.must_close = True
            self._close(activation)
        if activation.phase is Phase.ENDED:
            return
        if activation.phase is not Phase.STOPPING:
            if activation.stop_reason is not Reason.STOPPED:
                activation.stop_reason = reason
            self.quiet(activation)
        elif reason is Reason.STOPPED:
            activation.stop_reason = reason  # it leaves already: now for good

    def _close(self, activation: Activation) -> None:
        """Take no new messages, if those that wait are sure to run here. Else they may have to go
        elsewhere, and a new one waits behind them so as not to arrive there first."""
        if activation.must_close and activation.phase not in _UNDECIDED:
            activation.is_closing = True
            self._system.router.send_waiters(activation)

    def quiet(self, activation: Activation) -> None:
        """If no turn runs: go on with a stop or a restart that waited for this."""
        if activation.running or activation.active:
            return
        if self._quiet and (event := self._quiet.pop(activation, None)) is not None:
            event.set()
        reason = activation.stop_reason
        if activation.phase is not Phase.ACTIVE or reason is None:
            return
        if activation.depth == 0 or activation.begins_anew:
            activation.phase = Phase.STOPPING
            self._system.nursery.start_soon(self._stop, activation, reason)

    async def _stop(self, activation: Activation, reason: Reason) -> None:
        await activation.close_nursery()
        await self.deactivate(activation, reason)
        await self.save_before_leaving(activation)
        await self._wait_sent(activation)
        if activation.phase is Phase.STOPPING and activation.depth:
            await self._go_on(activation)
        else:
            await self._leave(activation, reason)
            self.passivated_total += reason is Reason.IDLE

    async def _go_on(self, activation: Activation) -> None:
        """Messages came while it stopped: they begin another life, if it is stopped for good."""
        is_for_good = activation.stop_reason is Reason.STOPPED
        has_ended = is_for_good and await self._end_durable(activation)
        if activation.phase is Phase.STOPPING:
            self._start_again(activation)
        self._tell_watchers(activation, Reason.STOPPED if has_ended else None)

    async def _leave(self, activation: Activation, reason: Reason, why: str = "") -> None:
        """Free the location, for good if a stop was asked for by now, and tell who waits for it:
        what was not ended is looked for anew, and stopped where it is."""
        is_for_good = activation.stop_reason is Reason.STOPPED
        has_ended = await self._release(activation, for_good=is_for_good)
        if is_for_good and reason is not Reason.FAILED:
            reason = Reason.STOPPED
        is_over = has_ended and reason in (Reason.STOPPED, Reason.FAILED)
        self._tell_watchers(activation, reason if is_over else None, why)

    async def _wait_sent(self, activation: Activation) -> None:
        """Its next life numbers what it sends anew, and would overtake what waits here; one that
        begins here before long goes on with the same numbers."""
        with trio.move_on_after(self._system.config.deactivate_timeout_s):
            while not (activation.has_sent_all() or activation.depth):
                if activation.phase is not Phase.STOPPING:
                    return
                await trio.sleep(SENT_POLL_S)

    async def deactivate(self, activation: Activation, reason: Reason) -> None:
        """Run the hook, for at most deactivate_timeout_s."""
        if activation.phase is Phase.ENDED or not self.has_hook(activation):
            return
        limit_s = self._system.config.deactivate_timeout_s
        with trio.move_on_after(limit_s) as scope:
            hook = activation.actor.on_deactivate
            error = await self._hook(activation, "on_deactivate", hook, reason)
            if error is not None:
                log.error("%s: on_deactivate raised", activation.id, exc_info=error)
        if scope.cancelled_caught:
            why = f"{activation.id}: on_deactivate took more than {limit_s:g} s and was cancelled"
            log.error(why)
            self._system.record_failure(activation.id, why)

    async def save_before_leaving(self, activation: Activation) -> None:
        """Save, again and again while the registry is away, as long as the lease lasts."""
        while self._system.is_serving() and activation.phase is not Phase.ENDED:
            try:
                await self.save(activation)
            except Unavailable as exc:
                log.warning("%s", exc)
                await trio.sleep(SAVE_RETRY_S)
            except NotDelivered:
                return
            except Exception as exc:
                why = f"state of {activation.id} could not be saved: {exc}"
                log.error(why, exc_info=exc)
                self._system.record_failure(activation.id, why)
                return
            else:
                return

    def _start_again(self, activation: Activation) -> None:
        """Messages came while it stopped. Its location is kept: our own claim of it is granted."""
        system = self._system
        activation.phase = Phase.ENDED
        system.gone(activation)
        again = system.start(activation.id, activation.kind)
        again.queue, again.waiters = activation.take_waiting(), activation.waiters
        again.has_overtakers = activation.has_overtakers
        again.go_on_for(activation)
        again.inbox, activation.inbox = activation.inbox, None
        activation.waiters = None
        for call in again.queue:
            call.activation = again
        activation.let_go()
        if activation.is_closing:
            self.stop(again, Reason.DRAIN)

    async def _end_durable(self, activation: Activation) -> bool:
        """Free the location, and with it spec and reminders, in one step; again and again while
        the registry is away. False: they may still be, for the actor is not this host's now."""
        system = self._system
        while activation.phase is not Phase.ENDED:
            try:
                if await system.registry.end_durable(
                    system.me.incarnation, str(activation.id), activation.epoch
                ):
                    return True
                # An earlier try may have done it, its reply lost.
                return not await system.durables.has_spec(activation.id)
            except Fenced:
                return False
            except RegistryError as exc:
                log.warning("%s is not stopped yet: %s", activation.id, exc)
                await trio.sleep(SAVE_RETRY_S)
        return False

    async def _free(self, activation: Activation) -> None:
        """Free the location alone; again and again while the registry is away."""
        while activation.phase is not Phase.ENDED:
            try:
                await self._system.claimer.release(activation)
            except Fenced:
                return
            except RegistryError as exc:
                log.warning("%s is not released yet: %s", activation.id, exc)
                await trio.sleep(SAVE_RETRY_S)
            else:
                return

    async def _release(self, activation: Activation, *, for_good: bool = False) -> bool:
        """Free the location and forget the activation; ``for_good``: its spec as well. From here on
        it takes no messages. False: its spec may still be there."""
        activation.is_closing = True
        has_ended = True
        if for_good:
            has_ended = await self._end_durable(activation)
        else:
            await self._free(activation)
        if activation.phase is not Phase.ENDED:
            activation.phase = Phase.ENDED
            self._system.gone(activation)
            self._system.router.turn_away(activation, "")
            activation.let_go()
        return has_ended

    def kill(self, activation: Activation, reason: Reason) -> None:
        """End it at once: cancel what runs, save nothing, release nothing."""
        if activation.phase is Phase.ENDED:
            return
        activation.phase = Phase.ENDED
        activation.is_closing = True
        activation.cancel_timers()
        if activation.child is not None:
            activation.child.kill()
        for call in list(activation.active):
            why = f"{activation.id}.{call.method} was cancelled ({reason.value})"
            call.fail(OutcomeUnknown(why))
            if call.worker is not None:
                call.worker.cancel()
        if self._system.is_serving():
            self._system.router.turn_away(activation, "")
        else:
            self._fail_waiting(activation, NotDelivered(f"{activation.id} is {reason.value} here"))
        self.end_watches(activation)
        if activation.has_tasks:
            self._system.nursery.start_soon(self._bury, activation)
        else:
            self._system.gone(activation)

    async def _end_tasks(self, activation: Activation) -> None:
        await activation.close_nursery()
        if activation.child is not None:
            await activation.child.end_child()

    async def _bury(self, activation: Activation) -> None:
        with trio.CancelScope(shield=True):
            await self._end_tasks(activation)
            await self.wait_quiet(activation)
        self._system.gone(activation)

    def lost_ownership(self, activation: Activation) -> None:
        """The registry says that another owns the actor: this activation must not go on."""
        log.error("%s: epoch %d is no longer the owner", activation.id, activation.epoch)
        self.kill(activation, Reason.FENCED)

    # Crash --------------------------------------------------------------------------------

    def handler_raised(self, activation: Activation, exc: BaseException) -> None:
        """A handler's exception has gone to its caller; what else follows."""
        directive = supervision.after_handler_error(
            activation.kind.options, activation.crashes or (), trio.current_time()
        )
        if directive is not None and activation.phase is Phase.ACTIVE:
            self._apply(activation, directive, exc)

    def crashed(self, activation: Activation, exc: BaseException) -> None:
        """``run()`` or a background task raised."""
        log.error("%s crashed", activation.id, exc_info=exc, extra={"actor": str(activation.id)})
        if activation.phase is Phase.STARTING:
            activation.life.crash = exc  # it has not started, and never will
            self.cancel_turns(activation)
        if activation.phase is not Phase.ACTIVE:
            return
        now = trio.current_time()
        directive = supervision.after_crash(activation.kind.options, activation.crashes or (), now)
        self._apply(activation, directive, exc)

    def _apply(self, activation: Activation, directive: Directive, exc: BaseException) -> None:
        activation.crashes = [*(activation.crashes or ())[-20:], trio.current_time()]
        match directive:
            case Restart(after_s):
                activation.phase = Phase.RESTARTING
                self._system.nursery.start_soon(self._restart, activation, after_s)
            case Stop(why):
                self._fail(activation, f"{why}: {_say(exc)}")
            case Escalate(why):
                self._fail(activation, f"{why}: {_say(exc)}")
                self._system.escalate(activation, _say(exc))
            case None:
                pass

    def _fail(self, activation: Activation, why: str) -> None:
        log.error("%s stops as failed: %s", activation.id, why)
        self._system.record_failure(activation.id, why)
        activation.phase = Phase.STOPPING
        self._system.nursery.start_soon(self._stop_failed, activation, why)

    async def _quiesce(self, activation: Activation) -> None:
        """Cancel what runs and wait until nothing does."""
        await self._end_tasks(activation)
        self.cancel_turns(activation)
        await self.wait_quiet(activation)

    def cancel_turns(self, activation: Activation) -> None:
        """Cancel the handlers that run."""
        for call in list(activation.active):
            if call.worker is not None:
                call.worker.cancel()

    async def wait_quiet(self, activation: Activation) -> None:
        """Wait until none of its turns runs."""
        while activation.active or activation.running:
            await self._quiet.setdefault(activation, trio.Event()).wait()

    async def _stop_failed(self, activation: Activation, why: str) -> None:
        await self._quiesce(activation)
        await self.deactivate(activation, Reason.FAILED)
        self._fail_waiting(activation, ActorFailed(f"{activation.id} has failed: {why}"))
        await self._leave(activation, Reason.FAILED, why)

    async def _restart(self, activation: Activation, after_s: float) -> None:
        await self._quiesce(activation)
        await trio.sleep(after_s)
        stored: Stored | None = None
        while activation.phase is Phase.RESTARTING:
            try:
                stored = await self._system.registry.load(str(activation.id))
            except RegistryError as exc:
                log.warning("%s cannot restart yet: %s", activation.id, exc)
                await trio.sleep(SAVE_RETRY_S)
            else:
                break
        if activation.phase is Phase.RESTARTING:
            if activation.is_durable:
                await self._system.durables.spawn_again(activation)
            save_no = activation.life.save_no
            self.claimed(activation, activation.epoch, stored)
            if activation.life is not None:
                activation.life.save_no = save_no

    # Watch and idleness -------------------------------------------------------------------

    def _tell_watchers(self, activation: Activation, reason: Reason | None, why: str = "") -> None:
        """The actor has ended for ``reason``; None: it may live on."""
        if reason is None:
            self.end_watches(activation)
            return
        watchers, activation.watchers = activation.watchers, None
        gone = Terminated(activation.id, reason, why)
        for call in watchers or ():
            if call.mode == Mode.STREAM:
                call.chunk(call.content, encode(call.content, gone))
                call.reply(call.content, b"")
            else:
                call.reply(call.content, encode(call.content, True))

    def end_watches(self, activation: Activation) -> None:
        """The actor is not here any more: who watches or would stop it must look for it anew."""
        watchers, activation.watchers = activation.watchers, None
        for call in watchers or ():
            call.fail(NotDelivered(f"{activation.id} has left this host"))

    def _watch_idleness(self, activation: Activation) -> None:
        idle_after_s = self._idle_after_s(activation)
        if idle_after_s > 0 and not activation.tick:
            self._system.idle_wheel.add(activation, trio.current_time() + idle_after_s)

    def _idle_after_s(self, activation: Activation) -> float:
        own = activation.kind.options.idle_after_s
        return self._system.config.idle_after_s if own is None else own

    def idle_check(self, activation: Activation) -> None:
        """Passivate it if it has been idle for long enough, else look again later."""
        if activation.phase is not Phase.ACTIVE:
            return
        idle_after_s = self._idle_after_s(activation)
        now = trio.current_time()
        busy = activation.running or activation.depth or activation.has_background
        due = now + idle_after_s if busy else activation.idle_since + idle_after_s
        if due > now:
            self._system.idle_wheel.add(activation, due)
        else:
            self.stop(activation, Reason.IDLE)


def _say(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup) and exc.exceptions:
        return _say(exc.exceptions[0])
    return f"{type(exc).__name__}: {exc}"
