"""A Redis that is replaced, under load and at the same address, by a replica that lags behind."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import actors
from deploy import embedded
from tests.contract.servers import Server, binaries, wait_until
from tests.contract.tcp_proxy import TcpProxy
from tests.integration.cluster import open_cluster, until
from tests.integration.journal import double_owners, tenures
from tests.integration.moves_app import JOURNAL
from tests.integration.test_fencing import ACTORS, APP, REDIS_LEASE_S, loaded

OPTIONS = ("--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0")


class Road:
    """A TcpProxy on a loop of its own, in a thread."""

    def __init__(self, to: Server) -> None:
        self._proxy = TcpProxy(to.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._proxy.start(), self._loop).result(10)

    @property
    def port(self) -> int:
        return int(self._proxy.address.rpartition(":")[2])

    def lead_to(self, server: Server | None) -> None:
        """From now on to ``server``, or nowhere; what is connected is cut off."""
        self._run(lambda: setattr(self._proxy, "target", server.port if server else None))
        self._run(self._proxy.cut)

    def _run(self, do: Callable[[], None]) -> None:
        async def there() -> None:
            do()

        asyncio.run_coroutine_threadsafe(there(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Pair:
    """A master and its replica: hosts reach one of them over ``front``, the replica the master
    over ``behind``."""

    def __init__(self, folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        binary = binaries()["embedded"]
        self.master = Server(binary, folder / "a", OPTIONS)
        self.replica = Server(binary, folder / "b", OPTIONS)
        self.front, self.behind = Road(self.master), Road(self.master)
        with self.replica.admin() as admin:
            admin.replicaof("127.0.0.1", self.behind.port)
        wait_until(self.is_linked)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.front.port}/0"

    def is_linked(self) -> bool:
        with self.replica.admin() as admin:
            return bool(admin.info("replication").get("master_link_status") == "up")

    def fail_over(self) -> None:
        """The master dies, and the replica takes its place with what it has."""
        self.master.kill()
        with self.replica.admin() as admin:
            admin.replicaof("NO", "ONE")
        self.front.lead_to(self.replica)

    def close(self) -> None:
        for part in (self.front, self.behind):
            part.close()
        for server in (self.master, self.replica):
            server.kill()


@contextmanager
def redis_pair(folder: Path) -> Iterator[Pair]:
    pair = Pair(folder)
    try:
        yield pair
    finally:
        pair.close()


def test_a_lagging_replica_at_the_same_address_brings_no_second_owner_and_no_old_epoch() -> None:
    async def scenario(system: actors.HostSystem) -> None:
        keys = [f"w{i}" for i in range(ACTORS)]
        async with loaded(system, keys) as load:
            await until("all are active", lambda: len(load.acknowledged) == ACTORS)
            before = {actor: of[-1].epoch for actor, of in tenures(journal).items()}
            pair.behind.lead_to(None)
            cluster.add_host("host-3")  # of which, and of whose epochs, the replica never hears

            def have_moved() -> bool:
                now = {actor: of[-1] for actor, of in tenures(journal).items()}
                return sum(t.host == "host-3" and t.epoch > before[a] for a, t in now.items()) > 2

            await until("actors have moved to the third host", have_moved)
            seen = dict(load.acknowledged)
            await until("all go on", lambda: all(load.acknowledged[k] > seen[k] for k in keys))
            pair.fail_over()
            seen = dict(load.acknowledged)
            await until(
                "every actor answers after the failover",
                lambda: all(load.acknowledged[k] > seen[k] + 3 for k in keys),
                within_s=40,
            )
            with pair.replica.admin() as admin:
                assert admin.info("replication")["role"] == "master"
        await load.check(system, keys)
        assert double_owners(journal) == []
        print(f"{sum(load.acknowledged.values())} adds over a failover, none lost")

    with tempfile.TemporaryDirectory() as name, redis_pair(Path(name)) as pair:
        journal = Path(name) / "journal"
        embedded.settle(pair.url, "default")
        wait_until(pair.is_linked)
        settings = {"ROOST_APP": APP, "LEASE_TTL": f"{REDIS_LEASE_S}", JOURNAL: str(journal)}
        with open_cluster(hosts=2, REDIS_URL=pair.url, **settings) as cluster:
            cluster.redis_url = pair.url
            cluster.play(scenario, within_s=120, lease_ttl_s=REDIS_LEASE_S)
