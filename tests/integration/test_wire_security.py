"""Tokens, TLS and mutual TLS on real sockets, with certificates made here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import trustme
from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest
from grpclib.reflection.v1.reflection_grpc import ServerReflectionStub
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

import wire
from tests.fake_gateway import Served, run_bounded, served, serving, until
from wire import loops
from wire.errors import NotDelivered, OutcomeUnknown, ProtocolError, Unauthenticated
from wire.frames import Frame
from wire.items import Item, Resume
from wire.links_grpc import GrpcLinks
from wire.ports import Peer
from wire.server import ServerConfig

TOKEN = "s3cret"
LINK = "/roost.v1.Peer/Link"


class PeerStub:
    """Answers one frame with the same frame, as the links' service might."""

    def __mapping__(self) -> dict[str, Handler]:
        return {LINK: Handler(self._link, Cardinality.STREAM_STREAM, Frame, Frame)}

    async def _link(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())


async def link(port: int, tls: Any = None, token: str = "") -> bytes:
    """What the peer service echoes; raises GRPCError when it lets us not in."""
    channel = Channel("127.0.0.1", port, ssl=tls)
    metadata = {"authorization": f"Bearer {token}"} if token else None
    try:
        request = channel.request(
            LINK, Cardinality.STREAM_STREAM, Frame, Frame, metadata=metadata
        )  # fmt: skip
        async with request as stream:
            await stream.send_message(Frame(b"hello"), end=True)
            reply: Any = await stream.recv_message()
        return bytes(reply.batch)
    finally:
        channel.close()


async def health_status(port: int, service: str, tls: Any = None) -> int:
    channel = Channel("127.0.0.1", port, ssl=tls)
    try:
        reply = await HealthStub(channel).Check(HealthCheckRequest(service=service))
        return int(reply.status)
    finally:
        channel.close()


async def status_of(call: Any) -> Status:
    with pytest.raises(GRPCError) as caught:
        await call
    return caught.value.status


@served(token=TOKEN, peer=PeerStub())
async def test_clients_need_the_token_and_health_does_not(it: Served) -> None:
    async with wire.trio_connect(it.address, token=TOKEN) as client:
        assert await client.ask("Counter", "a", "add", 1) == 1
    for token, problem in (("", "no token"), ("s3cre", "a wrong token")):
        async with wire.trio_connect(it.address, token=token) as client:
            with pytest.raises(Unauthenticated, match=problem):
                await client.ask("Counter", "a", "add", 1)
            with pytest.raises(Unauthenticated, match=problem):
                await client.hosts()
            with pytest.raises(Unauthenticated, match=problem):
                async for _ in client.stream("Counter", "a", "count_up", 1, 1):
                    pass
    assert len(it.gateway.calls) == 1
    assert await it.aio(health_status, it.server.port, "ready") == 1


@served(token=TOKEN, peer=PeerStub())
async def test_without_mutual_tls_hosts_need_the_token_too(it: Served) -> None:
    port = it.server.port
    assert await it.aio(link, port, None, TOKEN) == b"hello"
    assert await it.aio(status_of, link(port)) is Status.UNAUTHENTICATED


@served(token=TOKEN)
async def test_reflection_needs_the_token_too(it: Served) -> None:
    async def reflect() -> None:
        channel = Channel("127.0.0.1", it.server.port)
        try:
            async with ServerReflectionStub(channel).ServerReflectionInfo.open() as stream:
                await stream.send_message(ServerReflectionRequest(list_services=""), end=True)
                await stream.recv_message()
        finally:
            channel.close()

    assert await it.aio(status_of, reflect()) is Status.UNAUTHENTICATED


