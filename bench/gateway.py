"""How fast is an actor for grpclib clients outside the cluster, compared with grpclib itself?

A plain grpclib client, one and 64 calls outstanding, asks an actor on the host that it calls, an
actor on the other host (one more hop between hosts), and a bare grpclib server that sends the same
message back and does nothing else. Server and client each have a process and uvloop.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import uvloop
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

import wire
from bench.cluster import START_S, Hosts, hosts
from bench.report import Report, arguments, finish
from wire import hot_messages as hot

PATH = "/roost.v1.Actors/Ask"
Ask = Callable[[Any], Awaitable[Any]]


class Bare:
    """The other server: an echo, and nothing else."""

    async def ask(self, stream: Any) -> None:
        request = await stream.recv_message()
        await stream.send_message(hot.AskReply(payload=request.payload))

    def __mapping__(self) -> dict[str, Handler]:
        unary = Cardinality.UNARY_UNARY
        return {PATH: Handler(self.ask, unary, hot.AskRequest, hot.AskReply)}


async def _serve_bare() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    await Server([Bare()]).start(sock=listener)
    print(listener.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def _bare() -> Iterator[str]:
    """The bare server's process; its address."""
    command = [sys.executable, "-m", "bench.gateway", "--bare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


async def _measure(report: Report, called: str, bare: str, repeat: int, seconds: float) -> None:
    here, there = await _find_actors(called)
    with _channel(called) as roost, _channel(bare) as plain:
        servers = {
            "bare grpclib server": (_method(plain), "a"),
            "actor on the called host": (_method(roost), here),
            "actor on the other host": (_method(roost), there),
        }
        for ask, key in servers.values():
            await _rate(ask, key, 16, seconds / 2)
        for _ in range(repeat):
            for outstanding in (1, 64):
                for name, (ask, key) in servers.items():
                    rate = await _rate(ask, key, outstanding, seconds)
                    report.add(f"{name}, {outstanding} outstanding", "asks/s", rate)


async def _find_actors(called: str) -> tuple[str, str]:
    """The keys of an actor on bench-1, which is the host called, and of one on bench-2."""
    keys = (f"g{number}" for number in itertools.count())
    async with asyncio.timeout(START_S), wire.connect(called) as client:

        async def find(host_id: str) -> str:
            while await client.ask("Echo", key := next(keys), "host") != host_id:
                await asyncio.sleep(0.01)
            return key

        there = await find("bench-2")  # from now on both hosts have the ring that they keep
        return await find("bench-1"), there


@contextmanager
def _channel(address: str) -> Iterator[Channel]:
    host, _, port = address.rpartition(":")
    channel = Channel(host, int(port))
    try:
        yield channel
    finally:
        channel.close()


def _method(channel: Channel) -> Ask:
    method: Ask = UnaryUnaryMethod(channel, PATH, hot.AskRequest, hot.AskReply)
    return method


async def _rate(ask: Ask, key: str, outstanding: int, seconds: float) -> float:
    """Asks per second."""
    payload = msgspec.msgpack.encode([b"x" * 64])
    end = (start := time.perf_counter()) + seconds
    done = 0

    async def some() -> None:
        nonlocal done
        while time.perf_counter() < end:
            request = hot.AskRequest(kind="Echo", key=key, method="echo", payload=payload)
            assert len((await ask(request)).payload) >= 64
            done += 1

    await asyncio.gather(*(some() for _ in range(outstanding)))
    return done / (time.perf_counter() - start)


def _ratios(report: Report) -> None:
    figures = report.figures
    for outstanding in (1, 64):
        bare = figures[f"bare grpclib server, {outstanding} outstanding"].median
        for place in ("called", "other"):
            ours = figures[f"actor on the {place} host, {outstanding} outstanding"].median
            report.note(
                f"{outstanding} outstanding, actor on the {place} host: {ours / bare:.2f} x bare"
            )


def _run(report: Report, running: Hosts, repeat: int, seconds: float) -> None:
    called = running.wait_address("bench-1")
    running.wait_address("bench-2")
    with _bare() as bare:
        uvloop.run(_measure(report, called, bare, repeat, seconds))


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("gateway", __doc__ or "", repeat=5, argv=argv, seconds=(1.0, "per sample"))
    report = Report("unary gRPC asks from outside, 64-byte payloads")
    with hosts(2) as running:
        if options.short:
            _run(report, running, 3, 0.4)
        else:
            _run(report, running, options.repeat, options.seconds)
    _ratios(report)
    finish(report, options)
    return report


if __name__ == "__main__":
    if sys.argv[1:] == ["--bare"]:
        uvloop.run(_serve_bare())
    else:
        main()
