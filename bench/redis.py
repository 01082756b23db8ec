"""How many activations does one Redis carry: how many claims per second, how many actors in memory?

Claims go through the registry's own adapter in batches, from one process. One claim's share of
the server's own processor time says where the server ends, whatever the client does; what the
server's memory grew by says how many actors fit in the 256 MB of a small one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import redis
import uvloop

from bench.report import Report, arguments, finish
from deploy import embedded
from placement.ports import Claim
from placement.records import Claimed, Member
from placement.redis_registry import RedisRegistry

BATCH = 512
SMALL_MIB = 256
NAMES: dict[str, Callable[[Random], str]] = {
    "short keys": lambda rng: f"Agent/{rng.getrandbits(40):010x}",
    "UUIDs as keys": lambda rng: f"Agent/{rng.getrandbits(144):036x}",
}


def _measure(report: Report, count: int, repeat: int) -> None:
    for label, name in NAMES.items():
        for turn in range(repeat):
            with embedded.serve() as server:
                embedded.settle(server.url)
                rng = Random(turn)
                filled = uvloop.run(fill(server.url, [name(rng) for _ in range(count)]))
            _tell(report, label, count, filled)


class Filled(NamedTuple):
    """What a server has done for many claims."""

    took_s: float
    server_s: float  # of its own processor time
    empty_bytes: int
    bytes_each: float


async def fill(url: str, names: Sequence[str]) -> Filled:
    """Claim all names and weigh the server before and after."""
    registry, server = RedisRegistry(url, "default"), redis.Redis.from_url(url)
    me = "bench-1-0123456789abcdef"
    await registry.join(Member(host_id="bench-1", incarnation=me, address="127.0.0.1:1"))
    memory, cpu_s, start = _memory(server), _cpu_s(server), time.perf_counter()
    for batch in _batches(names):
        answers = await registry.claim(me, [Claim(name) for name in batch])
        assert all(isinstance(a, Claimed) for a in answers)
    took_s, server_s = time.perf_counter() - start, _cpu_s(server) - cpu_s
    each = (_memory(server) - memory) / len(names)
    await registry.aclose()
    return Filled(took_s, server_s, memory, each)


def _tell(report: Report, label: str, count: int, filled: Filled) -> None:
    report.add(f"{label}: claimed by one client", "actors/s", count / filled.took_s)
    report.add(f"{label}: a server's core carries", "actors/s", count / filled.server_s)
    report.add(f"{label}: memory per actor", "bytes", filled.bytes_each, "less")
    fits = (SMALL_MIB * 2**20 - filled.empty_bytes) / filled.bytes_each / 1e6
    report.add(f"{label}: fit in {SMALL_MIB} MiB", "million actors", fits)


def location_bytes(count: int) -> float:
    """What one of ``count`` actors with UUIDs as keys takes of a server's memory."""
    rng = Random(0)
    with embedded.serve() as server:
        embedded.settle(server.url)
        names = [NAMES["UUIDs as keys"](rng) for _ in range(count)]
        return uvloop.run(fill(server.url, names)).bytes_each


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[first : first + BATCH] for first in range(0, len(names), BATCH))


def _memory(server: redis.Redis) -> int:
    return int(server.info("memory")["used_memory"])


def _cpu_s(server: redis.Redis) -> float:
    found = server.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("redis", __doc__ or "", repeat=1, argv=argv, count=(1_000_000, "actors"))
    report = Report("what one Redis carries")
    count = options.count // 10 if options.short else options.count
    _measure(report, count, options.repeat)
    report.note(f"{count:,} actors, {BATCH} to a script")
    finish(report, options)
    return report


if __name__ == "__main__":
    main()