@served(peer=PeerStub())
async def test_without_token_and_tls_everyone_is_let_in(it: Served) -> None:
    assert await it.aio(link, it.server.port) == b"hello"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of a CA with a certificate for a host, and of another CA with the same."""
    folder = tmp_path_factory.mktemp("pem")
    paths = {}
    for prefix in ("", "other_"):
        authority = trustme.CA()
        host = authority.issue_cert("127.0.0.1", "host.roost")
        blobs = {
            "ca": authority.cert_pem, "cert": host.cert_chain_pems[0], "key": host.private_key_pem,
        }  # fmt: skip
        for name, blob in blobs.items():
            path = folder / f"{prefix}{name}.pem"
            blob.write_to_path(str(path))
            paths[prefix + name] = str(path)
    return paths


def test_tls_clients_trust_the_right_ca_only(pem: dict[str, str]) -> None:
    async def main() -> None:
        async with serving(tls=wire.TlsConfig(cert=pem["cert"], key=pem["key"])) as it:
            async with wire.trio_connect(it.address, tls=wire.TlsConfig(ca=pem["ca"])) as client:
                assert await client.ask("Counter", "a", "add", 1) == 1
            wrong = wire.TlsConfig(ca=pem["other_ca"])
            async with wire.trio_connect(it.address, tls=wrong) as client:
                with pytest.raises(Unauthenticated, match=r"certificate of .* is refused"):
                    await client.ask("Counter", "a", "add", 1)
            async with wire.trio_connect(it.address, timeout_s=0.5) as client:
                with pytest.raises((NotDelivered, OutcomeUnknown)):  # in the clear, to a TLS port
                    await client.ask("Counter", "a", "add", 1)
            assert len(it.gateway.calls) == 1

    run_bounded(main)


def test_a_name_in_the_certificate_may_stand_for_the_address(pem: dict[str, str]) -> None:
    async def main() -> None:
        async with serving(tls=wire.TlsConfig(cert=pem["cert"], key=pem["key"])) as it:
            named = wire.TlsConfig(ca=pem["ca"], name="host.roost")
            async with wire.trio_connect(it.address, tls=named) as client:
                assert await client.ask("Counter", "a", "add", 1) == 1
            other = wire.TlsConfig(ca=pem["ca"], name="other.roost")
            async with wire.trio_connect(it.address, tls=other) as client:
                with pytest.raises(Unauthenticated):
                    await client.ask("Counter", "a", "add", 1)

    run_bounded(main)


def test_mutual_tls_asks_hosts_for_certificates_and_clients_for_the_token(
    pem: dict[str, str],
) -> None:
    mutual = wire.TlsConfig(cert=pem["cert"], key=pem["key"], ca=pem["ca"])
    bare = wire.TlsConfig(ca=pem["ca"])
    stranger = wire.TlsConfig(cert=pem["other_cert"], key=pem["other_key"])

    async def main() -> None:
        async with serving(tls=mutual, token=TOKEN, peer=PeerStub()) as it:
            port = it.server.port
            assert await it.aio(link, port, mutual.client_context()) == b"hello"
            without = link(port, bare.client_context(), TOKEN)
            assert await it.aio(status_of, without) is Status.UNAUTHENTICATED
            context = stranger.client_context()
            context.check_hostname, context.verify_mode = False, 0  # type: ignore[assignment]
            assert await it.aio(refused, link(port, context))
            async with wire.trio_connect(it.address, tls=bare, token=TOKEN) as client:
                assert await client.ask("Counter", "a", "add", 1) == 1
            async with wire.trio_connect(it.address, tls=bare) as client:
                with pytest.raises(Unauthenticated):
                    await client.ask("Counter", "a", "add", 1)
            assert await it.aio(health_status, port, "", bare.client_context()) == 1

    run_bounded(main)


async def refused(call: Any) -> bool:
    """Whether the connection was refused, before any service was reached."""
    try:
        async with asyncio.timeout(5):
            await call
    except GRPCError:
        return False
    except Exception:
        return True
    return False


@pytest.mark.parametrize("mutual", [True, False])
def test_real_links_pass_the_servers_guard(pem: dict[str, str], mutual: bool) -> None:
    """By certificate under mutual TLS, by the token otherwise."""
    tls = wire.TlsConfig(cert=pem["cert"], key=pem["key"], ca=pem["ca"] if mutual else "")
    dialing = wire.TlsConfig(cert=pem["cert"], key=pem["key"], ca=pem["ca"]).client_context()

    async def main() -> None:
        heard = Recorder()
        async with loops.open_crossing() as crossing:
            here = Peer("here", "incarnation-here", "127.0.0.1:1")
            links = GrpcLinks(here, "test", heard, loop=crossing.loop)
            async with serving(tls=tls, token=TOKEN, peer=links.service()) as it:
                there = GrpcLinks(
                    Peer("there", "incarnation-there", "127.0.0.1:2"), "test", Recorder(),
                    tls=dialing, token="" if mutual else TOKEN, loop=crossing.loop,
                )  # fmt: skip
                there.send(here._replace(address=it.address), Resume(7))
                await until(lambda: heard.items == [Resume(7)])
                await it.aio(there.aclose)
                await it.aio(links.aclose)

    run_bounded(main)


class Recorder:
    """A host that only listens."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
        self.items.extend(items)

    def on_lost(self, peer: Peer, reason: str) -> None:
        pass

    def on_room(self, peer: Peer) -> None:
        pass


def test_the_health_port_answers_in_the_clear_and_nothing_else(pem: dict[str, str]) -> None:
    mutual = wire.TlsConfig(cert=pem["cert"], key=pem["key"], ca=pem["ca"])

    async def main() -> None:
        async with serving(tls=mutual, token=TOKEN, health_port=0) as it:
            port = it.server.health_port
            assert port not in (0, None, it.server.port)
            assert await it.aio(health_status, port, "") == 1
            it.gateway.ready = False
            assert await it.aio(health_status, port, "ready") == 2
            async with wire.trio_connect(f"127.0.0.1:{port}", token=TOKEN) as client:
                with pytest.raises(ProtocolError, match="Method not found"):
                    await client.ask("Counter", "a", "add", 1)
            assert it.gateway.calls == []

    run_bounded(main)


def test_the_token_does_not_show_in_settings() -> None:
    assert TOKEN not in repr(ServerConfig(token=TOKEN))
