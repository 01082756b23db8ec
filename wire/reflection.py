"""Server reflection over the generated code's descriptors (v1 and v1alpha). An adapter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from grpclib.health.v1 import health_pb2
from grpclib.reflection.service import ServerReflection
from grpclib.reflection.v1 import reflection_pb2
from grpclib.reflection.v1alpha import reflection_pb2 as reflection_alpha_pb2

from wire._generated.google_proto_descriptor_pool import default_google_proto_descriptor_pool


def with_reflection(services: Collection[Any]) -> list[Any]:
    """``services`` and the two reflection services, which list them all and themselves.

    The modules of the services' generated messages must have been imported.
    """
    pool = default_google_proto_descriptor_pool
    # Their files are in google's default pool; ours is another, or names would clash there.
    for module in (health_pb2, reflection_pb2, reflection_alpha_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    listed = ServerReflection.extend(services, pool=pool)
    return [*services, *ServerReflection.extend(listed, pool=pool)[-2:]]
