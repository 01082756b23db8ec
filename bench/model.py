"""How does it go on beyond this machine: 1,000 hosts and 100 million actors?

Measures what one message, one activation, one renewal, one heartbeat and one view cost here, the
last three with as many members as the model has, and multiplies. Then checks the part that this
machine can reach: what Redis has to do for a few idle hosts. The work of a host is bounded by its
one core; Redis by its one core and its memory. Not in the model: the network, and the links of a
host to all others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import redis
import uvloop

import actors
from actors.reminders import POLL_S
from bench import memory
from bench import redis as in_redis
from bench.app import Echo
from bench.cluster import LEASE_TTL_S, Hosts, hosts, member
from bench.peers.with_roost import rate
from bench.peers.workloads import ACTORS, OUTSTANDING, PAYLOAD
from bench.report import Report, arguments, finish
from deploy import embedded
from placement.ports import Claim
from placement.records import Load, Member, View
from placement.redis_registry import RedisRegistry
from placement.ring import Ring

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Assumed:
    """The cluster that is modelled, and what its actors do."""

    hosts: int
    actors: int = 100_000_000
    #: Of each actor: asks that it gets, per second, and how often it is passivated and comes back.
    asks_per_s: float = 0.001
    activations_per_h: float = 0.1
    lease_ttl_s: float = 12.0
    heartbeat_s: float = 20.0
    redis_gib: float = 16.0


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, and bytes, per event."""

    ask_caller_s: float
    ask_callee_s: float
    claim_s: float
    renewal_s: float
    heartbeat_s: float
    poll_s: float
    view_s: float
    ring_s: float
    actor_bytes: float
    location_bytes: float


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments(
        "model", __doc__ or "", repeat=1, argv=argv, hosts=(1_000, "hosts in the model"),
    )  # fmt: skip
    count = 300 if options.short else options.hosts
    report = Report(f"a model of {count:,} hosts")
    messages = actors.run(_messages, 0.5 if options.short else 2.0)
    with embedded.serve() as server:
        embedded.settle(server.url)
        kept = uvloop.run(_registry(server.url, count, 200 if options.short else 1_000))
    actor_bytes = memory.measure(50_000)["bytes"]
    location_bytes = in_redis.location_bytes(100_000 if options.short else 1_000_000)
    costs = Costs(*messages, *kept, _ring_s(count), actor_bytes, location_bytes)
    _tell_costs(report, costs)
    _tell_model(report, Assumed(hosts=count), costs)
    for few in (3,) if options.short else (3, 10, 30):
        _check(report, few, costs)
    finish(report, options)
    return report


# What things cost ---------------------------------------------------------------------------


async def _messages(seconds: float) -> tuple[float, float]:
    """A core's time for one ask between two hosts, at the caller and at the callee."""
    with hosts(1) as running:
        async with member(running, 1) as system:
            away = [system.ref(Echo, f"e{n}") for n in range(ACTORS)]

            def call(task: int) -> Awaitable[object]:
                return away[task % ACTORS].echo(PAYLOAD)

            await rate(call, OUTSTANDING, seconds / 2)
            pid = running.processes["bench-1"].pid
            mine, theirs, start = time.process_time(), cpu_s(pid), time.perf_counter()
            per_s = await rate(call, OUTSTANDING, seconds)
            asks = per_s * (time.perf_counter() - start)
            return (time.process_time() - mine) / asks, (cpu_s(pid) - theirs) / asks


