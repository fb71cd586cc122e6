"""safetensors files: a JSON header, then the numbers (github.com/huggingface/safetensors, "Format").

Read and written here rather than through the library, so that tensors are views of the file and never copied, equal
tensors give equal bytes, and a damaged header is refused in one line before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from zoo.arrays import BFLOAT16, Array
from zoo.layers import Shape
from zoo.wire.arrayfile import write_numbers

_METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")
# The library refuses longer headers, too.
_MAX_HEADER = 100_000_000
# The library pads the header to this, so that the numbers are aligned.
_ALIGNMENT = 8
_MAX_RANK = 32
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins so is one."""
    is_object = head[_LENGTH.size : _LENGTH.size + 1] == b"{"
    return is_object and _LENGTH.unpack_from(head)[0] <= size - _LENGTH.size


def read_safetensors(data: memoryview) -> tuple[dict[str, Array], dict[str, str]]:
    """Every tensor of a file, as a view of it, and the metadata.

    Raises:
        ValueError: it is cut short or damaged, or holds numbers of a type NumPy does not have.
        RecursionError: the header is nested without end.
    """
    header, start = _header(data)
    metadata = _texts(header.pop(_METADATA, {}))
    return _tensors(header, data[start:]), metadata


def read_metadata(data: memoryview) -> dict[str, str]:
    """The metadata alone; raises as `read_safetensors`."""
    return _texts(_header(data)[0].get(_METADATA, {}))


def _header(data: memoryview) -> tuple[dict[str, Any], int]:
    if len(data) < _LENGTH.size:
        raise ValueError(f"{len(data)} bytes are too few for a header")
    length = cast(int, _LENGTH.unpack_from(data)[0])
    start = _LENGTH.size + length
    if start > len(data) or length > _MAX_HEADER:
        raise ValueError(f"it declares a header of {length:,} bytes, the file has {len(data):,}")
    header = json.loads(data[_LENGTH.size : start].tobytes(), object_pairs_hook=_without_duplicates)
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return cast("dict[str, Any]", header), start


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in the header")
    return found


def _tensors(header: Mapping[str, Any], data: memoryview) -> dict[str, Array]:
    tensors, spans = dict[str, Array](), list[tuple[int, int]]()
    for name, entry in header.items():
        kind, shape, (begin, end) = _entry(name, entry)
        dtype = np.dtype(_TYPES[kind])
        if end > len(data):
            raise ValueError(f"{name} ends at byte {end:,} of {len(data):,}: the file was cut short")
        if prod(shape) * dtype.itemsize != end - begin:
            raise ValueError(f"{name} is {kind} of shape {shape}, which does not fill {end - begin:,} bytes")
        tensors[name] = np.frombuffer(data[begin:end], dtype).reshape(shape)
        spans.append((begin, end))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ValueError(f"tensors overlap or leave a gap at byte {position:,} of the data")
        position = end
    if position != len(data):
        raise ValueError(f"{len(data) - position:,} bytes at the end belong to no tensor")
    return tensors


def _entry(name: str, entry: object) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict):
        raise ValueError(f"the header's entry for {name} is no object")
    fields = cast("dict[str, Any]", entry)
    kind, shape, offsets = str(fields.get("dtype")), _sizes(fields.get("shape")), _sizes(fields.get("data_offsets"))
    if kind not in _TYPES:
        raise ValueError(f"{name} is {kind}, expected F32; convert it where it was made")
    if shape is None or len(shape) > _MAX_RANK or 0 in shape:
        raise ValueError(f"{name} has the impossible shape {str(fields.get('shape'))[:60]}")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name} has impossible offsets {str(fields.get('data_offsets'))[:60]}")
    return kind, shape, (offsets[0], offsets[1])


def _sizes(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return tuple(cast("list[int]", items)) if all(type(item) is int and item >= 0 for item in items) else None


def _texts(metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise ValueError("the metadata is no object")
    for name, text in cast("dict[str, object]", metadata).items():
        if not isinstance(text, str):
            raise ValueError(f"the metadata's {name} is no text")
    return cast("dict[str, str]", metadata)


def write_safetensors(
    path: Path,
    shapes: Mapping[str, Shape],
    numbers: Callable[[str], Array],
    metadata: Mapping[str, str],
    types: Mapping[str, np.dtype[Any]] | None = None,
) -> None:
    """Write tensors in the order of `shapes`.

    Args:
        path: the file.
        shapes: tensor -> its shape.
        numbers: gives the numbers of a tensor, in its order, in an array of any strides and axes.
        metadata: texts by their names.
        types: tensor -> its type, where that is not float32.
    """
    header, position = dict[str, Any]({_METADATA: dict(metadata)}), 0
    for name, shape in shapes.items():
        dtype = (types or {}).get(name, np.dtype(_TYPES["F32"]))
        end = position + dtype.itemsize * prod(shape)
        kind = next(kind for kind, of_kind in _TYPES.items() if np.dtype(of_kind) == dtype)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (position, end)}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(_LENGTH.pack(len(text)) + text)
        write_numbers(file, map(numbers, shapes))
