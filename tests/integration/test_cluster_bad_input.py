"""Bad input at real hosts: one clear error that names the offender; the host serves on, and
nothing is lost. Where the other rows of the table are shown, on real processes too:

=============================== ==================================================================
Redis absent at start           test_cli_host: test_a_redis_that_is_not_there_is_named_...
Redis with an allkeys-* policy  test_cli_host: test_a_redis_that_may_evict_what_decides_is_refused
port taken                      test_cli_host: test_a_port_that_is_taken_is_named
app that fails to import        test_cli_host: test_an_app_that_does_not_import_is_named_...
exit status of a wrong call     test_cli_up: test_what_goes_wrong_is_one_line_that_names_it
every field of a request        test_wire_foreign: test_the_c_core_gets_statuses_...
every kind of garbage           test_wire_foreign, test_links_grpc
=============================== ==================================================================
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

import actors
import wire
from tests.integration.cluster import Cluster, keys_at
from tests.integration.cluster_app import Recorder, Tally
from wire._generated.roost import v1
from wire.errors import RoostError
from wire.frames import Frame
from wire.handshake import write_hello
from wire.ids import ActorId
from wire.items import PROTOCOL_VERSION, Batch, Hello, encode_batch
from wire.links_grpc import METHOD
from wire.loops import open_crossing

MIB = 1 << 20
#: What msgpack puts around the arguments ("x", 0, many bytes).
OVERHEAD = len(msgspec.msgpack.encode(["x", 0, bytes(1 << 16)])) - (1 << 16)


@asynccontextmanager
async def serving_on(cluster: Cluster, system: actors.HostSystem) -> AsyncIterator[None]:
    """What happens in the block costs no actor its state, and host-1 neither its life nor the
    link that it has with us."""
    host = cluster.hosts["host-1"]
    sessions = _sessions(system, "host-1")
    tally = system.ref(Tally, keys_at(system, Tally, "host-1", 1, "bystander-")[0])
    before = await tally.add(1)
    yield
    assert await tally.add(1) == before + 1
    assert host.process.poll() is None
    assert _sessions(system, "host-1") >= sessions
    assert "Traceback" not in host.log.read_text()


def _sessions(system: actors.HostSystem, host_id: str) -> set[tuple[str, int]]:
    """The links that stand with that host, and how often each has connected."""
    assert system.router.links is not None
    rows: Any = system.router.links.statistics()  # type: ignore[attr-defined]
    return {(row.peer.incarnation, row.connects) for row in rows if row.peer.host_id == host_id}


# Calls ----------------------------------------------------------------------------------------

CALLS = {
    "wrong type": ("Tally", "KEY", "add", ["x"], "invalid_argument", ["Tally.add", "'n'"]),
    "wrong name": ("Tally", "KEY", "add", {"m": 1}, "invalid_argument", ["Tally.add", "'m'"]),
    "too many": ("Tally", "KEY", "add", [1, 2], "invalid_argument", ["Tally.add"]),
    "missing": ("Tally", "KEY", "add", [], "invalid_argument", ["Tally.add", "'n'"]),
    "unknown kind": ("Nope", "KEY", "add", [1], "unknown_kind", ["'Nope'"]),
    "unknown handler": ("Tally", "KEY", "nope", [1], "unknown_kind", ["'Tally'", "'nope'", "add"]),
    "no stream": ("Source", "KEY", "items", [1, 1], "invalid_argument", ["Source/", "stream"]),
    "empty key": ("Tally", "", "add", [1], "invalid_argument", ["key ''", "'Tally'"]),
    "long key": ("Tally", "k" * 513, "add", [1], "invalid_argument", ["513 bytes", "512"]),
    "control": ("Tally", "a\x07b", "add", [1], "invalid_argument", [r"'a\x07b'", "control"]),
}


async def ask_as_host(system: actors.HostSystem, target: ActorId, method: str, args: Any) -> None:
    """By names, unchecked on this side, over the link to where the actor would live."""
    if isinstance(args, dict):
        await system.ask_system(target, method, (), args)
    else:
        await system.ask_system(target, method, tuple(args))


async def ask_as_client(address: str, target: ActorId, method: str, payload: bytes) -> None:
    """By gRPC alone, with no client of ours between that would check anything."""
    name, _, port = address.partition(":")
    channel = Channel(name, int(port))
    try:
        await v1.ActorsStub(channel).ask(
            v1.AskRequest(kind=target.kind, key=target.key, method=method, payload=payload)
        )
    finally:
        channel.close()


@pytest.mark.parametrize("row", CALLS)
def test_a_wrong_call_from_another_host_is_one_error_that_names_what_is_wrong(
    two_hosts: Cluster, row: str
) -> None:
    kind, key, method, args, code, words = CALLS[row]

    async def scenario(system: actors.HostSystem) -> None:
        target = ActorId(kind, key.replace("KEY", keys_at(system, Tally, "host-1", 1, row)[0]))
        async with serving_on(two_hosts, system):
            with pytest.raises(RoostError) as caught:
                await ask_as_host(system, target, method, args)
        assert caught.value.code == code, caught.value
        assert not caught.value.may_have_run
        assert all(word in str(caught.value) for word in words), caught.value

    two_hosts.play(scenario)


@pytest.mark.parametrize("row", CALLS)
def test_a_wrong_call_from_outside_is_one_status_that_names_what_is_wrong(
    two_hosts: Cluster, row: str
) -> None:
    kind, key, method, args, code, words = CALLS[row]
    status = {"invalid_argument": Status.INVALID_ARGUMENT, "unknown_kind": Status.NOT_FOUND}[code]

    async def scenario(system: actors.HostSystem) -> None:
        target = ActorId(kind, key.replace("KEY", "outside"))
        address = two_hosts.hosts["host-1"].address
        payload = system.kinds.encode(args)
        async with serving_on(two_hosts, system), open_crossing() as crossing:
            with pytest.raises(GRPCError) as caught:
                await crossing.cross(ask_as_client, address, target, method, payload)
        message = caught.value.message or ""
        assert caught.value.status is status, message
        assert all(word in message for word in words), message
        assert "\n" not in message

    two_hosts.play(scenario)


def test_a_cursor_that_no_page_ended_with_is_an_invalid_argument(two_hosts: Cluster) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        async with wire.trio_connect(two_hosts.hosts["host-1"].address) as client:
            with pytest.raises(actors.InvalidArgument, match="cursor 'x' is none that"):
                await client.list(cursor="x")

    two_hosts.play(scenario)


@pytest.mark.parametrize("over_bytes", [1, 2 * MIB], ids=["by a byte", "by more than a frame"])
def test_a_payload_over_the_limit_is_refused_on_its_way_in(
    two_hosts: Cluster, over_bytes: int
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        limit = system.config.payload_bytes_max
        assert limit == 16 * MIB
        (key,) = keys_at(system, Recorder, "host-1", 1, f"larger-{over_bytes}-")
        address = two_hosts.hosts["host-1"].address
        async with serving_on(two_hosts, system), open_crossing() as crossing:
            with pytest.raises(actors.InvalidArgument, match=f"{limit}"):
                await system.ref(Recorder, key).record("x", 0, bytes(limit + over_bytes - OVERHEAD))
            with pytest.raises(GRPCError) as caught:
                await crossing.cross(
                    ask_as_client, address, ActorId("Recorder", key), "record",
                    bytes(limit + over_bytes),
                )  # fmt: skip
            assert caught.value.status is Status.INVALID_ARGUMENT
            assert "limit" in (caught.value.message or "")
            assert await system.ref(Recorder, key).heard() == {}

    two_hosts.play(scenario)


def test_a_payload_of_the_full_limit_passes_between_hosts(two_hosts: Cluster) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        (key,) = keys_at(system, Recorder, "host-1", 1, "large-")
        largest = bytes(system.config.payload_bytes_max - OVERHEAD)
        assert await system.ref(Recorder, key).record("x", 7, largest) == 7

    two_hosts.play(scenario)


# Links ----------------------------------------------------------------------------------------


def hello(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "protocol": PROTOCOL_VERSION, "cluster": "default", "host_id": "stranger",
        "incarnation": "stranger-1", "address": "127.0.0.1:1", "target": "",
        "session": "stranger-1-1", "received": 0,
    }  # fmt: skip
    return write_hello(Hello(**(fields | changes)))


LINKS = {
    "wrong protocol version": (
        [hello(protocol=99)], Status.FAILED_PRECONDITION, ["99", str(PROTOCOL_VERSION)],
    ),
    "wrong cluster": (
        [hello(cluster="other")], Status.FAILED_PRECONDITION, ["'other'", "'default'"],
    ),
    "wrong incarnation": ([hello(target="gone")], Status.FAILED_PRECONDITION, ["'gone'"]),
    "no hello": ([encode_batch(Batch(1, 0, []))], Status.INVALID_ARGUMENT, ["Hello"]),
    "malformed frame": ([hello(), b"\xc1\xc1"], Status.INVALID_ARGUMENT, ["malformed batch"]),
    "a number left out": (
        [hello(), encode_batch(Batch(5, 0, []))], Status.INVALID_ARGUMENT, ["batch 5"],
    ),
}  # fmt: skip


async def dial(address: str, frames: list[bytes]) -> None:
    """Open a link, send these frames, and read until the host ends it."""
    name, _, port = address.partition(":")
    channel = Channel(name, int(port))
    try:
        async with channel.request(METHOD, Cardinality.STREAM_STREAM, Frame, Frame) as stream:
            for frame in frames:
                await stream.send_message(Frame(frame))
            while await stream.recv_message() is not None:
                pass
            raise StreamTerminatedError("ended by the host")  # grpclib turns it into the status
    finally:
        channel.close()


@pytest.mark.parametrize("row", LINKS)
def test_a_link_that_breaks_the_protocol_is_ended_with_the_reason(
    two_hosts: Cluster, row: str
) -> None:
    frames, status, words = LINKS[row]

    async def scenario(system: actors.HostSystem) -> None:
        address = two_hosts.hosts["host-1"].address
        async with serving_on(two_hosts, system), open_crossing() as crossing:
            with pytest.raises(GRPCError) as caught:
                await crossing.cross(dial, address, frames)
        message = caught.value.message or ""
        assert caught.value.status is status, message
        assert all(word in message for word in words), message

    two_hosts.play(scenario)


GARBAGE = {
    "http 1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": bytes(range(256)) * 20,
    "a frame of 16 MiB": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_on_the_port_ends_that_connection_and_nothing_else(
    two_hosts: Cluster, what: str
) -> None:
    async def scenario(system: actors.HostSystem) -> None:
        name, _, port = two_hosts.hosts["host-1"].address.partition(":")
        async with serving_on(two_hosts, system):
            stream = await trio.open_tcp_stream(name, int(port))
            async with stream:
                await stream.send_all(GARBAGE[what])
                await stream.send_eof()
                with trio.fail_after(10):
                    try:
                        while await stream.receive_some(65_536):
                            pass
                    except trio.BrokenResourceError:
                        pass  # a reset is as good an end

    two_hosts.play(scenario)
