"""The command ``roost``: what each subcommand takes, and how it ends. An adapter.

Exit status: 0 done; 1 the call failed; 2 the usage or a setting is wrong, or what the command needs
is not there. Errors are one line on stderr, with the remedy; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from deploy import commands
from deploy.failures import USAGE, explain
from deploy.settings import rows
from deploy.settings_table import help_text

_Handler = Callable[[argparse.Namespace], None]
_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of this command."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"roost: {message} (see `{self.prog} --help`)\n")


class _ShowVersion(argparse.Action):
    """``roost --version`` is ``roost version``, as most commands have it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        commands.version(argparse.Namespace(json=False))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run one command; its exit status. Raises SystemExit for wrong usage and for --help."""
    args = parser().parse_args(argv)
    try:
        args.handler(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read our output has left, as in `roost ps | head`: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as exc:
        failure = explain(exc)
        if args.debug:
            traceback.print_exc()
        hint = "" if failure.known or args.debug else " (--debug shows where)"
        print(f"roost: {failure.message}{hint}", file=sys.stderr)
        return failure.status
    return 0


def parser() -> argparse.ArgumentParser:
    """All of the command line."""
    top = _Parser(
        prog="roost", allow_abbrev=False, description="Run and operate a cluster of actors.",
        epilog="example: roost up --hosts 3 --app counter.py",
    )  # fmt: skip
    top.add_argument("--version", action=_ShowVersion, nargs=0, help="like the command version")
    subcommands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_host, _up, _hosts, _ps, _locate, _ask, _tell, _spawn, _stop, _drain, _version):
        add(subcommands)
    return top


def _command(
    subcommands: _Commands, name: str, handler: _Handler, summary: str, example: str
) -> argparse.ArgumentParser:
    command = subcommands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(handler=handler)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


# The hosts themselves -----------------------------------------------------------------------


def _host(subcommands: _Commands) -> None:
    command = _command(
        subcommands, "host", commands.host, "run one host of a cluster",
        "  REDIS_URL=redis://localhost:6379/0 roost host --app counter.py --grpc-port 50052\n\n"
        + help_text(),
    )  # fmt: skip
    command.usage = "roost host [--SETTING VALUE ...] [--debug]"
    for field, row in rows():
        command.add_argument(row.flag, dest=field, help=argparse.SUPPRESS)


def _up(subcommands: _Commands) -> None:
    command = _command(
        subcommands, "up", commands.up, "run a cluster on this machine, with a Redis of its own",
        "  roost up --hosts 3 --app counter.py --data ./data",
    )  # fmt: skip
    command.add_argument("--app", help="the module that defines the actors (or ROOST_APP)")
    command.add_argument("--hosts", type=int, default=3, metavar="N", help="how many (3)")
    command.add_argument(
        "--port", type=int, default=50051, metavar="BASE",
        help="port of the first host, the others follow; 0: any that are free (50051)",
    )  # fmt: skip
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="keep the embedded Redis's data there"
    )
    command.add_argument("--redis-url", help="use that Redis, not an embedded one (or REDIS_URL)")
    command.add_argument("--cluster", help="the cluster's name (or ROOST_CLUSTER; default)")


# What talks to a running cluster ------------------------------------------------------------


def _operator(
    subcommands: _Commands, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    command = _command(subcommands, name, commands.operate(name), summary, f"  {example}")
    group = command.add_argument_group("which cluster (found by itself after `roost up`)")
    group.add_argument("--address", metavar="IP:PORT", help="any of its hosts (or ROOST_ADDRESS)")
    group.add_argument("--redis-url", help="its Redis, which knows its hosts (or REDIS_URL)")
    group.add_argument("--cluster", help="its name (or ROOST_CLUSTER)")
    group.add_argument("--token", help="its bearer token (or ROOST_TOKEN, which no one can list)")
    group.add_argument("--tls-ca", metavar="FILE", help="turns TLS on (or TLS_CA)")
    command.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="deadline of it all (30)"
    )
    command.add_argument("--json", action="store_true", help="print JSON, for scripts")
    return command


def _hosts(subcommands: _Commands) -> None:
    _operator(
        subcommands,
        "hosts",
        "list the hosts of the cluster",
        "roost hosts --json",
    )


def _ps(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "ps", "list the actors that run, and those that failed",
        "roost ps Counter --limit 20",
    )  # fmt: skip
    command.add_argument("kind", nargs="?", default="", help="only actors of this kind")
    command.add_argument(
        "--limit", type=int, default=1000, metavar="N", help="at most so many; 0: all (1000)"
    )


def _locate(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "locate", "show where an actor is, and how it does",
        "roost locate Counter/a",
    )  # fmt: skip
    _actor(command)


def _ask(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "ask", "call an actor and print its result as JSON",
        """roost ask Counter/a add '{"n": 1}'   (an object: by name; an array: by position)""",
    )  # fmt: skip
    _call(command)
    command.add_argument(
        "--stream", action="store_true", help="the handler yields: print each item as it comes"
    )


def _tell(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "tell", "send an actor a message and do not wait for it",
        """roost tell Counter/a add '{"n": 1}'""",
    )  # fmt: skip
    _call(command)


def _spawn(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "spawn", "start an actor now; arguments go to its on_spawn",
        """roost spawn Agent/a '{"goal": "answer"}' --durable""",
    )  # fmt: skip
    _actor(command)
    _arguments(command)
    command.add_argument("--durable", action="store_true", help="bring it back if its host dies")


def _stop(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "stop", "stop an actor; its next message starts it again",
        "roost stop Counter/a",
    )  # fmt: skip
    _actor(command)


def _drain(subcommands: _Commands) -> None:
    command = _operator(
        subcommands, "drain", "have a host save all, let go and leave",
        "roost drain host-2",
    )  # fmt: skip
    command.add_argument("host", metavar="HOST", help="its id, as `roost hosts` shows it")


def _version(subcommands: _Commands) -> None:
    command = _command(
        subcommands, "version", commands.version, "show the versions of Roost and what it runs on",
        "  roost version --json",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON, for scripts")


def _actor(command: argparse.ArgumentParser) -> None:
    command.add_argument("actor", metavar="Kind/key", help="the actor's name")


def _call(command: argparse.ArgumentParser) -> None:
    _actor(command)
    command.add_argument("method", help="the handler's name")
    _arguments(command)


def _arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "arguments", nargs="?", default="", metavar="JSON",
        help="an object (by name) or an array (by position); - reads it from stdin",
    )  # fmt: skip
