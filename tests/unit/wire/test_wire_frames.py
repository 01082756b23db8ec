"""The quick codec of Frame writes what protobuf and betterproto2 write, and reads all they do."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from wire._generated.roost.v1 import Frame as CompiledFrame
from wire.errors import ProtocolError
from wire.frames import PREFIX, Frame, decode_frame, encode_frame, encode_message


def _google_frame() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="test_frame.proto", package="test_frame", syntax="proto3"
    )
    field = file.message_type.add(name="Frame").field.add(name="batch", number=1)
    field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test_frame.Frame"))


GoogleFrame = _google_frame()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_a_frame_is_written_as_protobuf_and_betterproto_write_it(size: int) -> None:
    batch = b"\x0a" * size
    data = Frame(batch).SerializeToString()
    assert data == GoogleFrame(batch=batch).SerializeToString()
    assert data == bytes(CompiledFrame(batch=batch))
    assert Frame.FromString(data).batch == batch
    assert encode_message(batch) == PREFIX.pack(0, len(data)) + data


@given(st.binary())
@example(b"")
def test_what_is_written_is_read_back(batch: bytes) -> None:
    assert decode_frame(encode_frame(batch)) == batch


@given(st.binary(max_size=40))
@example(b"\x0a\x01a\x0a\x01b")  # the last one wins
@example(b"\x12\x01a\x0a\x01b\x18\x07\x25abcd\x29abcdefgh")  # unknown fields around it
@example(b"\x1b\x08\x01\x1c\x0a\x01b")  # an unknown group
@example(b"\x1b\x08\x01\x24")  # a group that another one ends
@example(b"\x0a\x05abc")  # cut off
@example(b"\x08\x07")  # field 1 with another wire type
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x00\x00")  # field 0
@example(b"\x0f")  # wire type 7
def test_any_bytes_are_read_or_refused_as_protobuf_does(data: bytes) -> None:
    try:
        expected = GoogleFrame.FromString(data).batch
    except DecodeError:
        with pytest.raises(ProtocolError):
            decode_frame(data)
    else:
        assert decode_frame(data) == expected


def test_groups_nested_beyond_reason_are_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_frame(b"\x1b" * 10_000)
