"""ActorId: the name of an actor, checked once, here. A decision module: pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from wire.errors import InvalidArgument

KIND_BYTES_MAX = 128
KEY_BYTES_MAX = 512

_KIND = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ActorId(NamedTuple):
    """(kind, key), printed ``Kind/key``. Build it with :func:`actor_id`, which checks it."""

    kind: str
    key: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"


def actor_id(kind: str, key: str) -> ActorId:
    """The checked id of the actor ``key`` of ``kind``.

    Raises InvalidArgument that names the offender: an illegal kind, or a key that is empty,
    over 512 bytes of UTF-8, or holds control characters or lone surrogates.
    """
    if not isinstance(kind, str) or len(kind) > KIND_BYTES_MAX or not _KIND.fullmatch(kind):
        raise InvalidArgument(
            f"kind {_show(kind)} is not a name of letters, digits, '_', '.', '-' "
            f"(at most {KIND_BYTES_MAX})"
        )
    if not isinstance(key, str) or not key:
        raise InvalidArgument(f"key {_show(key)} of kind {kind!r} must be a non-empty string")
    if _CONTROL.search(key):
        raise InvalidArgument(f"key {_show(key)} of kind {kind!r} holds control characters")
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"key {_show(key)} of kind {kind!r} is not valid Unicode") from None
    if size_bytes > KEY_BYTES_MAX:
        raise InvalidArgument(
            f"key {_show(key)} of kind {kind!r} has {size_bytes} bytes; at most {KEY_BYTES_MAX}"
        )
    return ActorId(kind, key)


def parse_actor_id(text: str) -> ActorId:
    """The id printed as ``Kind/key``; the key may itself hold slashes."""
    kind, slash, key = text.partition("/")
    if not slash:
        raise InvalidArgument(f"actor {_show(text)} is not of the form Kind/key")
    return actor_id(kind, key)


def _show(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