def cpu_s(pid: int) -> float:
    """What a process has had of the processors."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def _registry(url: str, count: int, repeat: int) -> tuple[float, float, float, float, float]:
    """Redis's own time for one claim of many, a renewal, a heartbeat, a look for reminders, and
    a view, with ``count`` members."""
    registry, server = RedisRegistry(url, "default"), redis.Redis.from_url(url)
    members = _members(count)
    for one in members:
        await registry.join(one)
    me = members[0].incarnation

    async def each(act: Callable[[int], Awaitable[object]], events: int = 1) -> float:
        before = _server_s(server)
        for number in range(repeat):
            await act(number)
        return (_server_s(server) - before) / repeat / events

    async def claim(number: int) -> None:
        await registry.claim(me, [Claim(f"Agent/{number:06}-{n:04}") for n in range(256)])

    try:
        return (
            await each(claim, 256),
            await each(lambda number: registry.renew(me, number + 1)),
            await each(lambda number: registry.heartbeat(me, Load(actors=number))),
            await each(lambda number: registry.due_reminders(1_000)),
            await each(lambda number: registry.view()),
        )
    finally:
        await registry.aclose()


def _server_s(server: redis.Redis) -> float:
    found = server.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def _members(count: int) -> list[Member]:
    return [
        Member(
            host_id=f"agents-{n:05}",
            incarnation=f"{n:016x}",
            address=f"127.0.0.1:{50_000 + n}",
            kinds=("Agent", "Tool", "Memory"),
        )
        for n in range(count)
    ]


def _ring_s(count: int) -> float:
    """A ring with one host more than the last one."""
    members = _members(count + 1)
    Ring(View(1, 1, tuple(members[:-1])))
    start = time.perf_counter()
    Ring(View(1, 2, tuple(members)))
    return time.perf_counter() - start


# What follows -------------------------------------------------------------------------------


def _tell_costs(report: Report, costs: Costs) -> None:
    for name, seconds in (
        ("ask between hosts, caller", costs.ask_caller_s),
        ("ask between hosts, callee", costs.ask_callee_s),
        ("Redis: a claim, 256 to a script", costs.claim_s),
        ("Redis: a renewal, all members joined", costs.renewal_s),
        ("Redis: a heartbeat", costs.heartbeat_s),
        ("Redis: a look for due reminders", costs.poll_s),
        ("Redis: a view of all members", costs.view_s),
        ("every host: a ring with one more", costs.ring_s),
    ):
        report.add(name, "us", seconds * 1e6, "less")
    report.add("idle actor", "bytes", costs.actor_bytes, "less")
    report.add("Redis: an actor's location", "bytes", costs.location_bytes, "less")


def _tell_model(report: Report, it: Assumed, costs: Costs) -> None:
    each = it.actors / it.hosts
    asks_per_s = it.actors * it.asks_per_s
    activations_per_s = it.actors * it.activations_per_h / 3600
    renewals_s = it.hosts * 4 / it.lease_ttl_s * costs.renewal_s
    claims_s = 2 * activations_per_s * costs.claim_s  # a release costs as much
    others_s = it.hosts * (costs.heartbeat_s / it.heartbeat_s + costs.poll_s / POLL_S)
    redis_gib = it.actors * costs.location_bytes / 2**30
    change_s = it.hosts * costs.view_s
    host_share = asks_per_s / it.hosts * (costs.ask_caller_s + costs.ask_callee_s)
    report.note(
        f"\n{it.hosts:,} hosts, {it.actors:,} actors, each asked {it.asks_per_s:g} times a second"
        f"\nand passivated {it.activations_per_h:g} times an hour; lease {it.lease_ttl_s:g} s,"
        f"\nRedis with {it.redis_gib:g} GiB:"
    )
    for name, value in (
        ("a host's memory for its actors", f"{each * costs.actor_bytes / 2**30:.2f} GiB"),
        ("a host's core for asks, as caller and as callee", f"{100 * host_share:.1f} %"),
        ("asks that its core allows, cluster", f"{_most_asks(it, costs):,.0f} /s"),
        ("Redis's memory for locations", f"{redis_gib:.1f} GiB"),
        ("Redis's core: claims and releases", f"{100 * claims_s:.1f} %"),
        ("Redis's core: renewals", f"{100 * renewals_s:.1f} %"),
        ("Redis's core: heartbeats, looks for reminders", f"{100 * others_s:.1f} %"),
        (
            "activations that Redis's core allows",
            f"{_most_activations(renewals_s + others_s, costs):,.0f} /s",
        ),
        ("one view change: Redis answers all hosts in", f"{change_s:.2f} s"),
        ("one view change: every host's loop stands for", f"{costs.ring_s * 1e3:.0f} ms"),
    ):
        report.note(f"  {name:<58}{value:>16}")
    report.note(_first_to_end(redis_gib / it.redis_gib, renewals_s, claims_s, host_share))


def _most_asks(it: Assumed, costs: Costs) -> float:
    return it.hosts / (costs.ask_caller_s + costs.ask_callee_s)


def _most_activations(others_s: float, costs: Costs) -> float:
    return max(0.0, 1 - others_s) / costs.claim_s / 2


def _first_to_end(redis_share: float, renewals_s: float, claims_s: float, host_share: float) -> str:
    """Each grows with the number of hosts (renewals with its square) or of actors."""
    room = {
        "Redis's memory (it grows with the actors)": redis_share,
        "Redis's core, by renewals (they grow with the square of the hosts)": renewals_s,
        "Redis's core, by claims (they grow with the actors)": claims_s,
        "the hosts' cores, by asks (more hosts help)": host_share,
    }
    name, used = max(room.items(), key=lambda pair: pair[1])
    return f"  What ends first: {name}, used to {100 * used:.0f} %."


def _check(report: Report, few: int, costs: Costs) -> None:
    """What Redis does for so many idle hosts, and what the model says it should."""
    with hosts(few) as running:
        for name in running.processes:
            running.wait_address(name)
        predicted = few * (4 / LEASE_TTL_S + 1 / Assumed.heartbeat_s + 1 / POLL_S)
        report.add(f"{few} idle hosts: scripts, measured", "scripts/s", _scripts_s(running))
        report.add(f"{few} idle hosts: scripts, model", "scripts/s", predicted)


def _scripts_s(running: Hosts, seconds: float = 12.0) -> float:
    server = redis.Redis.from_url(running.redis_url)

    def count() -> int:
        return int(server.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    time.sleep(1.0)  # until they have settled
    before, start = count(), time.perf_counter()
    time.sleep(seconds)
    return (count() - before) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
