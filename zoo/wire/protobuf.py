"""The protobuf wire format, read and written without protobuf. Encoding: protobuf.dev/programming-guides/encoding.

Three kinds of files here are protobuf (caffemodel, ONNX, the index of a TensorFlow checkpoint). Walking the wire form
keeps a 244 MB payload where it is, in a memory map: fields are views, nothing is copied, every length is checked.

Every reader raises `ValueError` for damaged bytes; callers turn it into the error that names their file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

Value: TypeAlias = int | memoryview
Field: TypeAlias = tuple[int, int, Value]

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5


_MAX_VARINT = 10
_FIXED = {FIXED64: 8, FIXED32: 4}
# The deprecated kind that has an end mark in place of a size; protobuf's own parser gives up at the same depth.
_GROUP, _GROUP_END, _MAX_DEPTH = 3, 4, 100


def fields(view: memoryview | bytes) -> Iterator[Field]:
    """The fields of one message, in file order, as (number, wire type, value).

    The value is an unsigned `int` for a varint, and a view into `view` otherwise: of the content (strings, messages,
    packed numbers), or of the 4 or 8 little-endian bytes of a fixed-size number.

    Raises:
        ValueError: the message is cut short, or is no protobuf.
    """
    data, position = memoryview(view), 0
    while position < len(data):
        number, wire_type, value, position = field_at(data, position)
        yield number, wire_type, value


def field_at(view: memoryview, position: int) -> tuple[int, int, Value, int]:
    """The field that starts at `position`: number, wire type, value (see `fields`), and where the next one starts."""
    key, position = read_varint(view, position)
    number, wire_type = key >> 3, key & 7
    if not 1 <= number < 1 << 29:
        raise ValueError(f"no protobuf: field number {number} at byte {position}")
    if wire_type == VARINT:
        value, position = read_varint(view, position)
        return number, wire_type, value, position
    if wire_type == _GROUP:
        end, after = _group(view, position, number)
        return number, wire_type, view[position:end], after
    if wire_type == BYTES:
        size, position = read_varint(view, position)
    elif wire_type in _FIXED:
        size = _FIXED[wire_type]
    else:
        raise ValueError(f"no protobuf: wire type {wire_type} at byte {position}")
    if size > len(view) - position:
        raise ValueError(f"cut short: field {number} declares {size} bytes, {len(view) - position} are left")
    return number, wire_type, view[position : position + size], position + size


def _group(view: memoryview, position: int, number: int) -> tuple[int, int]:
    """Where the content of a group ends, and where the next field starts."""
    is_open = [number]
    while True:
        end = position
        key, position = read_varint(view, end)
        if key & 7 == _GROUP and len(is_open) < _MAX_DEPTH:
            is_open.append(key >> 3)
        elif key & 7 == _GROUP:
            raise ValueError(f"no protobuf: groups are nested deeper than {_MAX_DEPTH}")
        elif key & 7 != _GROUP_END:
            position = field_at(view, end)[3]
        elif is_open.pop() != key >> 3:
            raise ValueError(f"no protobuf: a group ends as another field at byte {end}")
        elif not is_open:
            return end, position


def read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """The unsigned 64-bit varint at `position`, and the position after it."""
    value = 0
    for i in range(_MAX_VARINT):
        if position + i >= len(view):
            raise ValueError(f"cut short in a number at byte {position}")
        byte = view[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + i + 1
    raise ValueError(f"no protobuf: a number longer than {_MAX_VARINT} bytes at byte {position}")


def varints(number_or_list: Value) -> list[int]:
    """A repeated varint field's value, packed or not, as a list."""
    if isinstance(number_or_list, int):
        return [number_or_list]
    numbers, position = list[int](), 0
    while position < len(number_or_list):
        value, position = read_varint(number_or_list, position)
        numbers.append(value)
    return numbers


def signed(value: int) -> int:
    """A varint of a signed field (int32, int64, enum) from its unsigned reading."""
    return value - (1 << 64) if value >> 63 else value


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
