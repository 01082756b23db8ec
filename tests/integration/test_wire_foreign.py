"""Clients that are not ours: grpcio's C core, stubs made from our .proto files, plain grpclib,
and whoever sends garbage to the port."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio
from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest

import wire
from tests.fake_gateway import Served, run_bounded, served, serving, until
from tests.integration.cluster import Host
from wire._generated.roost import v1
from wire._generated.rustic_ai.k8s import agent_host
from wire.errors import RoostError

C_CORE = """
import json, sys
sys.path.insert(0, sys.argv[2])
import grpc
channel = grpc.insecure_channel(sys.argv[1])
def fails(call):
    try:
        call()
    except grpc.RpcError as exc:
        trailers = dict(exc.trailing_metadata() or ())
        return [exc.code().name, exc.details(), trailers.get("roost-error")]
"""


async def c_core(it: Served | Host, program: str, stubs: Path) -> Any:
    """The JSON that a program prints which speaks grpcio, in a process of its own."""
    done = await trio.run_process(
        [sys.executable, "-c", C_CORE + textwrap.dedent(program), it.address, str(stubs)],
        capture_stdout=True, capture_stderr=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_stubs_from_our_proto_call_actors_in_json_and_msgpack(stubs: Path) -> None:
    program = """
        from roost.v1 import actors_pb2 as pb, actors_pb2_grpc
        actors = actors_pb2_grpc.ActorsStub(channel)
        def ask(**fields):
            return actors.Ask(pb.AskRequest(kind="Counter", key="a", **fields), timeout=10)
        out = {}
        out["named"] = ask(method="add", json='{"n": 5}').json
        out["positional"] = ask(method="add", json="[6]").json
        reply = ask(method="add", payload=b"[7]", content_type="application/json; charset=utf-8")
        out["bytes"] = [reply.payload.decode(), reply.content_type]
        reply = ask(method="add", payload=bytes([0x91, 8]))
        out["msgpack"] = [reply.payload.hex(), reply.content_type]
        out["tell"] = str(actors.Tell(pb.TellRequest(
            kind="Counter", key="a", method="add", json="[1]")))
        stream = actors.AskStream(pb.AskRequest(
            kind="W", key="w", method="count_up", json="[300, 1]"))
        out["stream"] = [json.loads(reply.json)[0] for reply in stream] == list(range(300))
        stream = actors.AskStream(pb.AskRequest(
            kind="W", key="w", method="count_up", json="[1000000, 1]"))
        out["first"] = json.loads(next(stream).json)[0]
        stream.cancel()
        out["hosts"] = [h.host_id for h in actors.Hosts(pb.HostsRequest()).hosts]
        out["epoch"] = actors.Locate(pb.LocateRequest(kind="Counter", key="a")).epoch
        print(json.dumps(out))
    """

    async def main() -> None:
        async with serving() as it:
            assert await c_core(it, program, stubs) == {
                "named": "5", "positional": "11", "bytes": ["18", "application/json"],
                "msgpack": ["1a", "application/msgpack"], "tell": "", "stream": True, "first": 0,
                "hosts": ["host-1"], "epoch": 2**60,
            }  # fmt: skip
            await until(lambda: len(it.gateway.cancelled) == 1)

    run_bounded(main)


def test_the_c_core_gets_statuses_messages_and_our_codes(stubs: Path) -> None:
    program = """
        from roost.v1 import actors_pb2 as pb, actors_pb2_grpc
        actors = actors_pb2_grpc.ActorsStub(channel)
        def ask(timeout=10, **fields):
            fields = {"kind": "Counter", "key": "a", "method": "add", **fields}
            return fails(lambda: actors.Ask(pb.AskRequest(**fields), timeout=timeout))
        print(json.dumps({
            "kind": ask(kind="1x"),
            "key": ask(key=""),
            "long key": ask(key="k" * 513),
            "control": ask(key="a\\nb"),
            "method": ask(method="nope", json="[]"),
            "no method": ask(method=""),
            "argument": ask(json='{"n": "x"}'),
            "content type": ask(content_type="text/xml", payload=b"<n>"),
            "both": ask(json="[1]", payload=b"[1]"),
            "session": ask(json="[1]", session="s" * 129),
            "headers": ask(json="[1]", headers={str(n): "" for n in range(65)}),
            "busy": ask(method="busy"),
            "explode": ask(method="explode"),
            "deadline": ask(method="hang", timeout=0.2),
            "drain": fails(lambda: actors.Drain(pb.DrainRequest(), timeout=5)),
            "method of a stream": fails(lambda: list(actors.AskStream(
                pb.AskRequest(kind="C", key="a", method="nope"), timeout=5))),
            "service": fails(lambda: channel.unary_unary("/roost.v1.Nope/Nope")(b"")),
            "too large": ask(method="echo", payload=bytes(18 << 20)),
            "garbage": fails(lambda: channel.unary_unary("/roost.v1.Actors/Ask")(b"\\xff" * 50)),
            "compressed": fails(lambda: actors.Ask(pb.AskRequest(
                kind="C", key="a", method="echo", payload=bytes(5000)),
                compression=grpc.Compression.Gzip)),
        }))
    """
    expected = {
        "kind": ("INVALID_ARGUMENT", "kind '1x' is not a name", "invalid_argument"),
        "key": ("INVALID_ARGUMENT", "must be a non-empty string", "invalid_argument"),
        "long key": ("INVALID_ARGUMENT", "has 513 bytes; at most 512", "invalid_argument"),
        "control": ("INVALID_ARGUMENT", "holds control characters", "invalid_argument"),
        "method": ("NOT_FOUND", "has no handler 'nope'", "unknown_kind"),
        "no method": ("INVALID_ARGUMENT", "method must have", "invalid_argument"),
        "argument": ("INVALID_ARGUMENT", "argument 'n'", "invalid_argument"),
        "content type": ("INVALID_ARGUMENT", "content_type 'text/xml'", "invalid_argument"),
        "both": ("INVALID_ARGUMENT", "either json, or payload", "invalid_argument"),
        "session": ("INVALID_ARGUMENT", "session must have", "invalid_argument"),
        "headers": ("INVALID_ARGUMENT", "65 headers", "invalid_argument"),
        "busy": ("RESOURCE_EXHAUSTED", "is full", "mailbox_full"),
        "explode": ("ABORTED", "a\nlöng böom", "actor_error"),
        "deadline": ("DEADLINE_EXCEEDED", "", None),
        "drain": ("INVALID_ARGUMENT", "host_id is empty", "invalid_argument"),
        "method of a stream": ("NOT_FOUND", "has no handler", "unknown_kind"),
        "service": ("UNIMPLEMENTED", "Method not found", None),
        "too large": ("INVALID_ARGUMENT", "exceeds the limit", "invalid_argument"),
        "garbage": ("INVALID_ARGUMENT", "malformed request message", "invalid_argument"),
        "compressed": ("UNIMPLEMENTED", "compressed messages are not taken", None),
    }

    async def main() -> None:
        async with serving() as it:
            got = await c_core(it, program, stubs)
            assert got.keys() == expected.keys()
            for what, (status, message, code) in expected.items():
                assert got[what][0] == status, (what, got[what])
                assert message in got[what][1], (what, got[what])
                assert got[what][2] == code, (what, got[what])
            async with wire.trio_connect(it.address) as client:
                assert await client.ask("Counter", "lives", "add", 1) == 1

    run_bounded(main)


def test_the_official_health_stubs_see_alive_and_ready_apart(stubs: Path) -> None:
    program = """
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        stub = health_pb2_grpc.HealthStub(channel)
        def check(service):
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        print(json.dumps([check("roost.alive"), check(""), check("ready"), check("roost.ready"),
                          check("roost.v1.Actors"), fails(lambda: check("nope"))]))
    """

    async def main() -> None:
        async with serving() as it:
            unknown = ["NOT_FOUND", "no service 'nope' here", None]
            assert await c_core(it, program, stubs) == [*["SERVING"] * 5, unknown]
            it.gateway.ready = False
            drains = [*["SERVING"] * 2, *["NOT_SERVING"] * 3, unknown]
            assert await c_core(it, program, stubs) == drains
            it.gateway.alive = False
            without_lease = ["SERVING", *["NOT_SERVING"] * 4, unknown]
            assert await c_core(it, program, stubs) == without_lease

    run_bounded(main)


@served()
async def test_health_watchers_hear_each_change(it: Served) -> None:
    seen: list[int] = []

    async def watch() -> None:
        channel = Channel("127.0.0.1", it.server.port)
        try:
            async with HealthStub(channel).Watch.open() as stream:
                await stream.send_message(HealthCheckRequest(service="ready"), end=True)
                async for reply in stream:
                    seen.append(reply.status)
                    if len(seen) == 3:
                        await stream.cancel()
                        return
        finally:
            channel.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.aio, watch)
        await until(lambda: seen == [1])
        it.gateway.ready = False
        await until(lambda: seen == [1, 2])
        it.gateway.ready = True
    assert seen == [1, 2, 1]


class AgentHost:
    """Another service on the same port, as later layers add one."""

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/rustic_ai.k8s.agent_host.AgentHostService/Health": Handler(
                self._health, Cardinality.UNARY_UNARY,
                agent_host.HealthRequest, agent_host.HealthResponse,
            )
        }  # fmt: skip

    async def _health(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(agent_host.HealthResponse(healthy=True, agent_count=3))


def test_reflection_lists_and_describes_every_service(stubs: Path) -> None:
    program = """
        from google.protobuf.descriptor_pool import DescriptorPool
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
            ProtoReflectionDescriptorDatabase)
        database = ProtoReflectionDescriptorDatabase(channel)
        services = database.get_services()
        pool = DescriptorPool(database)
        methods = {
            name: [m.name for m in pool.FindServiceByName(name).methods] for name in services
        }
        request = pool.FindMessageTypeByName("roost.v1.AskRequest")
        print(json.dumps([methods, {f.name: f.number for f in request.fields}]))
    """

    async def main() -> None:
        async with serving(services=[AgentHost()]) as it:
            methods, fields = await c_core(it, program, stubs)
        assert methods["roost.v1.Actors"] == [
            "Ask", "AskStream", "Tell", "Locate", "Spawn", "Stop", "List", "Describe", "Hosts",
            "Drain",
        ]  # fmt: skip
        assert methods["rustic_ai.k8s.agent_host.AgentHostService"] == [
            "CreateAgent", "StopAgent", "GetAgentInfo", "ListAgents", "Health",
        ]  # fmt: skip
        assert methods["grpc.health.v1.Health"][:2] == ["Check", "Watch"]
        assert {
            "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
        } <= methods.keys()  # fmt: skip
        assert fields == {
            "kind": 1, "key": 2, "method": 3, "payload": 4, "content_type": 5, "json": 6,
            "timeout_ms": 7, "session": 8, "headers": 9,
        }  # fmt: skip

    run_bounded(main)


def test_an_added_service_is_served_by_its_own_stubs(stubs: Path) -> None:
    program = """
        from rustic_ai.k8s import agent_host_pb2 as pb, agent_host_pb2_grpc
        stub = agent_host_pb2_grpc.AgentHostServiceStub(channel)
        reply = stub.Health(pb.HealthRequest(), timeout=5)
        print(json.dumps([reply.healthy, reply.agent_count, fails(lambda: stub.StopAgent(
            pb.StopAgentRequest(agent_id="a"), timeout=5))[0]]))
    """

    async def main() -> None:
        async with serving(services=[AgentHost()]) as it:
            assert await c_core(it, program, stubs) == [True, 3, "UNIMPLEMENTED"]

    run_bounded(main)


@served()
async def test_plain_grpclib_stubs_work(it: Served) -> None:
    async def in_asyncio() -> None:
        channel = Channel("127.0.0.1", it.server.port)
        stub = v1.ActorsStub(channel)
        request = v1.AskRequest(kind="Counter", key="a", method="add", json='{"n": 5}')
        assert (await stub.ask(request)).json == "5"
        request.method = "timeout"
        request.timeout_ms = 4000
        assert 3.5 < float((await stub.ask(request)).json) < 4
        assert 1.5 < float((await stub.ask(request, timeout=2)).json) < 2
        with pytest.raises(GRPCError) as caught:
            await stub.ask(v1.AskRequest(kind="Counter", key="a", method="busy"))
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
        channel.close()

    await it.aio(in_asyncio)


@served()
async def test_a_connection_is_a_session_where_the_client_names_none(it: Served) -> None:
    async def sessions() -> list[str]:
        channel = Channel("127.0.0.1", it.server.port)
        stub = v1.ActorsStub(channel)
        request = v1.AskRequest(kind="Counter", key="a", method="session", json="[]")
        found = [json.loads((await stub.ask(request)).json)[0] for _ in range(2)]
        channel.close()
        return found

    one, other = await it.aio(sessions), await it.aio(sessions)
    assert one[0] == one[1] != other[0] == other[1]


GARBAGE = {
    "random": bytes(range(256)) * 20,
    "http 1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 300,
    "half a preface": b"PRI * HTTP/2.0\r\n",
    "huge frame": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "broken headers": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff",
    "nothing": b"",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_on_the_port_ends_that_connection_only(what: str) -> None:
    async def main() -> None:
        async with serving() as it, wire.trio_connect(it.address) as client:
            assert await client.ask("Counter", "a", "add", 1) == 1
            stream = await trio.open_tcp_stream("127.0.0.1", it.server.port)
            async with stream:
                await stream.send_all(GARBAGE[what])
                await stream.send_eof()
                with trio.fail_after(5):
                    try:
                        while await stream.receive_some(4096):
                            pass
                    except trio.BrokenResourceError:
                        pass  # a reset is as good an end
            assert await client.ask("Counter", "a", "add", 1) == 2

    run_bounded(main)


@served()
async def test_a_message_cut_short_is_no_call(it: Served) -> None:
    async def in_asyncio() -> None:
        channel = Channel("127.0.0.1", it.server.port)
        request: Any = channel.request(
            "/roost.v1.Actors/Ask", Cardinality.UNARY_UNARY, v1.AskRequest, v1.AskReply
        )
        try:
            async with request:
                await request.send_request()
                await request._stream.send_data(b"\0\0\0\0\x50only a part", end_stream=True)
                request._send_message_done = True
        finally:
            channel.close()

    with pytest.raises(GRPCError, match="malformed request message") as caught:
        await it.aio(in_asyncio)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert it.gateway.calls == []
    async with wire.trio_connect(it.address) as client:
        assert await client.ask("Counter", "a", "add", 1) == 1


@served()
async def test_a_handler_that_breaks_is_an_internal_error_without_its_traceback(
    it: Served,
) -> None:
    def broken(call: Any) -> None:
        raise ZeroDivisionError("our own fault")

    it.gateway.on_broken = broken  # type: ignore[attr-defined]
    async with wire.trio_connect(it.address) as client:
        with pytest.raises(RoostError) as caught:
            await client.ask("Counter", "a", "broken")
    assert (caught.value.code, caught.value.message) == (
        "internal", "internal error in /roost.v1.Actors/Ask",
    )  # fmt: skip
