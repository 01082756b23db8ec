"""Arguments and results of outside clients, as msgpack. A decision module: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wire.errors import InvalidArgument, ProtocolError
from wire.ids import actor_id, parse_actor_id
from wire.items import Content

#: The msgpack extension type of a ref; its data is the printed ActorId.
EXT_REF = 1


class ActorRef:
    """An actor as an argument or a result of a call; ``str`` gives ``Kind/key``.

    Raises InvalidArgument for an illegal kind or key. (No dataclass: msgspec writes those as maps.)
    """

    __slots__ = ("__roost_ref__",)

    def __init__(self, kind: str, key: str) -> None:
        self.__roost_ref__ = actor_id(kind, key)

    @property
    def kind(self) -> str:
        return self.__roost_ref__.kind

    @property
    def key(self) -> str:
        return self.__roost_ref__.key

    def __str__(self) -> str:
        return str(self.__roost_ref__)

    def __repr__(self) -> str:
        return f"ActorRef({self.kind!r}, {self.key!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and self.__roost_ref__ == other.__roost_ref__

    def __hash__(self) -> int:
        return hash(self.__roost_ref__)


def encode_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], payload_bytes_max: int
) -> bytes:
    """The argument list: an array by position, or a map by name; never both.

    Raises InvalidArgument for both at once, for what cannot travel, and past the limit.
    """
    if args and kwargs:
        raise InvalidArgument(
            "give arguments by position or by name, not both: the client "
            "does not know the handler's parameters"
        )
    try:
        payload = _encoder.encode(kwargs or args)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidArgument(f"arguments cannot be encoded: {exc}") from exc
    if len(payload) > payload_bytes_max:
        raise InvalidArgument(
            f"arguments of {len(payload)} bytes are over the limit of {payload_bytes_max} bytes"
        )
    return payload


def decode_result(content: Content, payload: bytes) -> Any:
    """The value in ``payload``; raises ProtocolError when there is none."""
    try:
        if content == Content.JSON:
            return msgspec.json.decode(payload)
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, InvalidArgument, ValueError, RecursionError) as exc:
        raise ProtocolError(f"malformed result of {len(payload)} bytes: {exc}") from exc


def _encode_unknown(value: object) -> object:
    name = getattr(value, "__roost_ref__", None)
    if name is None:
        raise TypeError(f"objects of type {type(value).__qualname__} cannot travel")
    return msgspec.msgpack.Ext(EXT_REF, str(name).encode())


def _decode_extension(code: int, data: memoryview) -> object:
    if code != EXT_REF:
        return msgspec.msgpack.Ext(code, bytes(data))
    return ActorRef(*parse_actor_id(str(data, "utf-8")))


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_unknown)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decode_extension)
