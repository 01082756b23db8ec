"""AgentRecord: the actor that keeps one agent's name, so that it is never made twice.

The agent itself is an actor of another kind. Creating and stopping it are messages to its record,
one at a time; the record is durable with its agent and lists it wherever that runs.
"""

from __future__ import annotations

import time

import msgspec
import trio

from actors import Actor, handler
from deploy import agent_spec
from deploy.agent_spec import AgentSpec
from placement.ports import RegistryError
from wire.errors import (
    ActorError,
    ActorFailed,
    AlreadyExists,
    InvalidArgument,
    NotDelivered,
    NotFound,
    OutcomeUnknown,
    RoostError,
    Unavailable,
    UnknownKind,
)
from wire.ids import ActorId, parse_actor_id
from wire.items import Content

KIND = "roost.Agent"
#: The kind that runs agents of Rustic AI, where it is installed (see deploy.rustic).
RUSTIC_KINDS = {"process": "rustic.Agent", "thread": "rustic.ThreadAgent"}
#: Longest that an agent may take to initialise, and to be stopped again if it could not (seconds).
CREATE_S = 60.0
CLEAN_UP_S = 20.0


class Record(msgspec.Struct):
    """What is known of one agent. ``ready``: it has initialised; ``created_at``: Unix seconds."""

    target: str = ""  # Kind/key of the actor that is the agent; "" while there is none
    packed: bytes = b""
    created_at: int = 0
    ready: bool = False
    stopping: bool = False


class Outcome(msgspec.Struct):
    """How ``create`` or ``stop`` ended; ``code`` is "" when it went well, else an error code."""

    code: str = ""
    message: str = ""


class AgentRecord(Actor, kind=KIND, idle_after_s=0, persist="never"):
    """See the module."""

    state: Record

    async def on_activate(self) -> None:
        if not self.state.target:
            await self._recall()
        if self.state.target and not self.state.ready:
            # An agent is durable itself once it has initialised: without that its creator is lost.
            self.state.ready = await self.system.durables.spec_of(self._target) is not None
            if not self.state.ready:
                self.nursery.start_soon(self._abandon)

    async def _recall(self) -> None:
        spec = await self.system.durables.spec_of(self.id)
        if spec is not None:
            (kept,) = msgspec.msgpack.decode(spec[1:], type=tuple[bytes])
            self.state = msgspec.msgpack.decode(kept, type=Record)
            self._activation.is_durable = True

    async def on_spawn(self, kept: bytes) -> None:
        """Brought back: ``on_activate`` has read the same already."""

    # Handlers -----------------------------------------------------------------------------

    @handler
    async def create(self, target: str, packed: bytes) -> Outcome:
        """Start the agent, and return when it has initialised. If it cannot, nothing stays."""
        if self.state.target:
            return _outcome(AlreadyExists(f"agent_spec.id {self._spec.agent_id!r} runs already"))
        self.state = Record(target, packed, int(time.time()))
        try:
            await self._keep()
            await self._start()
            self.state.ready = True
        except RoostError as exc:
            await self._undo()
            return _outcome(exc)
        except BaseException:
            await self._undo()
            raise
        return Outcome()

    @handler
    async def stop(self, timeout_s: float) -> Outcome:
        """Stop the agent, waiting at most ``timeout_s``; its end goes on if that is too short."""
        if not self.state.target:
            self.passivate()
            return _outcome(NotFound("it does not run"))
        if not self.state.stopping:
            self.state.stopping = True
            self.nursery.start_soon(self._end)
        with trio.move_on_after(timeout_s):
            while self.state.target:
                await trio.sleep(0.01)
        if self.state.target:
            return _outcome(Unavailable("it is still stopping"))
        return Outcome()

    @handler(reentrant=True)
    async def record(self) -> Record:
        """What is known; an empty ``target`` means that there is no such agent."""
        if not self.state.target:
            self.passivate()
        return self.state

    # Steps --------------------------------------------------------------------------------

    @property
    def _spec(self) -> AgentSpec:
        return agent_spec.unpack(self.state.packed)

    @property
    def _target(self) -> ActorId:
        return parse_actor_id(self.state.target)

    async def _keep(self) -> None:
        """Let the registry know, so that this record comes back when its host is gone."""
        kept = msgspec.msgpack.encode([msgspec.msgpack.encode(self.state)])
        try:
            await self.system.durables.keep(self._activation, Content.MSGPACK, kept)
        except RegistryError as exc:
            raise Unavailable(f"the agent's record is not stored: {exc}") from exc

    async def _start(self) -> None:
        spec, target = self._spec, self._target
        is_rustic = target.kind in RUSTIC_KINDS.values()
        arguments = [self.state.packed] if is_rustic else spec.arguments
        try:
            await self.system.spawn_id(target, arguments, durable=True, timeout_s=CREATE_S)
        except UnknownKind as exc:
            raise InvalidArgument(f"agent_spec.class_name {spec.class_name!r}: {exc}") from exc
        except InvalidArgument as exc:
            raise InvalidArgument(f"agent_spec.properties: {exc}") from exc
        except (ActorError, ActorFailed, OutcomeUnknown) as exc:
            raise _could_not(spec, exc) from exc

    async def _undo(self) -> None:
        """Nothing of a failed start stays, the record least of all."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_S):
            await self._end()

    async def _abandon(self) -> None:
        self.state.stopping = True
        await self._end()

    async def _end(self) -> None:
        while True:
            try:
                await self.system.stop_id(self._target)
                break
            except (NotDelivered, OutcomeUnknown, Unavailable, RegistryError):
                await trio.sleep(0.1)
            except RoostError:
                break
        self.state = Record()
        self._activation.is_durable = False
        self._activation.end()


def _could_not(spec: AgentSpec, exc: RoostError) -> InvalidArgument:
    """What an agent's own start ended in, as its creator's mistake."""
    if isinstance(exc, ActorError) and exc.type_name == "FieldError":
        return InvalidArgument(exc.message)
    return InvalidArgument(f"agent_spec.class_name {spec.class_name!r} could not initialise: {exc}")


def _outcome(exc: RoostError) -> Outcome:
    return Outcome(exc.code, str(exc))
