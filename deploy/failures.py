"""Errors into one line and an exit status, for people at a shell. A decision module: pure.

2: the usage or a setting is wrong, or what the command needs is not there; nothing was done.
1: the call itself failed. 130: interrupted.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from placement.ports import RegistryError, RegistryMisconfigured, RegistryUnavailable
from wire.errors import (
    ActorError,
    ConfigError,
    DeadlineExceeded,
    MailboxFull,
    NoCapacity,
    NotDelivered,
    OutcomeUnknown,
    RoostError,
    Unauthenticated,
    Unavailable,
)

USAGE = 2
FAILED = 1
INTERRUPTED = 130

_REMEDIES: dict[type[BaseException], str] = {
    RegistryUnavailable: "start Redis there, set REDIS_URL, or use `roost up`",
    DeadlineExceeded: "give it longer with --timeout",
    MailboxFull: "the actor takes no more: try again later",
    NoCapacity: "add a host, or raise MAX_ACTORS",
    NotDelivered: "it did not run: try again",
    OutcomeUnknown: "it may have run: look before you try again",
    Unauthenticated: "set ROOST_TOKEN or --token to the cluster's token",
    Unavailable: "is a host running? `roost up` starts a local cluster",
}


class CommandFailed(Exception):
    """A command ends with this message and this exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Failure(NamedTuple):
    """What to print, and with which status to exit. ``known``: False for a bug of Roost's."""

    message: str
    status: int
    known: bool = True


def cause_of(exc: BaseException) -> BaseException:
    """The error that matters in ``exc``: the first known one, when it is a group."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    leaves = [cause_of(inner) for inner in exc.exceptions]
    known = [leaf for leaf in leaves if explain(leaf).known]
    return (known or leaves)[0]


def explain(exc: BaseException) -> Failure:
    """The line and the status for an error that ended a command."""
    exc = cause_of(exc)
    if isinstance(exc, KeyboardInterrupt):
        return Failure("interrupted", INTERRUPTED)
    if isinstance(exc, CommandFailed):
        return Failure(_line(exc), exc.status)
    if isinstance(exc, (ConfigError, RegistryMisconfigured)):
        return Failure(_line(exc), USAGE)
    if isinstance(exc, RegistryError):
        return Failure(_with_remedy(exc), USAGE)
    if isinstance(exc, RoostError):
        return Failure(_with_remedy(exc), FAILED)
    if isinstance(exc, OSError) and exc.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        return Failure(
            f"{_line(exc)}: set GRPC_PORT and GRPC_BIND to an address that is free", USAGE
        )
    return Failure(f"internal error: {type(exc).__name__}: {_line(exc)}", FAILED, known=False)


def _with_remedy(exc: Exception) -> str:
    if isinstance(exc, ActorError):
        return f"the actor raised {_line(exc)}"
    remedy = next((text for cls, text in _REMEDIES.items() if isinstance(exc, cls)), "")
    return f"{_line(exc)} ({remedy})" if remedy else _line(exc)


def _line(exc: BaseException) -> str:
    """The error's words on one line."""
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return " ".join(text.split()) or type(exc).__name__
