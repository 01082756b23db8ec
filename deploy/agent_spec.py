"""What CreateAgent was asked, checked field by field. A decision module: pure.

Whatever is wrong is an InvalidArgument whose message begins with the field at fault.
"""

from __future__ import annotations

import zlib
from typing import Any
from urllib.parse import quote

import msgspec

from wire.agent_host import AgentRequest
from wire.errors import InvalidArgument

#: Largest JSON of each field. Larger ones are mistakes: every move carries them along.
FIELD_BYTES_MAX = 1 << 20
#: All fields together, compressed: what the registry keeps of a durable actor.
PACKED_BYTES_MAX = 60_000
ID_CHARS_MAX = 200


class AgentSpec(msgspec.Struct, frozen=True, array_like=True):
    """One agent to run. The JSON fields are kept as they came."""

    agent_id: str
    guild_id: str
    name: str
    class_name: str
    agent_spec: bytes
    guild_spec: bytes
    messaging_config: bytes
    machine_id: int
    client_type: str
    client_properties: bytes

    @property
    def arguments(self) -> list[Any] | dict[str, Any]:
        """The agent's properties: what a kind's ``on_spawn`` gets."""
        found = msgspec.json.decode(self.agent_spec).get("properties") or {}
        assert isinstance(found, (list, dict))
        return found


def parse(request: AgentRequest) -> AgentSpec:
    """The checked spec; raises InvalidArgument naming the field."""
    agent = _object("agent_spec", request.agent_spec)
    guild = _object("guild_spec", request.guild_spec)
    _object("messaging_config", request.messaging_config, may_be_empty=True)
    _object("client_properties", request.client_properties, may_be_empty=True)
    class_name = _text("agent_spec.class_name", agent.get("class_name"))
    if not isinstance(agent.get("properties") or {}, (list, dict)):
        raise InvalidArgument("agent_spec.properties is neither an object nor an array")
    agent_id = _text("agent_spec.id", agent.get("id"))
    return AgentSpec(
        agent_id, _text("guild_spec.id", guild.get("id")), str(agent.get("name") or agent_id),
        class_name, request.agent_spec, request.guild_spec, request.messaging_config,
        request.machine_id, request.client_type, request.client_properties,
    )  # fmt: skip


def _object(field: str, data: bytes, *, may_be_empty: bool = False) -> dict[str, Any]:
    if len(data) > FIELD_BYTES_MAX:
        raise InvalidArgument(f"{field} has {len(data)} bytes; at most {FIELD_BYTES_MAX}")
    if not data and may_be_empty:
        return {}
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidArgument(f"{field} is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidArgument(f"{field} is JSON, but no object")
    return found


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgument(f"{field} is missing or empty: it must be a non-empty string")
    return checked_id(field, value)


def checked_id(field: str, value: str) -> str:
    """``value`` if it can name something; raises InvalidArgument."""
    if not value.strip():
        raise InvalidArgument(f"{field} is empty")
    if len(value) > ID_CHARS_MAX or not value.isprintable():
        raise InvalidArgument(
            f"{field} has {len(value)} characters: at most {ID_CHARS_MAX}, all printable"
        )
    return value


def record_key(agent_id: str, guild_id: str = "") -> str:
    """The key of an agent's record: agents of Rustic AI are named within their guild
    (``agent@guild``), those of Roost's kinds in the cluster (``agent``)."""
    key = quote(agent_id, safe=" :.-_~")
    return f"{key}@{quote(guild_id, safe=' :.-_~')}" if guild_id else key


def pack(spec: AgentSpec) -> bytes:
    """The spec as it is kept; raises InvalidArgument naming its largest field if it is too big."""
    data = zlib.compress(msgspec.msgpack.encode(spec))
    if len(data) > PACKED_BYTES_MAX:
        fields = ("agent_spec", "guild_spec", "messaging_config", "client_properties")
        largest = max(fields, key=lambda name: len(getattr(spec, name)))
        raise InvalidArgument(
            f"{largest} is too large: all fields have {len(data)} bytes when compressed; "
            f"at most {PACKED_BYTES_MAX}"
        )
    return data


def unpack(data: bytes) -> AgentSpec:
    """What :func:`pack` made."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=AgentSpec)
