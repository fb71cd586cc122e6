"""Writing the protobuf wire format, without protobuf. Encoding: protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5


def varint(value: int) -> bytes:
    """`value` as a varint; negative ones as 64-bit two's complement."""
    rest, encoded = value & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def tag(number: int, wire_type: int) -> bytes:
    """The key that precedes a field."""
    return varint(number << 3 | wire_type)


def message(number: int, payload: bytes) -> bytes:
    """A length-delimited field: a sub-message, a string or packed numbers."""
    return tag(number, BYTES) + varint(len(payload)) + payload


def integer(number: int, value: int) -> bytes:
    """A varint field: int, enum or bool."""
    return tag(number, VARINT) + varint(value)


def text(number: int, value: str) -> bytes:
    """A string field."""
    return message(number, value.encode())
