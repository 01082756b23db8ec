"""The commands that talk to a running cluster, each a call of the client. An adapter."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from deploy import arguments, finding
from deploy.failures import FAILED, CommandFailed
from deploy.tables import age, render
from wire import loops
from wire.errors import ConfigError, InvalidArgument
from wire.ids import ActorId, parse_actor_id
from wire.ports import Described, HostInfo
from wire.tls import TlsConfig
from wire.trio_client import TrioClient, trio_connect

PAGE = 1_000

_Action = Callable[[TrioClient, argparse.Namespace], Awaitable[None]]


def perform(action: _Action, args: argparse.Namespace) -> None:
    """Find the cluster, connect, and do ``action``; raises what the call raises."""
    if not args.timeout > 0:
        raise ConfigError(f"--timeout is {args.timeout:g}: it must be above 0 (seconds)")
    loops.run(_perform, action, args)


async def _perform(action: _Action, args: argparse.Namespace) -> None:
    settings = finding.settings_of(args, os.environ)
    tls = None
    if settings.tls_ca or settings.tls_cert:
        tls = TlsConfig(
            cert=settings.tls_cert, key=settings.tls_key, ca=settings.tls_ca,
            name=settings.tls_name,
        )  # fmt: skip
    addresses = await finding.find(args, os.environ, settings)
    async with trio_connect(
        addresses, token=settings.token, tls=tls, timeout_s=args.timeout
    ) as client:
        await action(client, args)


# What people and scripts look at ------------------------------------------------------------


async def hosts(client: TrioClient, args: argparse.Namespace) -> None:
    found = sorted(await client.hosts(), key=lambda host: host.host_id)
    if args.json:
        _print_json([host._asdict() for host in found])
        return
    header = ["host", "state", "address", "actors", "capacity", "weight", "view", "incarnation"]
    print(render(header, [_host_row(host) for host in found]))


def _host_row(host: HostInfo) -> list[str]:
    return [
        host.host_id, host.state, host.address, str(host.actors),
        str(host.capacity) if host.capacity else "-", f"{host.weight:g}", str(host.view_version),
        host.incarnation,
    ]  # fmt: skip


async def ps(client: TrioClient, args: argparse.Namespace) -> None:
    if args.limit < 0:
        raise ConfigError(f"--limit is {args.limit}: give at least 1, or 0 for all")
    found: list[Described] = []
    cursor, first = "", True
    while (first or cursor) and not 0 < args.limit <= len(found):
        want = min(PAGE, args.limit - len(found)) if args.limit else PAGE
        page, cursor = await client.list(args.kind, limit=want, cursor=cursor)
        found += page
        first = False
    if args.limit:
        cursor = cursor or "more" * (len(found) > args.limit)
        del found[args.limit :]
    if args.json:
        _print_json([_plain(actor) for actor in found])
        return
    _print_actors(found)
    if cursor:
        print(f"roost: only the first {len(found)}; --limit 0 lists all", file=sys.stderr)


async def locate(client: TrioClient, args: argparse.Namespace) -> None:
    id = _id(args)
    found = await client.describe(id.kind, id.key)
    if args.json:
        _print_json(_plain(found))
    elif not found.host_id:
        print(f"{id} runs nowhere now; its next message starts it")
    else:
        _print_actors([found])


def _print_actors(found: Sequence[Described]) -> None:
    header = ["actor", "status", "host", "mailbox", "running", "idle", "epoch", "reason"]
    table = [
        [str(a.actor), a.status, a.host_id or "-", str(a.mailbox), str(a.running),
         age(a.idle_s), str(a.epoch), a.reason]
        for a in found
    ]  # fmt: skip
    print(render(header, table))


# What changes something -----------------------------------------------------------------------


async def ask(client: TrioClient, args: argparse.Namespace) -> None:
    id, given = _id(args), _arguments(args)
    if not args.stream:
        _print_json(await client.ask(*id, args.method, *given.positional, **given.named))
        return
    stream = client.with_options(timeout_s=args.timeout).stream(
        *id, args.method, *given.positional, **given.named
    )
    async with stream:
        async for item in stream:
            _print_json(item, on_one_line=True)


async def tell(client: TrioClient, args: argparse.Namespace) -> None:
    given = _arguments(args)
    await client.tell(*_id(args), args.method, *given.positional, **given.named)
    if args.json:
        _print_json({"accepted": True})


async def spawn(client: TrioClient, args: argparse.Namespace) -> None:
    given = _arguments(args)
    found = await client.spawn(*_id(args), given.named or given.positional, durable=args.durable)
    if args.json:
        _print_json(_plain(found))
    else:
        print(f"{found.actor} runs on {found.host_id} ({found.address})")


async def stop(client: TrioClient, args: argparse.Namespace) -> None:
    id = _id(args)
    stopped = await client.stop(id.kind, id.key)
    if args.json:
        _print_json({"stopped": stopped})
    else:
        print(f"{id} has stopped" if stopped else f"{id} was not running")


async def drain(client: TrioClient, args: argparse.Namespace) -> None:
    if not await client.drain(args.host):
        raise CommandFailed(
            f"no host {args.host!r} can be drained: `roost hosts` lists those there are", FAILED
        )
    if args.json:
        _print_json({"draining": args.host})
    else:
        print(f"{args.host} drains, and leaves when it is done")


# In and out -----------------------------------------------------------------------------------


def _id(args: argparse.Namespace) -> ActorId:
    try:
        return parse_actor_id(args.actor)
    except InvalidArgument as exc:
        raise ConfigError(str(exc)) from exc


def _arguments(args: argparse.Namespace) -> arguments.Arguments:
    return arguments.parse(sys.stdin.read() if args.arguments == "-" else args.arguments)


def _plain(actor: Described) -> dict[str, Any]:
    return actor._asdict() | {"actor": str(actor.actor)}


def _print_json(value: object, *, on_one_line: bool = False) -> None:
    """Bytes come as base64, refs as Kind/key; indented for people, one line for scripts."""
    text = msgspec.json.encode(value, enc_hook=str)
    if sys.stdout.isatty() and not on_one_line:
        text = msgspec.json.format(text, indent=2)
    print(text.decode(), flush=True)
