"""Every error that a call can end in: whose fault it is, and whether the call ran.

One root, :class:`RoostError`, and a leaf for each answer to "what may I do now?". Each leaf
carries a stable ``code``, which is what travels between processes. A decision module: pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class RoostError(Exception):
    """Root of all errors that Roost raises on purpose."""

    code: ClassVar[str] = "internal"
    #: True: the call ran or may have run. False: it certainly did not.
    may_have_run: ClassVar[bool] = True

    def __init__(self, message: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, str] = dict(details or {})

    def __str__(self) -> str:
        return self.message or type(self).__name__


class NotDelivered(RoostError):
    """The call never reached the actor; a retry is safe."""

    code = "not_delivered"
    may_have_run = False


class OutcomeUnknown(RoostError):
    """The call may or may not have run: its host was lost before it answered."""

    code = "outcome_unknown"


class ActorError(RoostError):
    """The handler itself raised. ``type_name``, ``message`` and ``remote_traceback`` tell what.

    Printed with its traceback, it shows that of the handler too.
    """

    code = "actor_error"

    def __init__(self, message: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__(message, details)
        if self.remote_traceback:
            self.add_note(f"\nraised in the actor:\n{self.remote_traceback.rstrip()}")

    @property
    def type_name(self) -> str:
        return self.details.get("type", "")

    @property
    def remote_traceback(self) -> str:
        return self.details.get("traceback", "")

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.type_name else self.message


class DeadlineExceeded(RoostError):
    """No answer within the call's deadline; a handler that ran was cancelled."""

    code = "deadline_exceeded"


class MailboxFull(RoostError):
    """The actor's bounded mailbox had no room (``tell_nowait``, or an ask past its deadline)."""

    code = "mailbox_full"
    may_have_run = False


class NoCapacity(RoostError):
    """Every host that may run the actor is full."""

    code = "no_capacity"
    may_have_run = False


class InvalidArgument(RoostError):
    """The caller's mistake: a bad key, a wrong argument, a payload over the limit."""

    code = "invalid_argument"
    may_have_run = False


class UnknownKind(RoostError):
    """No host of this cluster knows that kind, or the kind has no such handler."""

    code = "unknown_kind"
    may_have_run = False


class AlreadyExists(RoostError):
    """What was to be made is there already."""

    code = "already_exists"
    may_have_run = False


class NotFound(RoostError):
    """What the call is about is not there."""

    code = "not_found"
    may_have_run = False


class CallCycle(RoostError):
    """The call would wait for an actor that waits for this very call (A asks B asks A)."""

    code = "call_cycle"
    may_have_run = False


class ActorFailed(RoostError):
    """The actor is stopped as failed (it could not activate, or exceeded its restart limit)."""

    code = "actor_failed"
    may_have_run = False


class Unauthenticated(RoostError):
    """The caller's token or certificate was refused."""

    code = "unauthenticated"
    may_have_run = False


class Unavailable(RoostError):
    """A part that Roost needs (Redis, the cluster, this host itself) cannot serve now."""

    code = "unavailable"
    may_have_run = False


class ProtocolError(RoostError):
    """The other side broke the protocol: a malformed frame, a wrong version, a wrong cluster."""

    code = "protocol_error"
    may_have_run = False


class ConfigError(RoostError):
    """A setting is wrong; the message names it and the remedy."""

    code = "config"
    may_have_run = False


ERRORS: dict[str, type[RoostError]] = {
    cls.code: cls
    for cls in (
        NotDelivered, OutcomeUnknown, ActorError, DeadlineExceeded, MailboxFull, NoCapacity,
        InvalidArgument, UnknownKind, AlreadyExists, NotFound, CallCycle, ActorFailed,
        Unauthenticated, Unavailable, ProtocolError, ConfigError,
    )
}  # fmt: skip


def error_from_code(
    code: str, message: str, details: Mapping[str, str] | None = None
) -> RoostError:
    """The error that travelled as ``code``; an unknown code becomes a plain RoostError."""
    return ERRORS.get(code, RoostError)(message, details)
