"""The registry in Redis: one Lua script per method, sent over redis.asyncio. An adapter.

Import it by its own name; nothing else in Roost knows Redis. Needs Redis 7 or Valkey.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator, Sequence
from secrets import token_hex
from typing import Any, Protocol, TypeVar, cast

import msgspec
import trio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from placement import redis_scripts as scripts
from placement.batcher import Batcher, WaitableEvent
from placement.membership import changed_member, shadowed
from placement.ports import (
    Claim,
    Fenced,
    RegistryMisconfigured,
    RegistryUnavailable,
    StaleGeneration,
)
from placement.records import (
    Claimed,
    Held,
    Load,
    Location,
    Member,
    MemberState,
    Renewal,
    Stored,
    View,
)
from placement.redis_durable import RedisDurable
from placement.redis_errors import translated
from placement.redis_renewal import RedisRenewer
from placement.redis_replies import (
    Heard,
    pairs,
    read_loads,
    read_renewal,
    read_stored,
)
from placement.redis_scripts import BUCKETS, Script, bucket_of
from placement.view import find_member

#: A script holds the server up for about 4 us per actor.
ACTORS_PER_SCRIPT_MAX = 1000
#: How many buckets one page of ``list_actors`` looks into at most: about 1 ms.
BUCKETS_PER_PAGE = 2048
#: How often a change of the view is tried anew because another change came first.
CHANGE_ATTEMPTS_MAX = 50

_encode = msgspec.json.encode
_T = TypeVar("_T")


class Cross(Protocol):
    """Runs a coroutine function on the asyncio side and awaits its result."""

    def __call__(self, fn: Callable[..., Coroutine[Any, Any, _T]], *args: Any) -> Awaitable[_T]: ...


async def stay(fn: Callable[..., Coroutine[Any, Any, _T]], *args: Any) -> _T:
    """The crossing of a caller that is in asyncio already."""
    return await fn(*args)


class RedisRegistry(RedisDurable):
    """One host's access to the registry; see placement.ports.Registry for what it promises.

    ``cross`` runs a coroutine function on the asyncio side. ``new_event`` makes the events on
    which the callers' own loop waits while claims share a script: asyncio.Event for callers in
    asyncio. ``timeout_s`` bounds each step of a call: to get a connection, to connect, to hear
    the reply. A broken connection is retried once, a timeout never. Raises RegistryMisconfigured
    for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        cluster: str,
        *,
        cross: Cross = stay,
        new_event: Callable[[], WaitableEvent] = trio.Event,
        timeout_s: float = 2.0,
        connections_max: int = 16,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._pool = _pool(url, timeout_s, connections_max)
        self._redis: Any = Redis(connection_pool=self._pool)
        self.address = _address(self._pool.connection_kwargs)
        self._cluster = cluster
        self._meta = scripts.meta_key(cluster)
        self._cross = cross
        self._heard = Heard()
        self._callbacks: list[Callable[[int, int], None]] = []
        self._claims = Batcher(self._claim_batch, new_event, ACTORS_PER_SCRIPT_MAX)
        self._claimer = token_hex(8)
        self._call_no = 0

    # Members

    async def join(self, member: Member) -> View:
        return await self._change(
            lambda view: [
                member,
                *(changed_member(m, ready=False) for m in shadowed(view.members, member)),
            ],
            joining=member.incarnation,
        )

    async def set_member(
        self, incarnation: str, *, state: MemberState | None = None, ready: bool | None = None,
        weight: float | None = None,
    ) -> View:  # fmt: skip
        def change(view: View) -> list[Member]:
            before = find_member(view, incarnation)
            if before is None:
                raise Fenced(f"{incarnation} is not a live member")
            after = changed_member(before, state=state, ready=ready, weight=weight)
            return [] if after == before else [after]

        return await self._change(change)

    async def renew(self, me: str, counter: int) -> Renewal:
        return read_renewal(await self._call(scripts.RENEW, me, counter))

    async def heartbeat(self, me: str, load: Load) -> None:
        await self._call(scripts.HEARTBEAT, me, _encode(load))

    async def leave(self, me: str) -> View:
        return self._heard.view(await self._call(scripts.REMOVE, me, ""))

    async def bury(self, incarnation: str, counter: int) -> bool:
        reply = await self._call(scripts.REMOVE, incarnation, counter)
        return bool(reply[0] != b"alive")

    async def view(self) -> View:
        try:
            return self._heard.view(await self._call(scripts.VIEW))
        except StaleGeneration as exc:
            return exc.view

    async def loads(self) -> dict[str, Load]:
        return read_loads(await self._call(scripts.LOADS))

    # Locations

    async def claim(
        self, me: str, claims: Sequence[Claim], generation: int | None = None
    ) -> list[Claimed | Held]:
        answers: list[Claimed | Held] = []
        for part in _distinct(claims):
            answers += await self._claims.submit((me, generation), part)
        return answers

    async def release(self, me: str, owned: Sequence[tuple[str, int]]) -> None:
        for part in _parts(owned):
            args = [arg for actor, epoch in part for arg in (bucket_of(actor), actor, epoch)]
            await self._call(scripts.RELEASE, me, *args)

    async def locate(self, actors: Sequence[str]) -> list[Location | None]:
        found: list[Location | None] = []
        for part in _parts(actors):
            args = [arg for actor in part for arg in (bucket_of(actor), actor)]
            _, _, texts = await self._call(scripts.LOCATE, *args)
            found += [None if text is None else self._heard.location(text) for text in texts]
        return found

    async def list_actors(
        self, prefix: str, limit: int, cursor: str
    ) -> tuple[list[tuple[str, Location]], str]:
        found: list[tuple[str, Location]] = []
        bucket = int(cursor or 0)
        while bucket < BUCKETS and len(found) < limit:
            stop, wanted = min(BUCKETS, bucket + BUCKETS_PER_PAGE), limit - len(found)
            _, _, bucket, page = await self._call(scripts.LIST, bucket, stop, wanted, prefix)
            found += [(name.decode(), self._heard.location(text)) for name, text in pairs(page)]
        return found, str(bucket) if bucket < BUCKETS else ""

    # Generations

    @property
    def generation(self) -> int:
        return self._heard.generation

    async def settle(self) -> None:
        if not self.generation:  # sent late, it would be taken for any generation's
            await self.view()
        await self._call(scripts.SETTLE)

    async def is_settled(self) -> bool:
        return bool((await self._call(scripts.SETTLED))[2])

    async def assert_owned(self, me: str, owned: Sequence[tuple[str, int]]) -> list[bool]:
        answers: list[bool] = []
        for part in _parts(owned):
            self._heard.asserted(part)
            args = [arg for actor, epoch in part for arg in (bucket_of(actor), actor, epoch)]
            reply = await self._call(scripts.ASSERT, me, *self._numbered(), *args)
            answers += [bool(is_mine) for is_mine in self._in_order(reply)[2]]
        return answers

    # Saved states

    async def save(self, me: str, actor: str, epoch: int, save_no: int, data: bytes) -> bool:
        value = b"%d:%d:%b" % (epoch, save_no, data)
        args = (me, bucket_of(actor), actor, epoch, save_no, value)
        reply = await self._call(scripts.SAVE, *args)
        return bool(reply[0] == b"ok")

    async def load(self, actor: str) -> Stored | None:
        _, _, text = await self._call(scripts.LOAD, actor)
        return None if text is None else read_stored(text)

    async def forget(self, me: str, actor: str, epoch: int) -> bool:
        reply = await self._call(scripts.FORGET, me, bucket_of(actor), actor, epoch)
        return bool(reply[0] == b"ok")

    # The connection itself

    def on_change(self, callback: Callable[[int, int], None]) -> None:
        self._callbacks.append(callback)

    async def listen(self) -> None:
        await self._cross(self._listen)

    async def check_policy(self) -> None:
        """Raise RegistryMisconfigured if the server may evict keys that carry no TTL, or is too
        old for the scripts (rule 18); RegistryUnavailable if it is out of reach."""
        info = await self._cross(self._info)
        policy = str(info.get("maxmemory_policy", ""))
        if policy.startswith("allkeys-"):
            raise RegistryMisconfigured(
                f"Redis at {self.address} has maxmemory-policy {policy}, which evicts the "
                f"registry's own keys; set maxmemory-policy to volatile-lru or noeviction"
            )
        version = str(info.get("redis_version", ""))
        if version and int(version.split(".")[0]) < 7:
            raise RegistryMisconfigured(
                f"Redis at {self.address} is version {version}; Roost needs 7 or later, or Valkey"
            )

    def renewer(self) -> RedisRenewer:
        """A synchronous way to renew, with a connection of its own, for the lease thread."""
        return RedisRenewer(self._url, self.address, self._meta, self._heard, self._timeout_s)

    async def aclose(self) -> None:
        await self._cross(self._disconnect)

    async def _change(self, change: Callable[[View], list[Member]], joining: str = "") -> View:
        """Write the records that ``change`` makes of the present view, none meaning no change.

        The script refuses a change made for an older view, so a late one does no harm. A join
        that touches nobody else is right for any view.
        """
        view = await self.view()
        for _ in range(CHANGE_ATTEMPTS_MAX):
            if joining and find_member(view, joining) is not None:
                return view
            if not (records := change(view)):
                return view
            made_for = "" if joining and len(records) == 1 else view.version
            args = [arg for m in records for arg in (m.incarnation, _encode(m))]
            try:
                reply = await self._call(scripts.CHANGE, made_for, joining, *args)
            except StaleGeneration as exc:
                view = exc.view
                continue
            view = self._heard.view(reply)
            if reply[0] == b"ok":
                return view
        raise RegistryUnavailable(f"Redis at {self.address}: the view keeps changing")

    async def _claim_batch(self, key: Hashable, claims: list[Claim]) -> list[Claimed | Held]:
        me, generation = cast("tuple[str, int | None]", key)
        answers: list[Claimed | Held] = []
        for part in _distinct(claims):
            args = [arg for c in part for arg in (bucket_of(c.actor), c.actor, _offer(c))]
            asked = (me, *self._numbered(), *args)
            reply = await self._call(scripts.CLAIM, *asked, generation=generation)
            answers += self._heard.claims(self._in_order(reply))
        return answers

    def _numbered(self) -> tuple[str, int]:
        self._call_no += 1
        return self._claimer, self._call_no

    def _in_order(self, reply: Sequence[Any]) -> Sequence[Any]:
        if reply[0] == b"overtaken":
            raise RegistryUnavailable(f"Redis at {self.address}: a later claim came first")
        return reply

    async def _call(
        self, script: Script, *args: Any, generation: int | None = None
    ) -> Sequence[Any]:
        return self._heard.check(await self._cross(self._run, script, args, generation))

    async def _run(
        self, script: Script, args: Sequence[Any], generation: int | None
    ) -> Sequence[Any]:
        heard = self._heard
        spoken_for = heard.generation if generation is None else generation
        sent = (1, self._meta, spoken_for, heard.epoch, *args)
        with translated(self.address):
            try:
                reply = await self._redis.execute_command("EVALSHA", script.sha, *sent)
            except NoScriptError:
                reply = await self._redis.execute_command("EVAL", script.text, *sent)
        return cast(Sequence[Any], reply)

    async def _info(self) -> dict[str, Any]:
        with translated(self.address):
            return dict(await self._redis.info("server", "memory"))

    async def _disconnect(self) -> None:
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _listen(self) -> None:
        async def failed(_: Exception) -> None:
            """The next attempt subscribes anew; what was published meanwhile is lost."""

        backoff = ExponentialBackoff(cap=2.0, base=0.1)
        await Retry(backoff, -1, (RedisError,)).call_with_retry(self._subscribed, failed)

    async def _subscribed(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(scripts.changes_channel(self._cluster))
            async for message in pubsub.listen():
                generation, _, version = message["data"].partition(b":")
                for callback in tuple(self._callbacks):
                    callback(int(generation), int(version))


class _Unwaited:
    """Writes without waiting for the socket to take it all: a connection carries one command at
    a time, so no more than that is buffered, and the wait for the reply has the timeout.

    redis-py writes under asyncio.wait_for, which costs a task for each call and, up to Python
    3.11, may swallow a cancellation.
    """

    is_connected: bool
    connect_check_health: Callable[..., Awaitable[None]]
    _writer: Any

    async def send_packed_command(
        self, command: bytes | Sequence[bytes], check_health: bool = True
    ) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        self._writer.writelines([command] if isinstance(command, bytes) else command)


def _pool(url: str, timeout_s: float, connections_max: int) -> BlockingConnectionPool:
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections_max,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
            protocol=2,
        )
        pool.connection_class = type("Connection", (_Unwaited, pool.connection_class), {})
        return pool
    except ValueError:
        # Neither the URL nor the parser's words: either may show a part of the password.
        raise RegistryMisconfigured(
            "the Redis URL is not one; it must look like redis://[user:password@]host:port[/db]"
        ) from None


def _address(kwargs: dict[str, Any]) -> str:
    """Where the server is, without the password that the URL may hold."""
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), ACTORS_PER_SCRIPT_MAX):
        yield items[start : start + ACTORS_PER_SCRIPT_MAX]


def _offer(claim: Claim) -> str:
    return "" if claim.offered is None else f"{claim.offered.epoch}:{claim.offered.incarnation}"


def _distinct(claims: Sequence[Claim]) -> Iterator[list[Claim]]:
    """``claims`` in parts that are short enough and name no actor twice: a script gives all its
    actors one epoch, and each claim must get its own."""
    part: dict[str, Claim] = {}
    for claim in claims:
        if claim.actor in part or len(part) == ACTORS_PER_SCRIPT_MAX:
            yield list(part.values())
            part = {}
        part[claim.actor] = claim
    if part:
        yield list(part.values())
