"""The wire walker against Google's protobuf and against damaged bytes."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from zoo.wire.protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    fields,
    integer,
    message,
    read_varint,
    signed,
    tag,
    text,
    varint,
    varints,
)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varint_round_trip(value: int) -> None:
    encoded = varint(value)
    unsigned, end = read_varint(memoryview(encoded), 0)
    assert (signed(unsigned), end) == (value, len(encoded))


def test_reads_what_protobuf_wrote() -> None:
    proto = descriptor_pb2.FileDescriptorProto(name="a.proto", package="p", public_dependency=[1, 300])
    proto.message_type.add(name="M").field.add(name="f", number=7)
    seen = list(fields(proto.SerializeToString()))
    assert [(number, kind) for number, kind, _ in seen] == [(1, BYTES), (2, BYTES), (4, BYTES), (10, 0), (10, 0)]
    assert bytes(seen[0][2]) == b"a.proto"  # pyright: ignore[reportArgumentType]
    assert [n for number, _, value in seen if number == 10 for n in varints(value)] == [1, 300]


def test_protobuf_reads_what_we_wrote() -> None:
    inner = text(1, "M") + message(2, text(1, "f") + integer(3, 300))
    proto = descriptor_pb2.FileDescriptorProto.FromString(text(1, "å.proto") + message(4, inner) + integer(10, -1))
    assert proto.name == "å.proto"
    assert proto.message_type[0].field[0].number == 300
    assert list(proto.public_dependency) == [-1]


def test_packed_and_fixed() -> None:
    assert varints(memoryview(varint(5) + varint(1 << 40))) == [5, 1 << 40]
    ((number, kind, value),) = fields(tag(2, FIXED32) + b"\x00\x00\x80\x3f")
    assert (number, kind) == (2, FIXED32)
    assert not isinstance(value, int)
    assert value.cast("f")[0] == 1.0


def test_a_group_is_passed_over_with_what_is_in_it() -> None:
    inner = integer(5, 7) + tag(2, 3) + text(1, "x") + tag(2, 4)
    found = list(fields(tag(9, 3) + inner + tag(9, 4) + integer(3, 1)))
    assert [number for number, _, _ in found] == [9, 3]
    assert bytes(found[0][2]) == inner  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "damaged",
    [
        b"\x80",  # a number that never ends
        b"\x80" * 11,
        tag(1, VARINT),  # no value
        tag(1, BYTES) + varint(4) + b"abc",
        tag(1, BYTES) + varint(1 << 62),  # a declared size that no file has
        tag(1, FIXED32) + b"abc",
        tag(1, 3),  # a group that never ends
        tag(1, 3) + tag(2, 4),  # ... or ends as another
        tag(1, 3) * 200 + tag(1, 4) * 200,
        tag(1, 4),
        b"\x00\x00",  # field number 0
    ],
)
def test_damaged_bytes_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|no protobuf"):
        list(fields(damaged))


@given(st.binary(max_size=60))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        for _, _, value in fields(data):
            assert isinstance(value, int) or len(value) <= len(data)
    except ValueError as error:
        assert "cut short" in str(error) or "no protobuf" in str(error)
