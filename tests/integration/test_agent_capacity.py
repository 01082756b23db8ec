"""MAX_PROCESSES across hosts: a rush of CreateAgent at a cluster that has not room for all."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
import pytest
from redis import Redis

from deploy import embedded
from tests.integration.shell import environment, started, wait_until
from tests.integration.test_agent_host import AgentCluster, compiled

APP = Path(__file__).with_name("isolated_app.py")
FULL = bool(os.environ.get("ROOST_FULL") or os.environ.get("ROOST_TEST_FULL"))
HOSTS = 3


def agent_processes(cluster) -> list[int]:
    """Pids of all actors' processes: the children of the fork servers."""
    return [
        child.pid
        for host in cluster.hosts
        for server in psutil.Process(host.process.pid).children()
        for child in server.children()
    ]


def locations(url: str, kind: str) -> list[str]:
    """The actors of that kind which the registry locates somewhere."""
    with Redis.from_url(url) as redis:
        return [
            name.decode()
            for key in redis.scan_iter("*:l:*")
            for name in redis.hkeys(key)
            if name.startswith(f"{kind}/".encode())
        ]


def knows_all(cluster, at: int) -> bool:
    """Whether that host places agents on every host by now."""
    ids = [f"warm-{n}" for n in range(24)]
    pids = {cluster.create(id, "Plain", at=at).pid for id in ids}
    for id in ids:
        cluster.stop(id, at=at)
    return pids == {host.process.pid for host in cluster.hosts}


@pytest.fixture
def stubs(tmp_path):
    yield compiled(tmp_path)
    sys.path.remove(str(tmp_path))


def test_a_rush_fills_the_cluster_and_not_one_more(stubs):
    each, calls = (30, 200) if FULL else (6, 40)
    with ExitStack() as stack:
        redis = stack.enter_context(embedded.serve())
        embedded.settle(redis.url)
        hosts = [
            stack.enter_context(
                started("host", env=environment(
                    REDIS_URL=redis.url, ROOST_APP=str(APP), GRPC_PORT="0", LEASE_TTL="12",
                    GRPC_BIND="127.0.0.1", HOSTNAME=f"host-{n}", LOG_LEVEL="error",
                    MAX_PROCESSES=str(each),
                ))
            )
            for n in range(HOSTS)
        ]  # fmt: skip
        addresses = [host.wait_for("ready at").split()[-1] for host in hosts]
        cluster = AgentCluster(hosts, addresses, stubs)
        for at in range(HOSTS):
            wait_until(lambda at=at: knows_all(cluster, at))

        def create(n: int) -> object:
            try:
                return cluster.create(f"a{n}", "Isolated", at=n % HOSTS).success
            except grpc.RpcError as exc:
                return exc.code()

        with ThreadPoolExecutor(calls) as pool:
            results = list(pool.map(create, range(calls)))
        room = each * HOSTS
        assert results.count(True) == room
        assert results.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == calls - room
        health = [cluster.call("Health", cluster.pb.HealthRequest(), at=n) for n in range(HOSTS)]
        assert sum(reply.agent_count for reply in health) == room
        listed = cluster.list()
        assert sorted(a.pid for a in listed) == sorted(agent_processes(cluster))
        assert len({a.pid for a in listed}) == room
        wait_until(lambda: len(locations(redis.url, "roost.Agent")) == room)
        assert len(locations(redis.url, "Isolated")) == room
        for agent in listed:
            assert cluster.stop(agent.agent_id).success
        assert agent_processes(cluster) == []
        wait_until(lambda: locations(redis.url, "") == [])
