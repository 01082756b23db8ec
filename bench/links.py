"""How fast are links between hosts, without actors on top?

    python -m bench.links [--seconds S] [--repeat N] [--json FILE]

Two processes on one machine, each with uvloop and GrpcLinks, 64-byte payloads. One sends
envelopes, the other answers each with a reply (asks) or does not (tells, counted when they have
arrived). Prints the median of the repetitions and their spread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from wire.items import Envelope, Item, Reply, Request, Response
from wire.limits import BoundedServer
from wire.links_grpc import GrpcLinks
from wire.ports import Peer

CLUSTER = "bench"
PAYLOAD = b"x" * 64
DISTRIBUTIONS = ("grpclib", "h2", "msgspec", "uvloop")


class Answerer:
    """Answers asks, counts tells, and tells the count when it is asked by a Request."""

    links: GrpcLinks

    def __init__(self) -> None:
        self.tells = 0

    def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
        send = self.links.send
        for item in items:
            if type(item) is Envelope:
                if item.call:
                    send(peer, Reply(item.call, 0, 1, 0, item.payload))
                else:
                    self.tells += 1
            elif type(item) is Request:
                send(peer, Response(item.id, "", str(self.tells).encode()))

    def on_lost(self, peer: Peer, reason: str) -> None: ...

    def on_room(self, peer: Peer) -> None: ...


class Caller:
    """Keeps ``outstanding`` asks under way for ``seconds``; or tells as fast as there is room."""

    links: GrpcLinks

    def __init__(self, target: Peer) -> None:
        self.target = target
        self._call = 0
        self._ask_until = 0.0
        self._waiting = 0
        self._done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()

    def on_items(self, peer: Peer, items: Sequence[Item]) -> None:
        go_on = time.perf_counter() < self._ask_until
        for item in items:
            if type(item) is Reply:
                self._waiting -= 1
                if go_on:
                    self._ask()
            elif type(item) is Response:
                self._done.set_result(int(item.body))
        if not self._waiting and not self._done.done():
            self._done.set_result(None)

    def on_lost(self, peer: Peer, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"link lost: {reason}"))

    def on_room(self, peer: Peer) -> None:
        self._room.set()

    async def asks(self, outstanding: int, seconds: float) -> float:
        """Asks per second."""
        self._done = asyncio.get_running_loop().create_future()
        before, start = self._call, time.perf_counter()
        self._ask_until = start + seconds
        for _ in range(outstanding):
            self._ask()
        await self._done
        return (self._call - before) / (time.perf_counter() - start)

    async def tells(self, seconds: float) -> float:
        """Tells per second, from the first sent to the last arrived."""
        arrived = await self._arrived(0)
        sent, start = 0, time.perf_counter()
        envelope = Envelope(1, 0, 0, 0, "Kind", "key", "method", 0, 0, PAYLOAD, 30_000)
        while time.perf_counter() < start + seconds:
            for _ in range(256):
                if not self.links.send(self.target, envelope):
                    self._room.clear()
                    await self._room.wait()
            sent += 256
            await asyncio.sleep(0)
        await self._arrived(arrived + sent)
        return sent / (time.perf_counter() - start)

    def _ask(self) -> None:
        self._waiting += 1
        self._call = call = self._call + 1
        self.links.send(
            self.target,
            Envelope(1, call, 0, call, "Kind", "key", "method", 1, 0, PAYLOAD, 30_000),
        )

    async def _arrived(self, at_least: int) -> int:
        while True:
            self._done = asyncio.get_running_loop().create_future()
            self._waiting = 1
            self.links.send(self.target, Request(1, "count", b""))
            arrived = int(await self._done)
            self._waiting = 0
            if arrived >= at_least:
                return arrived


async def start_host(name: str, handler: Any) -> tuple[Peer, BoundedServer]:
    listener = socket.create_server(("127.0.0.1", 0))
    me = Peer(name, f"{name}-1", f"127.0.0.1:{listener.getsockname()[1]}")
    handler.links = GrpcLinks(me, CLUSTER, handler)
    server = BoundedServer([handler.links.service()])
    await server.start(sock=listener)
    return me, server


async def answer() -> None:
    """The other process: says where it listens, ends when its input does."""
    me, _ = await start_host("answerer", Answerer())
    print(me.address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


WORKLOADS: dict[str, tuple[str, Callable[[Caller, float], Awaitable[float]]]] = {
    "round trip, 1 outstanding": ("us", lambda caller, seconds: caller.asks(1, seconds)),
    "asks, 64 outstanding": ("asks/s", lambda caller, seconds: caller.asks(64, seconds)),
    "asks, 512 outstanding": ("asks/s", lambda caller, seconds: caller.asks(512, seconds)),
    "tells": ("tells/s", lambda caller, seconds: caller.tells(seconds)),
}


async def measure(address: str, seconds: float, repeat: int) -> dict[str, list[float]]:
    """Samples by workload, interleaved; microseconds where the unit is us, else per second."""
    caller = Caller(Peer("answerer", "answerer-1", address))
    await start_host("caller", caller)
    samples: dict[str, list[float]] = {name: [] for name in WORKLOADS}
    await caller.asks(64, seconds / 4)
    for _ in range(repeat):
        for name, (unit, run) in WORKLOADS.items():
            rate = await run(caller, seconds)
            samples[name].append(1e6 / rate if unit == "us" else rate)
    await caller.links.aclose()
    return samples


def report(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Print the table; returns what --json writes."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    versions = {name: version(name) for name in DISTRIBUTIONS}
    print(f"{machine}, Python {platform.python_version()}, {versions}")
    print(f"{'workload':<28} {'median':>12} {'least':>12} {'most':>12}")
    for name, values in samples.items():
        unit = WORKLOADS[name][0]
        figures = (statistics.median(values), min(values), max(values))
        print(f"{name:<28} " + " ".join(f"{f:>12,.0f}" for f in figures), unit)
    return {
        "machine": machine,
        "python": platform.python_version(),
        "versions": versions,
        "payload_bytes": len(PAYLOAD),
        "samples": samples,
        "units": {name: unit for name, (unit, _) in WORKLOADS.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.links", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="per sample")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        uvloop.run(answer())
        return
    command = [sys.executable, "-m", "bench.links", "--answer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        address = other.stdout.readline().decode().strip()
        samples = uvloop.run(measure(address, options.seconds, options.repeat))
        assert other.stdin is not None
        other.stdin.close()
    found = report(samples)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
