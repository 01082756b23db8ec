"""Any sequence of operations has the same outcome in Redis as in the memory registry, whose
decisions are the tested ones. Epochs and generations are compared by the order they appear in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from placement import (
    Claim,
    Claimed,
    Held,
    Load,
    Location,
    MemberState,
    RegistryError,
    Reminder,
    Renewal,
    StaleGeneration,
    Stored,
    View,
)
from placement.ring import stable_hash
from tests.contract.servers import Server
from tests.contract.worlds import MemoryWorld, RedisWorld, World, member

HOSTS = ["a", "b", "c"]
ACTORS = ["K/1", "K/2", "L/1"]
HASHES = sorted(map(stable_hash, ACTORS))
LONG_S, LONGER_S = 1000.0, 10_000.0


class Op(NamedTuple):
    """One call: ``host`` makes it through its own registry object, as its present incarnation.

    ``epoch`` is a place in the list of the epochs seen so far, so that it is right now and then.
    """

    name: str
    host: str
    args: tuple[Any, ...] = ()
    epoch: int = 0


hosts, actors, small = st.sampled_from(HOSTS), st.sampled_from(ACTORS), st.integers(0, 3)
epochs = st.integers(1, 3)  # how many epochs ago


def op(name: str, *args: st.SearchStrategy[Any], epoch: bool = False) -> st.SearchStrategy[Op]:
    past = epochs if epoch else st.just(0)
    return st.builds(Op, st.just(name), hosts, st.tuples(*args), past)


many_actors = st.lists(actors, max_size=3, unique=True).map(tuple)
claims = op("claim", many_actors)
saves = op("save", actors, small, epoch=True)
edges = st.sampled_from([0, *HASHES, 2**64 - 1])
ranges = st.lists(st.tuples(edges, edges).map(lambda edge: tuple(sorted(edge))), max_size=2)
times_s = st.sampled_from([LONG_S, LONGER_S])
names = st.sampled_from(["n1", "n2"])
operations = st.one_of(
    claims,
    claims,
    saves,
    saves,
    op("transfer", actors, hosts, epoch=True),
    op("join"),
    op("rejoin"),
    op("leave"),
    op("renew", small),
    op("bury", hosts, small),
    op("heartbeat", small),
    op("loads"),
    op("set_state", hosts, st.sampled_from([MemberState.UP, MemberState.DRAINING])),
    op("set_ready", hosts, st.booleans()),
    op("view"),
    op("release", many_actors, epoch=True),
    op("forget", actors, epoch=True),
    op("load", actors),
    op("locate", many_actors),
    op("list", st.sampled_from(["", "K/", "L"])),
    op("restart", st.booleans()),
    op("back_up"),
    op("roll_back"),
    op("settle"),
    op("is_settled"),
    op("assert", many_actors, epoch=True),
    op("keep_spec", actors, small, epoch=True),
    op("end_durable", actors, epoch=True),
    op("specs", ranges, small),
    op("set_reminder", actors, names, times_s, st.sampled_from([0.0, LONG_S])),
    op("drop_reminder", actors, names),
    op("pass_time", times_s),
    op("due"),
    op("fired", small),
)
plays = st.lists(operations, min_size=5, max_size=40)
START = [Op("join", "a"), Op("join", "b"), Op("claim", "a", (("K/1",),))]


class Player:
    """Plays a sequence of operations in one world and notes each outcome."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._registries = {host: world.registry() for host in HOSTS}
        self._starts = dict.fromkeys(HOSTS, 1)
        self._epochs: list[int] = []
        self._generations: list[int] = []
        self._due: list[Reminder] = []
        self._is_backed_up = False

    async def play(self, ops: Sequence[Op]) -> list[Any]:
        return [await self._outcome(op) for op in ops]

    async def _outcome(self, op: Op) -> Any:
        try:
            return self._normal(await self._run(op))
        except StaleGeneration as exc:
            return ("stale", self._normal(exc.view))
        except RegistryError as exc:
            return type(exc).__name__

    def _me(self, host: str) -> str:
        return f"{host}-{self._starts[host]}"

    async def _run(self, op: Op) -> Any:
        r, me, args = self._registries[op.host], self._me(op.host), op.args
        epoch = self._epochs[-op.epoch] if len(self._epochs) >= op.epoch > 0 else 0
        match op.name:
            case "claim":
                return await r.claim(me, [Claim(actor) for actor in args[0]])
            case "transfer":
                offered = Location(self._me(args[1]), epoch)
                return await r.claim(me, [Claim(args[0], offered)])
            case "save":
                return await r.save(me, args[0], epoch, args[1], b"%d" % args[1])
            case "release":
                return await r.release(me, [(actor, epoch) for actor in args[0]])
            case "forget":
                return await r.forget(me, args[0], epoch)
            case "join":
                return await r.join(member(op.host, incarnation=me))
            case "rejoin":
                self._starts[op.host] += 1
                return await r.join(member(op.host, incarnation=self._me(op.host)))
            case "leave":
                return await r.leave(me)
            case "renew":
                return await r.renew(me, args[0])
            case "bury":
                return await r.bury(self._me(args[0]), args[1])
            case "heartbeat":
                return await r.heartbeat(me, Load(actors=args[0]))
            case "loads":
                return await r.loads()
            case "set_state":
                return await r.set_member(self._me(args[0]), state=args[1])
            case "set_ready":
                return await r.set_member(self._me(args[0]), ready=args[1])
            case "view":
                return await r.view()
            case "load":
                return await r.load(args[0])
            case "locate":
                return await r.locate(args[0])
            case "list":
                found, _ = await r.list_actors(args[0], 100, "")
                return sorted(found)
            case "assert":
                return await r.assert_owned(me, [(a, epoch) for a in args[0] if epoch])
            case "keep_spec":
                return await r.keep_spec(me, args[0], epoch, b"%d" % args[1])
            case "end_durable":
                return await r.end_durable(me, args[0], epoch)
            case "specs":
                return await r.specs(*args)
            case "settle":
                return await r.settle()
            case "is_settled":
                return await r.is_settled()
        return await self._run_in_time(op)

    async def _run_in_time(self, op: Op) -> Any:
        """What happens to the server, and to the reminders, which go by its clock."""
        r, args = self._registries[op.host], op.args
        match op.name:
            case "set_reminder":
                return await r.set_reminder(*args)
            case "drop_reminder":
                return await r.drop_reminder(*args)
            case "due":
                self._due = sorted(await r.due_reminders(10), key=lambda d: (d.actor, d.name))
                return [(d.actor, d.name, d.every_s) for d in self._due]
            case "fired":
                if args[0] < len(self._due):
                    await r.reminder_fired(self._due[args[0]])
                return None
            case "pass_time":
                self._due = []
                return await self._world.pass_time(args[0] + 1.0)
            case "restart":
                return await self._world.restart(keep_data=args[0])
            case "back_up":
                self._is_backed_up = True
                return await self._world.back_up()
            case "roll_back":
                return await self._world.roll_back() if self._is_backed_up else None
        raise AssertionError(op.name)

    def _normal(self, value: Any) -> Any:
        match value:
            case View(generation, version, members):
                return ("view", _place(self._generations, generation), version, members)
            case Renewal(generation, version, counters):
                return ("renewal", _place(self._generations, generation), version, counters)
            case Claimed(epoch, stored):
                return ("claimed", _place(self._epochs, epoch), self._normal(stored))
            case Held(location):
                return ("held", self._normal(location))
            case Location("", 0):
                return "nowhere"
            case Location(incarnation, epoch):
                return (incarnation, _place(self._epochs, epoch))
            case Stored(epoch, save_no, data):
                return (_place(self._epochs, epoch), save_no, data)
            case list() | tuple():
                return [self._normal(item) for item in value]
        return value


def _place(seen: list[int], number: int) -> int:
    """Where ``number`` comes in the order of appearance, which must be its order by size."""
    if number not in seen:
        assert not seen or number > max(seen), "an epoch or a generation went backward"
        seen.append(number)
    return seen.index(number)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ops=plays)
def test_redis_does_what_the_decisions_say(servers: dict[str, Server], ops: list[Op]) -> None:
    async def outcomes(world: World) -> list[Any]:
        try:
            return await Player(world).play([*START, *ops])
        finally:
            await world.aclose()

    expected = asyncio.run(outcomes(MemoryWorld()))
    for server in servers.values():
        assert asyncio.run(outcomes(RedisWorld(server))) == expected
