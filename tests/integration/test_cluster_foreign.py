"""Clients that are not ours against real hosts: grpcio's C core and plain grpclib. What exactly
each call, status and descriptor looks like is in test_wire_foreign.py."""

from __future__ import annotations

import json
from pathlib import Path

from grpclib.client import Channel
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest

import actors
from tests.integration.cluster import Cluster, keys_at
from tests.integration.cluster_app import Sleeper, Source, Tally
from tests.integration.test_wire_foreign import c_core
from wire._generated.roost import v1
from wire.loops import open_crossing


def test_the_c_core_calls_actors_of_any_host_through_any_host(
    two_hosts: Cluster, stubs: Path
) -> None:
    program = """
        from roost.v1 import actors_pb2 as pb, actors_pb2_grpc
        actors = actors_pb2_grpc.ActorsStub(channel)
        keys = json.loads(sys.argv[3])
        def ask(host, **fields):
            fields = {"kind": "Tally", "key": keys[host], "method": "add", **fields}
            return actors.Ask(pb.AskRequest(**fields), timeout=10)
        out = {}
        for host in ("host-1", "host-2"):
            actors.Tell(pb.TellRequest(kind="Tally", key=keys[host], method="add", json="[1]"))
            out[host] = [
                ask(host, json='{"n": 5}').json,
                ask(host, payload=bytes([0x91, 8])).payload.hex(),
                actors.Locate(pb.LocateRequest(kind="Tally", key=keys[host])).host_id,
            ]
            request = pb.AskRequest(
                kind="Source", key=keys["source " + host], method="items", json="[300, 1]")
            stream = actors.AskStream(request, timeout=20)
            out[host].append([json.loads(item.json)[0] for item in stream] == list(range(300)))
            request.json = "[1000000000, 1]"
            endless = actors.AskStream(request, timeout=20)
            next(endless)
            endless.cancel()
        listed = {
            actor.key for actor in actors.List(pb.ListRequest(kind="Tally", limit=1000)).actors}
        out["listed"] = set(keys.values()) & listed == {keys["host-1"], keys["host-2"]}
        out["hosts"] = {"host-1", "host-2"} <= {
            host.host_id for host in actors.Hosts(pb.HostsRequest()).hosts}
        out["stopped"] = [actors.Stop(pb.StopRequest(kind="Tally", key=keys["host-2"])).stopped
                          for _ in range(2)]
        out["late"] = fails(lambda: actors.Ask(pb.AskRequest(
            kind="Sleeper", key=keys["sleeper"], method="sleep", json="[60]"), timeout=0.5))[0]
        print(json.dumps(out))
    """

    async def scenario(system: actors.HostSystem) -> None:
        keys = {"sleeper": keys_at(system, Sleeper, "host-2", 1, "c-core-")[0]}
        for host in ("host-1", "host-2"):
            keys[host] = keys_at(system, Tally, host, 1, "c-core-")[0]
            keys[f"source {host}"] = keys_at(system, Source, host, 1, "c-core-")[0]
        told = program.replace("sys.argv[3]", repr(json.dumps(keys)))
        assert await c_core(two_hosts.hosts["host-1"], told, stubs) == {
            "host-1": ["6", "0e", "host-1", True], "host-2": ["6", "0e", "host-2", True],
            "listed": True, "hosts": True, "stopped": [True, False], "late": "DEADLINE_EXCEEDED",
        }  # fmt: skip
        # The streams that were cancelled hold nobody up, nor does the call that came too late.
        for host in ("host-1", "host-2"):
            source = system.ref(Source, keys[f"source {host}"])
            assert [number async for number, _ in source.items(2, 1)] == [0, 1]
        assert await system.ref(Sleeper, keys["sleeper"]).ended_at() > 0

    two_hosts.play(scenario)


def test_official_health_stubs_find_a_host_alive_and_ready(two_hosts: Cluster, stubs: Path) -> None:
    program = """
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        stub = health_pb2_grpc.HealthStub(channel)
        def check(service):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        print(json.dumps([check(""), check("ready"), check("roost.v1.Actors")]))
    """

    async def scenario(system: actors.HostSystem) -> None:
        for host in two_hosts.hosts.values():
            assert await c_core(host, program, stubs) == ["SERVING"] * 3

    two_hosts.play(scenario)


def test_reflection_of_a_host_lists_its_services(two_hosts: Cluster, stubs: Path) -> None:
    program = """
        from google.protobuf.descriptor_pool import DescriptorPool
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
            ProtoReflectionDescriptorDatabase)
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        print(json.dumps({
            name: [method.name for method in pool.FindServiceByName(name).methods]
            for name in database.get_services()}))
    """

    async def scenario(system: actors.HostSystem) -> None:
        services = await c_core(two_hosts.hosts["host-1"], program, stubs)
        assert {"Ask", "AskStream", "Tell", "Locate"} <= set(services["roost.v1.Actors"])
        assert services["roost.v1.Peer"] == ["Link"]
        assert {"Check", "Watch"} <= set(services["grpc.health.v1.Health"])
        assert "grpc.reflection.v1.ServerReflection" in services

    two_hosts.play(scenario)


def test_plain_grpclib_stubs_call_a_host(two_hosts: Cluster) -> None:
    async def in_asyncio(address: str, key: str) -> None:
        name, _, port = address.partition(":")
        channel = Channel(name, int(port))
        stub = v1.ActorsStub(channel)
        for total in ("5", "10"):
            reply = await stub.ask(
                v1.AskRequest(kind="Tally", key=key, method="add", json='{"n": 5}')
            )
            assert reply.json == total
        request = v1.AskRequest(kind="Source", key=key, method="items", json="[3, 0]")
        numbers = [json.loads(item.json)[0] async for item in stub.ask_stream(request)]
        assert numbers == [0, 1, 2]
        health = await HealthStub(channel).Check(HealthCheckRequest())
        assert health.status == 1
        channel.close()

    async def scenario(system: actors.HostSystem) -> None:
        (key,) = keys_at(system, Tally, "host-2", 1, "grpclib-")
        async with open_crossing() as crossing:
            await crossing.cross(in_asyncio, two_hosts.hosts["host-1"].address, key)

    two_hosts.play(scenario)
