"""Agents by their ids, from any host: the agent host's port over a HostSystem. An adapter.

Each agent is an actor of its own and has a record (see agent_record). To find agents, every host
is asked what it runs; a record whose host is gone is looked up in the registry.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from actors import HostSystem, with_timeout
from actors.phase import Phase
from deploy import agent_spec
from deploy.agent_record import CLEAN_UP_S, CREATE_S, KIND, RUSTIC_KINDS, AgentRecord, Record
from deploy.agent_spec import AgentSpec, checked_id, record_key
from placement.ports import RegistryError
from wire.agent_host import AgentHealth, AgentInfo, AgentRequest
from wire.errors import InvalidArgument, NotFound, RoostError, Unavailable, error_from_code
from wire.ids import actor_id, parse_actor_id
from wire.ports import Peer

ASK_HOST_S = 5.0
ASK_RECORD_S = 20.0
STOP_S = 30.0
PAGE = 500

#: (key of the record, the record) and {actor: pid}, as hosts tell each other.
_Records = list[tuple[str, Record]]


class Agents:
    """Implements wire.agent_host.AgentHost. ``isolation``: how agents of Rustic AI run."""

    def __init__(self, isolation: str = "process") -> None:
        self._rustic_kind = RUSTIC_KINDS[isolation]
        self._attached: HostSystem | None = None

    def attach(self, system: HostSystem) -> None:
        """From now on calls are served."""
        self._attached = system
        system.router.requests.register("agents", self._records_here)
        system.router.requests.register("agent-pids", self._pids_here)

    @property
    def _system(self) -> HostSystem:
        if self._attached is None:
            raise Unavailable("this host does not serve yet")
        return self._attached

    # The port -----------------------------------------------------------------------------

    async def create(self, request: AgentRequest) -> AgentInfo:
        spec = agent_spec.parse(request)
        packed = agent_spec.pack(spec)
        kind, key = self._kind_of(spec), record_key(spec.agent_id)
        if kind == self._rustic_kind:
            key = record_key(spec.agent_id, spec.guild_id)
        target = str(actor_id(kind, key))
        outcome = await self._record(key, CREATE_S + CLEAN_UP_S).create(target, packed)
        if outcome.code:
            raise error_from_code(outcome.code, outcome.message)
        made = Record(target, packed, int(time.time()), ready=True)
        (info,) = await self._infos([(key, made)])
        return info

    async def stop(self, agent_id: str, timeout_s: float) -> bool:
        timeout_s = timeout_s if timeout_s > 0 else STOP_S
        key, _ = await self._find(agent_id)
        outcome = await self._record(key, timeout_s + ASK_RECORD_S).stop(timeout_s)
        if outcome.code == NotFound.code:
            raise _unknown(agent_id)
        return not outcome.code

    async def info(self, agent_id: str) -> AgentInfo:
        (info,) = await self._infos([await self._find(agent_id)])
        return info

    async def list_agents(self, guild_id: str) -> list[AgentInfo]:
        if guild_id:
            checked_id("guild_id", guild_id)
        found = await self._infos(await self._ask_all("agents", [guild_id, ""]))
        if guild_id and not found:
            raise NotFound(f"guild_id {guild_id[:80]!r}: no agent of such a guild runs")
        return sorted(found)

    def health(self) -> AgentHealth:
        system = self._attached
        if system is None:
            return AgentHealth(False, 0, "")
        healthy = system.is_serving() and not system.is_draining
        return AgentHealth(healthy, len(_agents_of(system)), system.host_id)

    # Finding ------------------------------------------------------------------------------

    def _record(self, key: str, timeout_s: float = ASK_RECORD_S) -> AgentRecord:
        return with_timeout(self._system.ref(AgentRecord, key), timeout_s)

    def _kind_of(self, spec: AgentSpec) -> str:
        """The kind that runs it, among those of the hosts that are there."""
        known = {kind for member in self._system.members.values() for kind in member.kinds}
        if spec.class_name in known and not spec.class_name.startswith("roost."):
            return spec.class_name
        if self._rustic_kind in known:
            return self._rustic_kind
        shown = ", ".join(sorted(k for k in known if not k.startswith("roost.")))[:300]
        raise InvalidArgument(
            f"agent_spec.class_name {spec.class_name!r} is no kind of this cluster, which has "
            f"{shown or 'none'}; agents of Rustic AI need roost[rustic] on the hosts"
        )

    async def _find(self, agent_id: str) -> tuple[str, Record]:
        """The one agent of that id, which may be given as ``guild/agent`` too."""
        if not agent_id.strip():
            raise InvalidArgument("agent_id is empty")
        found = await self._ask_all("agents", ["", agent_id]) or await self._look_up(agent_id)
        if not found:
            raise _unknown(agent_id)
        if len(found) > 1:
            guilds = ", ".join(sorted(_spec(record).guild_id for _, record in found))
            raise InvalidArgument(f"agent_id {agent_id!r} is in guilds {guilds}: say guild/agent")
        return found[0]

    async def _look_up(self, agent_id: str) -> _Records:
        """Records whose hosts did not answer: in the registry, by name."""
        guild, slash, agent = agent_id.partition("/")
        wanted = [record_key(agent_id)]
        if slash and guild and agent:
            wanted.append(record_key(agent, guild))
        else:  # in whichever guild: a look at all names, which only strangers' ids cost
            wanted += await self._located(f"{record_key(agent_id)}@")
        found: _Records = []
        for key in wanted:
            if not await self._is_kept(key):
                continue
            record = await self._record(key).record()
            if record.target:
                found.append((key, record))
        return found

    async def _is_kept(self, key: str) -> bool:
        try:
            return await self._system.durables.has_spec(actor_id(KIND, key))
        except RegistryError as exc:
            raise Unavailable(str(exc)) from exc

    async def _located(self, prefix: str) -> list[str]:
        cursor, keys = "", []
        while True:
            try:
                page, cursor = await self._system.registry.list_actors(
                    f"{KIND}/{prefix}", PAGE, cursor
                )
            except RegistryError as exc:
                raise Unavailable(str(exc)) from exc
            keys += [parse_actor_id(name).key for name, _ in page]
            if not cursor:
                return keys

    async def _infos(self, records: Iterable[tuple[str, Record]]) -> list[AgentInfo]:
        wanted = [(key, record) for key, record in records if record.target]
        pids = dict(await self._ask_all("agent-pids", [r.target for _, r in wanted]))
        return [_info(record, pids.get(record.target, 0)) for _, record in wanted]

    async def _ask_all(self, op: str, body: object) -> list[Any]:
        """What all hosts answer, in one list; those that do not answer have nothing to say."""
        system, rows = self._system, []

        async def ask(incarnation: str) -> None:
            try:
                answer = await system.router.requests.ask(incarnation, op, body, ASK_HOST_S)
            except RoostError:
                return
            rows.extend(answer)

        async with trio.open_nursery() as nursery:
            for incarnation in list(system.members):
                nursery.start_soon(ask, incarnation)
        return [(k, msgspec.convert(r, Record)) for k, r in rows] if op == "agents" else rows

    # What other hosts ask -----------------------------------------------------------------

    async def _records_here(self, peer: Peer, body: Any) -> Any:
        guild_id, agent_id = body
        return [
            (key, msgspec.to_builtins(record, builtin_types=(bytes,)))
            for key, record in _agents_of(self._system)
            if _matches(_spec(record), guild_id, agent_id)
        ]

    async def _pids_here(self, peer: Peer, body: Any) -> Any:
        found = []
        for name in body:
            activation = self._system.activations.get(parse_actor_id(name))
            if activation is not None and activation.phase is Phase.ACTIVE:
                found.append((name, activation.pid or os.getpid()))
        return found


def _agents_of(system: HostSystem) -> _Records:
    """The records on this host."""
    found: _Records = []
    for activation in system.activations.values():
        if activation.kind.name == KIND and activation.phase is Phase.ACTIVE:
            record = activation.actor.state  # type: ignore[attr-defined]
            if record.target:
                found.append((activation.id.key, record))
    return found


def _matches(spec: AgentSpec, guild_id: str, agent_id: str) -> bool:
    if guild_id and spec.guild_id != guild_id:
        return False
    return not agent_id or agent_id in (spec.agent_id, f"{spec.guild_id}/{spec.agent_id}")


def _spec(record: Record) -> AgentSpec:
    return agent_spec.unpack(record.packed)


def _info(record: Record, pid: int) -> AgentInfo:
    spec = _spec(record)
    return AgentInfo(
        spec.agent_id, spec.guild_id, spec.name, pid, bool(pid) and record.ready, record.created_at
    )


def _unknown(agent_id: str) -> NotFound:
    return NotFound(f"agent_id {agent_id[:80]!r}: no such agent runs")
