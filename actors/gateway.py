"""HostGateway: what the gRPC services of this host call (wire.ports.Gateway)."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio

from actors.activation import Activation
from actors.calls import GatewayCall, Sender, WaitingCall
from actors.kinds import SPAWN
from actors.phase import Phase
from actors.ref import prepare
from actors.turns import DURABLE
from placement.ports import RegistryError
from placement.records import Member
from wire.errors import InvalidArgument, NotDelivered, OutcomeUnknown, RoostError, Unavailable
from wire.ids import ActorId, parse_actor_id
from wire.items import Content, Mode
from wire.ports import ClientCall, Described, HostInfo, Peer

if TYPE_CHECKING:
    from actors.hosting import HostSystem

SESSIONS_MAX = 10_000
ASK_HOST_S = 5.0
PAGE_MAX = 1_000


class HostGateway:
    """Any host takes any call and routes it; see wire.ports.Gateway for the promises."""

    def __init__(self, system: HostSystem) -> None:
        self._system = system
        self._calls: dict[ClientCall, GatewayCall] = {}
        self._sessions: OrderedDict[str, Sender] = OrderedDict()
        requests = system.router.requests
        requests.register("describe", self._describe_here)
        requests.register("failures", self._failures_here)
        requests.register("drain", self._drain_here)

    # Calls --------------------------------------------------------------------------------

    def submit(self, call: ClientCall) -> None:
        system = self._system
        if not system.is_serving():
            call.failed(Unavailable(f"host {system.me.host_id} holds no lease now; try another"))
            return
        try:
            inner = self._prepare(call)
        except RoostError as exc:
            call.failed(exc)
            return
        self._calls[call] = inner
        system.router.submit(inner)

    def _prepare(self, call: ClientCall) -> GatewayCall:
        system = self._system
        if call.method.startswith("$"):
            raise InvalidArgument(f"{call.method!r}: a method's name does not start with '$'")
        timeout_s = call.timeout_s
        if timeout_s is None and call.mode is not Mode.TELL:
            timeout_s = system.config.ask_timeout_s
        now = system.now()
        expires_at = math.inf if timeout_s is None else now + timeout_s
        inner = GatewayCall(
            system.router, self._sender(call.session), call.target, call.method, call.mode,
            call.content, call.payload, expires_at, (), call.headers, client=call,
            window=system.config.stream_window, start_only=call.timeout_s is None,
            ended=self._ended,
        )  # fmt: skip
        if call.mode is Mode.ASK:
            inner.began = now
        kind = system.kinds.hosted(call.target.kind)
        spec = kind.handlers.get(call.method) if kind is not None else None
        inner.idempotent = spec is not None and spec.idempotent
        if timeout_s is not None:
            system.router.wheel.add(inner, expires_at)
        return inner

    def _ended(self, client: ClientCall) -> None:
        self._calls.pop(client, None)

    def _sender(self, session: str) -> Sender:
        sender = self._sessions.get(session)
        if sender is None:
            if len(self._sessions) >= SESSIONS_MAX:
                self._sessions.popitem(last=False)
            sender = self._sessions[session] = Sender()
        else:
            self._sessions.move_to_end(session)
        return sender

    def cancel(self, call: ClientCall) -> None:
        inner = self._calls.pop(call, None)
        if inner is not None:
            inner.leave()

    def grant(self, call: ClientCall, items: int) -> None:
        inner = self._calls.get(call)
        if inner is not None:
            inner.grant(items)

    # Operators ----------------------------------------------------------------------------

    async def locate(self, target: ActorId) -> Described:
        where = await self._registry_says(target)
        if where is None or where.incarnation not in self._system.members:
            return self._absent(target)
        (found,) = await self._describe([target], where.incarnation)
        return found

    async def _registry_says(self, target: ActorId) -> Any:
        try:
            (where,) = await self._system.registry.locate([str(target)])
            await self._system.catch_up([where.incarnation] if where else [])
        except RegistryError as exc:
            raise Unavailable(str(exc)) from exc
        return where

    def _absent(self, target: ActorId, reason: str = "") -> Described:
        status = "failed" if reason else "absent"
        return Described(target, status, "", "", "", 0, 0, 0, 0.0, reason)

    async def spawn(
        self, target: ActorId, content: int, payload: bytes, durable: bool
    ) -> Described:
        call: WaitingCall = prepare(
            self._system, WaitingCall, target, SPAWN, Mode.ASK, content,
            payload or (b"[]" if content == Content.JSON else b"\x90"), None,
            {DURABLE: "1"} if durable else None,
        )  # fmt: skip
        self._system.router.submit(call)
        await call.wait()
        return await self.locate(target)

    async def stop(self, target: ActorId) -> bool:
        return await self._system.stop_id(target)

    async def list_actors(self, kind: str, limit: int, cursor: str) -> tuple[list[Described], str]:
        prefix = f"{kind}/" if kind else ""
        try:
            page, after = await self._system.registry.list_actors(
                prefix, min(limit, PAGE_MAX), cursor
            )
            await self._system.catch_up(where.incarnation for _, where in page)
        except ValueError as exc:
            raise InvalidArgument(f"cursor {cursor!r} is none that a page ended with") from exc
        except RegistryError as exc:
            raise Unavailable(str(exc)) from exc
        by_host: dict[str, list[ActorId]] = {}
        for name, where in page:
            by_host.setdefault(where.incarnation, []).append(parse_actor_id(name))
        found = await self._gather(by_host)
        lost = {d.actor for d in found if d.incarnation not in self._system.members}
        if lost or not cursor:
            known = {d.actor for d in found} - lost
            failed = {d.actor: d for d in await self._failures(kind, known)}
            found = [failed.pop(d.actor, d) for d in found]
            if not cursor:
                found += await self._without_running(list(failed.values()))
        return sorted(found), after

    async def _without_running(self, failed: list[Described]) -> list[Described]:
        """Those that run nowhere: whoever failed once may run on another host by now."""
        try:
            where = await self._system.registry.locate([str(d.actor) for d in failed])
        except RegistryError as exc:
            raise Unavailable(str(exc)) from exc
        members = self._system.members
        return [
            d for d, location in zip(failed, where, strict=True)
            if location is None or location.incarnation not in members
        ]  # fmt: skip

    async def _gather(self, by_host: dict[str, list[ActorId]]) -> list[Described]:
        found: list[Described] = []

        async def one(incarnation: str, targets: list[ActorId]) -> None:
            found.extend(await self._describe(targets, incarnation))

        async with trio.open_nursery() as nursery:
            for incarnation, targets in by_host.items():
                nursery.start_soon(one, incarnation, targets)
        return found

    async def _describe(self, targets: list[ActorId], incarnation: str) -> list[Described]:
        """What the host that has them says; one that does not answer leaves "unknown"."""
        member = self._system.members.get(incarnation)
        if member is None:
            return [self._lost(t, incarnation, "its host is gone") for t in targets]
        try:
            rows = await self._system.router.requests.ask(
                incarnation, "describe", [tuple(t) for t in targets], ASK_HOST_S
            )
        except (NotDelivered, OutcomeUnknown) as exc:
            return [self._lost(t, incarnation, str(exc)) for t in targets]
        where = (member.host_id, member.address, incarnation)
        return [
            Described(target, row[0], *where, row[1], row[2], row[3], row[4], row[5])
            for target, row in zip(targets, rows, strict=True)
        ]

    def _lost(self, target: ActorId, incarnation: str, why: str) -> Described:
        host_id = self._system.name_of(incarnation)
        return Described(target, "unknown", host_id, "", incarnation, 0, 0, 0, 0.0, why)

    async def _failures(self, kind: str, known: Iterable[ActorId]) -> list[Described]:
        seen = set(known)
        failed: list[Described] = []
        for incarnation, member in list(self._system.members.items()):
            try:
                rows = await self._system.router.requests.ask(
                    incarnation, "failures", kind, ASK_HOST_S
                )
            except (NotDelivered, OutcomeUnknown):
                continue
            for actor_kind, key, why in rows:
                target = ActorId(actor_kind, key)
                if target not in seen:
                    seen.add(target)
                    failed.append(
                        Described(
                            target, "failed", member.host_id, member.address, incarnation,
                            0, 0, 0, 0.0, why,
                        )
                    )  # fmt: skip
        return failed

    async def list_hosts(self) -> list[HostInfo]:
        try:
            view = await self._system.registry.view()
            loads = await self._system.registry.loads()
        except RegistryError as exc:
            raise Unavailable(str(exc)) from exc
        return [
            HostInfo(
                m.host_id, m.incarnation, m.address,
                m.state.value if m.ready else f"{m.state.value}, not ready", m.weight, m.capacity,
                loads[m.incarnation].actors if m.incarnation in loads else 0,
                loads[m.incarnation].view_version if m.incarnation in loads else 0,
            )
            for m in view.members
        ]  # fmt: skip

    async def drain(self, host_id: str) -> bool:
        members = self._named(host_id)
        if not members:
            try:
                await self._system.refresh_view()  # it may have joined just now
            except RegistryError as exc:
                raise Unavailable(str(exc)) from exc
            members = self._named(host_id)
        if not members:
            known = sorted(m.host_id for m in self._system.members.values())
            raise InvalidArgument(f"no host {host_id!r} in the cluster; there are {known}")
        for member in members:
            await self._system.router.requests.ask(member.incarnation, "drain", None, ASK_HOST_S)
        return True

    def _named(self, host_id: str) -> list[Member]:
        return [m for m in self._system.members.values() if m.host_id == host_id]

    def health(self) -> tuple[bool, bool]:
        return self._system.is_serving(), self._system.is_ready()

    # What other hosts ask -----------------------------------------------------------------

    async def _describe_here(self, peer: Peer, body: Any) -> Any:
        now = trio.current_time()
        return [self._row(ActorId(kind, key), now) for kind, key in body[:PAGE_MAX]]

    def _row(self, target: ActorId, now: float) -> tuple[str, int, int, int, float, str]:
        activation = self._system.activations.get(target)
        failure = self._system.failures.get(target, ("", 0.0))[0]
        if activation is None:
            return "failed" if failure else "absent", 0, 0, 0, 0.0, failure
        idle_s = 0.0 if activation.running else max(0.0, now - activation.idle_since)
        status = _status(activation)
        return status, activation.epoch, activation.depth, activation.running, idle_s, failure

    async def _failures_here(self, peer: Peer, kind: Any) -> Any:
        return [
            (target.kind, target.key, why)
            for target, (why, _) in self._system.failures.items()
            if (not kind or target.kind == kind) and target not in self._system.activations
        ]

    async def _drain_here(self, peer: Peer, body: Any) -> Any:
        self._system.begin_drain()
        return True


def _status(activation: Activation) -> str:
    if activation.phase is Phase.ACTIVE:
        return "active" if activation.running or activation.depth else "idle"
    if activation.phase in (Phase.CLAIMING, Phase.STARTING):
        return "activating"
    return str(activation.phase.value)
