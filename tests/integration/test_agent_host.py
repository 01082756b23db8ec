"""AgentHostService as its existing clients see it: stubs made from the .proto by grpcio."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

# Hosts are started while channels are open: grpcio's own fork handlers would break those children.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import pytest
from grpclib.client import Channel

from deploy import embedded
from tests.integration.shell import ROOT, environment, started, wait_until

APP = Path(__file__).with_name("agent_app.py")
PROTO = ROOT / "wire" / "proto" / "rustic_ai" / "k8s" / "agent_host.proto"
Status = grpc.StatusCode


def compiled(folder: Path):
    """(messages, services) as grpcio's own compiler makes them from the .proto."""
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}",
            f"--python_out={folder}", f"--grpc_python_out={folder}", str(PROTO),
        ],
        check=True,
    )  # fmt: skip
    sys.path.insert(0, str(folder))
    import agent_host_pb2
    import agent_host_pb2_grpc

    return agent_host_pb2, agent_host_pb2_grpc


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent-stubs")
    yield compiled(folder)
    sys.path.remove(str(folder))


class AgentCluster:
    """Host processes, and a stub for each."""

    def __init__(self, hosts, addresses, stubs, token=""):
        self.hosts = hosts
        self.addresses = addresses
        self.pb, services = stubs
        self.channels = [grpc.insecure_channel(address) for address in addresses]
        self.stubs = [services.AgentHostServiceStub(channel) for channel in self.channels]
        self.metadata = [("authorization", f"Bearer {token}")] if token else None

    def create(self, agent_id, class_name="Counter", guild="g", at=0, **properties):
        spec = {"id": agent_id, "name": f"{agent_id} it is", "class_name": class_name,
                "properties": properties}  # fmt: skip
        return self.create_raw(json.dumps(spec), json.dumps({"id": guild}), at=at)

    def create_raw(self, agent_spec, guild_spec, at=0, **more):
        request = self.pb.CreateAgentRequest(
            agent_spec=agent_spec.encode(), guild_spec=guild_spec.encode(), **more
        )
        return self.call("CreateAgent", request, at=at)

    def stop(self, agent_id, at=0):
        return self.call("StopAgent", self.pb.StopAgentRequest(agent_id=agent_id), at=at)

    def info(self, agent_id, at=0):
        return self.call("GetAgentInfo", self.pb.GetAgentInfoRequest(agent_id=agent_id), at=at)

    def list(self, guild="", at=0):
        request = self.pb.ListAgentsRequest(guild_id=guild)
        return self.call("ListAgents", request, at=at).agents

    def call(self, name, request, at=0):
        return getattr(self.stubs[at], name)(request, timeout=60, metadata=self.metadata)


@pytest.fixture(scope="module")
def cluster(stubs, tmp_path_factory):
    with ExitStack() as stack:
        redis = stack.enter_context(embedded.serve())
        embedded.settle(redis.url)
        hosts = [
            stack.enter_context(
                started("host", env=environment(
                    REDIS_URL=redis.url, ROOST_APP=str(APP), GRPC_PORT="0", LEASE_TTL="3",
                    GRPC_BIND="127.0.0.1", HOSTNAME=f"host-{n}", LOG_LEVEL="error",
                ))
            )
            for n in range(3)
        ]  # fmt: skip
        addresses = [host.wait_for("ready at").split()[-1] for host in hosts]
        yield AgentCluster(hosts, addresses, stubs)


