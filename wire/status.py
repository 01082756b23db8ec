"""Errors to gRPC statuses and back, in one place. A decision module: pure.

A status alone does not say which error it was, so the trailers do: ``roost-error`` is the code,
``roost-message-bin`` the message where it was too long for ``grpc-message``, ``roost-details-bin``
the details as a JSON object. All are bounded: peers refuse trailers over 8 KiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from grpclib.const import Status

from wire.errors import (
    ActorError,
    ActorFailed,
    AlreadyExists,
    CallCycle,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    MailboxFull,
    NoCapacity,
    NotDelivered,
    NotFound,
    OutcomeUnknown,
    ProtocolError,
    RoostError,
    Unauthenticated,
    Unavailable,
    UnknownKind,
    error_from_code,
)

ERROR_KEY = "roost-error"
MESSAGE_KEY = "roost-message-bin"
DETAILS_KEY = "roost-details-bin"

STATUS_MESSAGE_BYTES_MAX = 400
MESSAGE_BYTES_MAX = 1200
DETAILS_BYTES_MAX = 2400

STATUS: dict[type[RoostError], Status] = {
    RoostError: Status.INTERNAL,
    NotDelivered: Status.UNAVAILABLE,
    OutcomeUnknown: Status.UNKNOWN,
    ActorError: Status.ABORTED,
    DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    MailboxFull: Status.RESOURCE_EXHAUSTED,
    NoCapacity: Status.RESOURCE_EXHAUSTED,
    InvalidArgument: Status.INVALID_ARGUMENT,
    # Not UNIMPLEMENTED, which a client may take for "this server has no such service".
    UnknownKind: Status.NOT_FOUND,
    AlreadyExists: Status.ALREADY_EXISTS,
    NotFound: Status.NOT_FOUND,
    CallCycle: Status.FAILED_PRECONDITION,
    ActorFailed: Status.FAILED_PRECONDITION,
    Unauthenticated: Status.UNAUTHENTICATED,
    Unavailable: Status.UNAVAILABLE,
    ProtocolError: Status.INTERNAL,
    ConfigError: Status.FAILED_PRECONDITION,
}

#: What a status without our trailers means: it comes from a proxy or from gRPC itself, so a
#: call that it ended counts as maybe run unless the status excludes that.
_FOREIGN: dict[Status, type[RoostError]] = {
    Status.INVALID_ARGUMENT: InvalidArgument,
    Status.NOT_FOUND: UnknownKind,
    Status.DEADLINE_EXCEEDED: DeadlineExceeded,
    Status.RESOURCE_EXHAUSTED: InvalidArgument,  # gRPC's own meaning: the message is too large
    Status.UNAUTHENTICATED: Unauthenticated,
    Status.PERMISSION_DENIED: Unauthenticated,
    Status.UNIMPLEMENTED: ProtocolError,
    Status.INTERNAL: RoostError,
}


class Trailers(NamedTuple):
    """What ends a failed call."""

    status: Status
    message: str
    metadata: dict[str, str | bytes]


def trailers(error: RoostError) -> Trailers:
    """How ``error`` travels."""
    full = error.message or str(error)
    metadata: dict[str, str | bytes] = {ERROR_KEY: error.code}
    short = _cut(full, STATUS_MESSAGE_BYTES_MAX)
    if short != full:
        metadata[MESSAGE_KEY] = _cut(full, MESSAGE_BYTES_MAX).encode()
    if error.details:
        metadata[DETAILS_KEY] = _details(error.details)
    status = STATUS.get(type(error), Status.INTERNAL)
    return Trailers(status, short, metadata)


def error_from(status: Status, message: str | None, metadata: Mapping[str, Any]) -> RoostError:
    """The error that a call ended in, from its status and trailers."""
    code = metadata.get(ERROR_KEY)
    if code is None:
        return _FOREIGN.get(status, OutcomeUnknown)(f"{status.name}: {message or 'no message'}")
    whole = metadata.get(MESSAGE_KEY)
    text = whole.decode("utf-8", "replace") if isinstance(whole, bytes) else message or ""
    return error_from_code(str(code), text, _read_details(metadata.get(DETAILS_KEY)))


def _details(details: Mapping[str, str]) -> bytes:
    """As JSON within the bound: of what is too long the end is kept, where tracebacks say most."""
    room = DETAILS_BYTES_MAX
    kept: dict[str, str] = {}
    for key, value in sorted(details.items(), key=lambda item: len(item[1])):
        overhead = len(msgspec.json.encode(key)) + 4
        value = _clean(value)
        while overhead + len(msgspec.json.encode(value)) > room and value:
            value = value[len(value) - len(value) * 3 // 4 :]
        if overhead + 2 > room:
            break
        kept[key] = value
        room -= overhead + len(msgspec.json.encode(value))
    return msgspec.json.encode(kept)


def _read_details(data: object) -> dict[str, str]:
    if not isinstance(data, bytes):
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except msgspec.MsgspecError:
        return {}


def _clean(text: str) -> str:
    """``text`` without lone surrogates, which no UTF-8 can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, bytes_max: int) -> str:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= bytes_max:
        return data.decode()
    return data[: bytes_max - 3].decode("utf-8", "ignore") + "..."
