"""``python -m bench.demo``: set the stage, do the job, print the table, clean up.

Exit status: 0 if every answer was equal to the plain one; 1 if not, or if the work was not done;
2 if it could not begin; 128 and the signal's number if a signal ended it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

import trio

import actors
import wire
from bench.demo.answers import PlainLibrary
from bench.demo.cluster import open_cluster
from bench.demo.corpus import File, collect
from bench.demo.job import GROW_BY, LIBRARY, QUESTIONS, Job, Move, Tally
from bench.demo.screen import Screen, table
from deploy import embedded
from deploy.failures import FAILED, CommandFailed, explain

HOSTS = 3
TIME_LIMIT_S = 170.0
#: So that each shelf has a few, and a host can be killed in the middle of an answer.
FEWEST = 4 * len(QUESTIONS)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo and exit with its status."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo")
    parser.add_argument(
        "--documents", type=int, metavar="N", help=f"only the first N files, {FEWEST} at least"
    )
    args = parser.parse_args(argv)
    if args.documents is not None and args.documents < FEWEST:
        parser.error(f"--documents is {args.documents}: it must be at least {FEWEST}")
    try:
        is_good = run(args.documents, Screen(sys.stdout))
    except (Exception, KeyboardInterrupt) as exc:
        failure = explain(exc)
        print(f"\nroost demo: {failure.message}", file=sys.stderr)
        sys.exit(failure.status)
    sys.exit(0 if is_good else FAILED)


def run(documents: int | None, screen: Screen) -> bool:
    """The whole demo; whether all went as it should."""
    began_s = time.monotonic()
    files = collect(documents)
    plain = PlainLibrary(files)
    screen.say(f"Roost demo: {describe(files)}, one actor each, on {HOSTS} hosts.\n")
    screen.say(f"  counted plainly in this process in {time.monotonic() - began_s:.1f} s")
    with embedded.serve() as redis:
        embedded.settle(redis.url)
        tally = actors.run(on_hosts, redis.url, files, plain, screen)
    screen.say("\n" + table(rows(tally)))
    return tally.is_good


async def on_hosts(
    redis_url: str, files: Sequence[File], plain: PlainLibrary, screen: Screen
) -> Tally:
    """The part of it that needs hosts. Raises CommandFailed past the time limit, or when told to
    stop; hosts are gone when it returns."""

    def show(host: str, line: str) -> None:
        screen.say(f"  {host} | {line}")

    began_s = trio.current_time()
    with trio.move_on_after(TIME_LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal)
            async with open_cluster(redis_url, HOSTS, show) as cluster:
                async with wire.trio_connect(cluster.addresses()) as client:
                    home = (await client.spawn("Library", LIBRARY)).host_id
                screen.say(f"  Redis and hosts up in {trio.current_time() - began_s:.1f} s\n")
                # Through the Library's own host, which may well be the one to be killed.
                async with wire.trio_connect(cluster.addresses(first=home)) as client:
                    tally = await Job(client, cluster, files, plain, screen).run()
            nursery.cancel_scope.cancel()
            return tally
    raise CommandFailed(f"not done within {TIME_LIMIT_S:g} s", FAILED)


async def _stop_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            name = signal.Signals(number).name
            raise CommandFailed(f"stopped by {name}", 128 + number)


def describe(files: Sequence[File]) -> str:
    """``1,500 .py files (12.3 MB, 4 not in UTF-8)``."""
    size_mb = sum(len(file.data) for file in files) / 1e6
    odd = sum(1 for file in files if not file.is_utf8)
    return f"{len(files):,} .py files ({size_mb:.1f} MB, {odd} not in UTF-8)"


def rows(tally: Tally) -> list[tuple[str, str]]:
    """The table at the end."""
    homes = ", ".join(f"{n:,} on {host}" for host, n in sorted(tally.homes.items()))
    failed = ", ".join(f"{n} {name}" for name, n in sorted(tally.failed.items()))
    recovery = "no host was killed"
    if tally.recovery_s is not None:
        recovery = f"{tally.recovery_s:.1f} s, from SIGKILL to an answer of all documents"
    return [
        ("documents", f"{tally.documents:,} (now {homes})"),
        ("hosts", f"{HOSTS}, then {HOSTS + GROW_BY}, one of them killed, then {HOSTS} again"),
        *((f"from {move.what}", describe_move(move)) for move in tally.moves),
        ("calls", f"{tally.calls:,} in {tally.elapsed_s:.1f} s"),
        ("calls per second", f"{tally.calls / tally.elapsed_s:,.0f}, the outage included"),
        ("failed calls", f"{failed}; made again until answered" if failed else "none"),
        ("recovery time", recovery),
        ("answers", verdict(tally)),
    ]


def describe_move(move: Move) -> str:
    """``602 documents moved, ideal 600; 0 calls failed``."""
    return f"{move.moved:,} documents moved, ideal {move.ideal:,}; {move.failed} calls failed"


def verdict(tally: Tally) -> str:
    """How many answers are equal, and which are not."""
    if not tally.unequal:
        return f"{tally.answers}, all equal to those of one plain process"
    return f"{tally.answers}, of which {len(tally.unequal)} differ: {', '.join(tally.unequal)}"


if __name__ == "__main__":
    main()
