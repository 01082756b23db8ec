"""The messages of asks and tells, as classes of protobuf's C code.

The same messages and descriptors as in wire._generated, but betterproto2 takes some 30 us to read
an AskRequest and these 1 us. grpclib's codec takes either.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

from wire._generated.google_proto_descriptor_pool import default_google_proto_descriptor_pool
from wire._generated.roost import v1


def _hot(message: type[Any]) -> Any:
    pool = default_google_proto_descriptor_pool
    return GetMessageClass(pool.FindMessageTypeByName(f"roost.v1.{message.__name__}"))


AskRequest = _hot(v1.AskRequest)
AskReply = _hot(v1.AskReply)
TellRequest = _hot(v1.TellRequest)
TellReply = _hot(v1.TellReply)
