"""safetensors: the canonical file. A JSON header, then the numbers (github.com/huggingface/safetensors, "Format").

Written and read here rather than through the library, so that tensors are views of the file and never copied, equal
weights give equal bytes, and a damaged header is refused in one line before anything is allocated.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from converters.formats import NativeFile
from converters.tensormap import Entry
from converters.torchvision_names import is_count, state_entries
from converters.weights import Array, Weights
from zoo.arrays import BFLOAT16
from zoo.errors import FileFormatError, ZooError
from zoo.layers import ModelSpec
from zoo.shapes import parameter_shapes, parameter_table
from zoo.spec_json import METADATA_KEY, dumps, loads
from zoo.wire.arrayfile import write_numbers
from zoo.wire.mapped import mapped

SUFFIXES = (".safetensors",)

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


def read(path: Path) -> NativeFile:
    """Every tensor as a view of the memory-mapped file, and the network the metadata describes, if it does.

    Raises:
        FileFormatError: the file is missing, cut short or damaged, or holds numbers of a type NumPy does not have.
    """
    data = mapped(path)
    try:
        header, start = _header(data)
        metadata = header.pop(_METADATA, {})
        tensors = _tensors(header, data[start:])
        return NativeFile(tensors=tensors, spec=_spec(metadata))
    except (ValueError, RecursionError, ZooError) as error:
        raise FileFormatError(path, f"no sound safetensors file: {error}") from error


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


def _spec(metadata: object) -> ModelSpec | None:
    if not isinstance(metadata, dict):
        raise ValueError("the metadata is no object")
    text = cast("dict[str, object]", metadata).get(METADATA_KEY)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"the metadata's {METADATA_KEY} is no text")
    return loads(text)


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """Canonical names as they are; somebody's state dict (torchvision's, say) through PyTorch's table."""
    table = parameter_table(spec)
    if tensors is None or all(name in tensors for name in table):
        return [Entry(canonical=name, native=name) for name in table]
    own = {name: f"{name.removesuffix(row.role)}{row.torch}" for name, row in table.items()}
    return state_entries(spec, own, tensors)


def ignored(name: str) -> bool:
    """A counter that PyTorch keeps among the weights."""
    return is_count(name)


def write(path: Path, weights: Weights) -> None:
    """Write the canonical tensors in the network's order, and the network itself into the metadata."""
    metadata = {METADATA_KEY: dumps(weights.spec), "format": "pt", "model": weights.spec.name}
    header, position = dict[str, Any]({_METADATA: metadata}), 0
    shapes = parameter_shapes(weights.spec)
    for name, shape in shapes.items():
        end = position + weights.numbers(name).nbytes
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (position, end)}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(_LENGTH.pack(len(text)) + text)
        write_numbers(file, map(weights.numbers, shapes))


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
