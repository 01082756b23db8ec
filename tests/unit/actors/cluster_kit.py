"""Actors and helpers for the tests of several hosts in one Trio run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import trio

from actors import Actor, HostSystem, Reason, handler
from actors.ref import id_of


class Tally(msgspec.Struct):
    total: int = 0
    seen: list[tuple[str, int]] = []


class Turn(NamedTuple):
    """One turn of an actor, as the log of all hosts has it."""

    epoch: int
    host: str
    begin_s: float
    end_s: float


#: Every turn that any host ran, by actor.
turns: dict[str, list[Turn]] = defaultdict(list)


class Account(Actor, persist="turn"):
    """Saves before each reply, and logs each turn."""

    state: Tally

    @handler
    async def add(self, n: int, seconds: float = 0.0) -> int:
        begin_s = trio.current_time()
        try:
            await trio.sleep(seconds)
            self.state.total += n
            return self.state.total
        finally:
            turns[str(self.id)].append(
                Turn(self.epoch, host_of(self).host_id, begin_s, trio.current_time())
            )

    @handler(idempotent=True)
    async def total(self) -> int:
        return self.state.total

    @handler(idempotent=True)
    async def where(self) -> str:
        return host_of(self).host_id

    @handler
    async def record(self, sender: str, n: int) -> None:
        self.state.seen.append((sender, n))

    @handler(idempotent=True)
    async def recorded(self) -> list[tuple[str, int]]:
        return self.state.seen

    @handler
    async def leave(self) -> None:
        self.passivate()


class Slow(Account, persist="passivate"):
    """Takes its time to leave, and saves only then."""

    async def on_deactivate(self, reason: Reason) -> None:
        await trio.sleep(0.02)


class Narrow(Account, mailbox_max=4):
    """Its mailbox is soon full."""

    @handler
    async def block(self, seconds: float) -> None:
        await trio.sleep(seconds)


def host_of(actor: Actor) -> HostSystem:
    system = actor.system
    assert isinstance(system, HostSystem)
    return system


def keys_owned_by(host: HostSystem, kind: type[Actor], prefix: str = "k") -> Iterator[str]:
    """Keys that the ring gives to ``host``."""
    for n in range(10_000):
        key = f"{prefix}{n}"
        owner = host.ring.owner(f"{kind.__roost_kind__}/{key}")
        if owner is not None and owner.incarnation == host.me.incarnation:
            yield key


def key_owned_by(host: HostSystem, kind: type[Actor], prefix: str = "k") -> str:
    return next(keys_owned_by(host, kind, prefix))


def assert_turns_never_overlap_between_epochs() -> None:
    """What a later epoch did began after all that an earlier one did had ended."""
    for actor, log in turns.items():
        by_epoch: dict[int, list[Turn]] = defaultdict(list)
        for turn in log:
            by_epoch[turn.epoch].append(turn)
        ended_s = 0.0
        for epoch in sorted(by_epoch):
            hosts = {turn.host for turn in by_epoch[epoch]}
            assert len(hosts) == 1, f"{actor}: epoch {epoch} ran on {hosts}"
            assert min(t.begin_s for t in by_epoch[epoch]) >= ended_s, f"{actor}: {log}"
            ended_s = max(t.end_s for t in by_epoch[epoch])


def in_order_and_once(seen: list[tuple[str, int]]) -> dict[str, list[int]]:
    """What each sender's messages came to; raises if one came twice or out of its order."""
    by_sender: dict[str, list[int]] = defaultdict(list)
    for sender, n in seen:
        by_sender[sender].append(n)
    for sender, numbers in by_sender.items():
        assert numbers == sorted(set(numbers)), f"{sender}: {numbers}"
    return by_sender


def activation_on(host: HostSystem, ref: object) -> bool:
    return id_of(ref) in host.activations