def refused(call, *args, **kwargs):
    """(status, message) of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


def test_an_agent_is_created_and_seen_and_stopped_from_any_host(cluster):
    created = cluster.create("a1", start=5, at=0)
    assert (created.agent_id, created.success, created.error) == ("a1", True, "")
    assert created.pid in {host.process.pid for host in cluster.hosts}
    for at in range(3):
        info = cluster.info("a1", at=at)
        assert (info.agent_id, info.guild_id, info.agent_name) == ("a1", "g", "a1 it is")
        assert info.is_alive
        assert info.pid == created.pid
        assert info.created_at > 1_700_000_000
        assert [agent.agent_id for agent in cluster.list("g", at=at)] == ["a1"]
    assert cluster.stop("a1", at=2).success
    assert refused(cluster.info, "a1", at=1)[0] is Status.NOT_FOUND
    assert list(cluster.list()) == []


def test_agents_go_where_the_ring_says_whichever_host_is_asked(cluster):
    pids = {cluster.create(f"ring-{n}", at=0).pid for n in range(24)}
    assert pids == {host.process.pid for host in cluster.hosts}
    assert len(cluster.list("g", at=1)) == 24
    for n in range(24):
        assert cluster.stop(f"ring-{n}", at=n % 3).success


def test_a_second_agent_of_the_same_id_is_refused_even_at_once(cluster):
    def create(at):
        try:
            return cluster.create("twin", at=at).success
        except grpc.RpcError as exc:
            return exc.code()

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(create, [0, 1, 2, 0, 1, 2]))
    assert sorted(results, key=str) == sorted([True] + [Status.ALREADY_EXISTS] * 5, key=str)
    assert refused(cluster.create, "twin")[0] is Status.ALREADY_EXISTS
    assert cluster.stop("twin").success


def test_an_agent_can_be_created_again_after_its_stop(cluster):
    for _ in range(3):
        cluster.create("again", at=1)
        assert cluster.stop("again", at=2).success
    assert refused(cluster.stop, "again")[0] is Status.NOT_FOUND


def test_stubs_that_grpclib_makes_from_the_proto_work_unchanged(cluster, tmp_path, monkeypatch):
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}",
            f"--plugin={Path(sys.executable).with_name('protoc-gen-grpclib_python')}",
            f"--grpclib_python_out={tmp_path}", str(PROTO),
        ],
        check=True,
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    stubs, pb = importlib.import_module("agent_host_grpc"), cluster.pb

    async def life() -> list[bool]:
        host, port = cluster.addresses[0].split(":")
        channel = Channel(host, int(port))
        agents = stubs.AgentHostServiceStub(channel)
        spec = {"agent_spec": SPEC.encode(), "guild_spec": GUILD.encode()}
        made = await agents.CreateAgent(pb.CreateAgentRequest(**spec))
        info = await agents.GetAgentInfo(pb.GetAgentInfoRequest(agent_id=made.agent_id))
        listed = await agents.ListAgents(pb.ListAgentsRequest())
        health = await agents.Health(pb.HealthRequest())
        stopped = await agents.StopAgent(pb.StopAgentRequest(agent_id=made.agent_id))
        channel.close()
        return [made.success, info.is_alive, info in listed.agents, health.healthy, stopped.success]

    assert asyncio.run(life()) == [True] * 5


SPEC = json.dumps({"id": "x", "class_name": "Counter"})
GUILD = json.dumps({"id": "g"})


@pytest.mark.parametrize(
    ("agent_spec", "guild_spec", "more", "field"),
    [
        ("{", GUILD, {}, "agent_spec"),
        ("", GUILD, {}, "agent_spec"),
        ("[]", GUILD, {}, "agent_spec"),
        (SPEC, "nope", {}, "guild_spec"),
        (SPEC, GUILD, {"messaging_config": b"{"}, "messaging_config"),
        (SPEC, GUILD, {"client_properties": b"1"}, "client_properties"),
        (json.dumps({"id": "", "class_name": "Counter"}), GUILD, {}, "agent_spec.id"),
        (json.dumps({"id": "x"}), GUILD, {}, "agent_spec.class_name"),
        (SPEC, json.dumps({"id": ""}), {}, "guild_spec.id"),
        (json.dumps({"id": "x", "class_name": "Nope"}), GUILD, {}, "agent_spec.class_name"),
        (json.dumps({"id": "x", "class_name": "os.path"}), GUILD, {}, "agent_spec.class_name"),
        (json.dumps({"id": "x", "class_name": "Refuses"}), GUILD, {}, "agent_spec.class_name"),
        (json.dumps({"id": "x", "class_name": "Counter", "properties": {"nope": 1}}), GUILD, {},
         "agent_spec.properties"),
        (json.dumps({"id": "x", "class_name": "Counter", "properties": {"start": "y"}}), GUILD, {},
         "agent_spec.properties"),
        (json.dumps({"id": "x", "class_name": "C", "description": "x" * 5_000_000}), GUILD, {},
         "agent_spec"),
    ],
)  # fmt: skip
def test_a_bad_spec_is_refused_by_field_and_leaves_nothing(
    cluster, agent_spec, guild_spec, more, field
):
    status, message = refused(cluster.create_raw, agent_spec, guild_spec, **more)
    assert status is Status.INVALID_ARGUMENT
    assert message.startswith(field)
    assert list(cluster.list()) == []
    assert refused(cluster.info, "x")[0] is Status.NOT_FOUND


def test_ids_that_are_empty_or_unknown_are_refused_by_name(cluster):
    assert refused(cluster.stop, "") == (Status.INVALID_ARGUMENT, "agent_id is empty")
    assert refused(cluster.info, "")[0] is Status.INVALID_ARGUMENT
    status, message = refused(cluster.stop, "nobody")
    assert status is Status.NOT_FOUND
    assert "agent_id 'nobody'" in message
    status, message = refused(cluster.list, "no-such-guild")
    assert status is Status.NOT_FOUND
    assert "guild_id 'no-such-guild'" in message


def test_health_counts_agents_and_names_the_host(cluster):
    reply = cluster.call("Health", cluster.pb.HealthRequest(), at=1)
    assert (reply.healthy, reply.hostname) == (True, "host-1")


def test_health_needs_no_token_and_the_rest_does(stubs):
    with embedded.serve() as redis:
        embedded.settle(redis.url)
        env = environment(
            REDIS_URL=redis.url, ROOST_APP=str(APP), GRPC_PORT="0", GRPC_BIND="127.0.0.1",
            HOSTNAME="locked", ROOST_TOKEN="secret",
        )  # fmt: skip
        with started("host", env=env) as host:
            address = host.wait_for("ready at").split()[-1]
            outside = AgentCluster([host], [address], stubs)
            assert outside.call("Health", outside.pb.HealthRequest()).healthy
            assert refused(outside.list)[0] is Status.UNAUTHENTICATED
            inside = AgentCluster([host], [address], stubs, token="secret")
            assert inside.create("a").success


def test_an_agent_comes_back_elsewhere_when_its_host_is_killed(stubs):
    with ExitStack() as stack:
        redis = stack.enter_context(embedded.serve())
        embedded.settle(redis.url)
        hosts = [
            stack.enter_context(
                started("host", env=environment(
                    REDIS_URL=redis.url, ROOST_APP=str(APP), GRPC_PORT="0", LEASE_TTL="2",
                    GRPC_BIND="127.0.0.1", HOSTNAME=f"host-{n}", LOG_LEVEL="error",
                ))
            )
            for n in range(2)
        ]  # fmt: skip
        addresses = [host.wait_for("ready at").split()[-1] for host in hosts]
        cluster = AgentCluster(hosts, addresses, stubs)
        for n in range(12):
            cluster.create(f"a{n}")
        victim = hosts[0].process.pid
        both = {host.process.pid for host in hosts}  # those that came too early move
        wait_until(lambda: {agent.pid for agent in cluster.list(at=1)} == both)
        hosts[0].process.kill()
        wait_until(
            lambda: [a.pid for a in cluster.list(at=1) if a.is_alive] == [hosts[1].process.pid] * 12
        )
        assert refused(cluster.create, "a3", at=1)[0] is Status.ALREADY_EXISTS
        assert victim not in {agent.pid for agent in cluster.list(at=1)}
        for n in range(12):
            assert cluster.stop(f"a{n}", at=1).success
