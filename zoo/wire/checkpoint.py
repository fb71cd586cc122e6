"""TensorFlow's checkpoints, format V2 (and V1, to read), without TensorFlow.

Format: TensorFlow ``core/protobuf/tensor_bundle.proto``, ``util/tensor_bundle/tensor_bundle.cc``; for V1
``util/saved_tensor_slice.proto``, ``util/tensor_slice_reader.cc``. V2 is a table ``X.index`` from names to where the
numbers lie in ``X.data-?????-of-?????``; V1 is one table that holds the numbers themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from zoo.arrays import BFLOAT16, Array
from zoo.errors import FileFormatError
from zoo.wire.arrayfile import write_numbers
from zoo.wire.checkpoint_files import index_path, shard_path
from zoo.wire.checkpoint_slices import Place, joined, place, variable_of
from zoo.wire.mapped import mapped, release
from zoo.wire.protobuf import FIXED32, Value, fields, integer, message, signed, tag
from zoo.wire.table import crc32c, masked, read_table, write_table

_UINT32 = struct.Struct("<I")
_FLOAT = 1
# types.proto. What NumPy does not have (strings, resources) is kept as bytes: it is no weight of anything.
_TYPES = {
    _FLOAT: "<f4",
    2: "<f8",
    3: "<i4",
    4: "<u1",
    5: "<i2",
    6: "<i1",
    8: "<c8",
    9: "<i8",
    10: "?",
    14: BFLOAT16,
    17: "<u2",
    18: "<c16",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_MAX_RANK = 32
# So many bytes are looked at before their pages are given back.
_PART = 1 << 25


@dataclass(frozen=True, kw_only=True)
class _BundleEntry:
    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: tuple[Place, ...] = ()


def read_v2(prefix: Path) -> dict[str, Array]:
    """Every tensor of a V2 checkpoint, as views of its memory-mapped shards; checksums are checked.

    Raises:
        FileFormatError: a file is missing, cut short or damaged.
    """
    path = index_path(prefix)
    try:
        shards, found, pieces = _index(mapped(path))
    except (ValueError, struct.error) as error:
        raise FileFormatError(path, f"no sound checkpoint index: {error}") from error
    stored = [*((name, entry) for name, entry in found.items() if not entry.slices), *pieces]
    data = {shard: _shard(prefix, shard, shards) for shard in sorted({entry.shard for _, entry in stored})}
    arrays = dict[str, list[Array]]()
    for name, entry in stored:
        arrays.setdefault(name, []).append(_checked(prefix, shards, name, entry, data[entry.shard]))
    try:
        return {
            name: joined(name, entry.shape, entry.slices, arrays.get(name, [])) if entry.slices else arrays[name][0]
            for name, entry in found.items()
        }
    except ValueError as error:
        raise FileFormatError(path, f"no sound checkpoint index: {error}") from error


def _checked(prefix: Path, shards: int, name: str, entry: _BundleEntry, data: memoryview) -> Array:
    content = data[entry.offset : entry.offset + entry.size]
    source = shard_path(prefix, entry.shard, shards)
    if len(content) != entry.size:
        raise FileFormatError(source, f"cut short: {name} needs {entry.offset + entry.size:,} bytes")
    # The checksum of strings is one of their decoded form; they are no weights.
    if entry.dtype in _TYPES and _checksum(content) != entry.crc:
        raise FileFormatError(source, f"the checksum of {name} differs: the file is damaged")
    return _array(entry, content)


def _checksum(content: memoryview) -> int:
    """As it is stored; pages are given back on the way, because another file may be held at the same time."""
    crc = 0
    for start in range(0, len(content), _PART):
        crc = crc32c(content[start : start + _PART], crc)
        release(content)
    return masked(crc)


def _index(data: memoryview) -> tuple[int, dict[str, _BundleEntry], list[tuple[str, _BundleEntry]]]:
    """How many shards there are, what the variables are, and the pieces of those that are cut, in order."""
    shards, found, pieces = 1, dict[str, _BundleEntry](), list[tuple[str, _BundleEntry]]()
    for key, value in read_table(data):
        if key == b"":
            shards = _header(value)
        elif key[0] == 0:
            name = variable_of(bytes(key))
            pieces.append((name, _entry(name, value)))
        else:
            name = key.decode()
            found[name] = _entry(name, value)
    stray = {name for name, _ in pieces} - {name for name, entry in found.items() if entry.slices}
    if stray:
        raise ValueError(f"it holds slices of variables that it does not declare: {', '.join(sorted(stray)[:5])}")
    _check_spans([*((name, entry) for name, entry in found.items() if not entry.slices), *pieces], shards)
    return shards, found, pieces


def _header(value: memoryview) -> int:
    shards = 1
    for number, _, item in fields(value):
        if number == 1 and isinstance(item, int):
            shards = item
        if number == 2 and item != 0:
            raise ValueError("it was written on a big-endian machine, which is not read")
    return shards


def _entry(name: str, value: memoryview) -> _BundleEntry:
    dtype, shape, numbers, crc, slices = 0, (), dict[int, int](), 0, list[Place]()
    for number, _, item in fields(value):
        if number == 7:
            slices.append(place(item))
        elif number == 1 and isinstance(item, int):
            dtype = item
        elif number == 2 and isinstance(item, memoryview):
            shape = _shape(name, item)
        elif number == 6 and isinstance(item, memoryview) and len(item) == _UINT32.size:
            (crc,) = _UINT32.unpack(item)
        elif isinstance(item, int):
            numbers[number] = item
    entry = _BundleEntry(
        dtype=dtype,
        shape=shape,
        shard=numbers.get(3, 0),
        offset=numbers.get(4, 0),
        size=numbers.get(5, 0),
        crc=crc,
        slices=tuple(slices),
    )
    if not slices and dtype in _TYPES and prod(shape) * np.dtype(_TYPES[dtype]).itemsize != entry.size:
        raise ValueError(f"{name} has {entry.size:,} bytes, which is not its shape {shape}")
    return entry


def _shape(name: str, value: memoryview) -> tuple[int, ...]:
    sizes = list[int]()
    for number, _, dimension in fields(value):
        if number == 2 and isinstance(dimension, memoryview):
            given = [signed(item) for number, _, item in fields(dimension) if number == 1 and isinstance(item, int)]
            sizes.append(given[-1] if given else 0)
    if len(sizes) > _MAX_RANK or min(sizes, default=0) < 0:
        raise ValueError(f"{name} has an impossible shape")
    return tuple(sizes)


def _check_spans(found: list[tuple[str, _BundleEntry]], shards: int) -> None:
    """No two tensors share bytes: a small index could otherwise make endless work of one shard."""
    position = (0, 0)
    for name, entry in sorted(found, key=lambda item: (item[1].shard, item[1].offset, item[1].size)):
        if entry.shard >= shards:
            raise ValueError(f"{name} lies in shard {entry.shard} of {shards}")
        if entry.size and (entry.shard, entry.offset) < position:
            raise ValueError(f"{name} overlaps another tensor")
        if entry.size:
            position = (entry.shard, entry.offset + entry.size)


def _shard(prefix: Path, shard: int, shards: int) -> memoryview:
    path = shard_path(prefix, shard, shards)
    if not path.is_file():
        raise FileFormatError(path, f"no such file; it holds the numbers of {index_path(prefix).name}")
    if path.resolve().parent != index_path(prefix).resolve().parent:
        raise FileFormatError(path, "leads out of the checkpoint's folder, which is not followed; copy it there")
    return mapped(path) if path.stat().st_size else memoryview(b"")


def _array(entry: _BundleEntry, content: memoryview) -> Array:
    if entry.dtype not in _TYPES:
        return np.frombuffer(content, np.uint8)
    return np.frombuffer(content, _TYPES[entry.dtype]).reshape(entry.shape)


def write_v2(prefix: Path, tensors: Mapping[str, Array]) -> None:
    """Write ``X.index`` and ``X.data-00000-of-00001``, as TensorFlow's own Saver would, byte for byte.

    Args:
        prefix: ``X``.
        tensors: name -> float32 array; transposed views are laid out block by block.
    """
    names = sorted(tensors, key=str.encode)
    with shard_path(prefix, 0, 1).open("wb") as file:
        write_numbers(file, (tensors[name] for name in names))
    items, offset, written = [(b"", integer(1, 1) + message(3, integer(1, 1)))], 0, _shard(prefix, 0, 1)
    for name in names:
        shape, size = tensors[name].shape, tensors[name].nbytes
        crc = _checksum(written[offset : offset + size])
        entry = integer(1, _FLOAT) + message(2, b"".join(message(2, integer(1, size)) for size in shape))
        entry += (integer(4, offset) if offset else b"") + (integer(5, size) if size else b"")
        items.append((name.encode(), entry + tag(6, FIXED32) + _UINT32.pack(crc)))
        offset += size
    index_path(prefix).write_bytes(write_table(items))


def read_v1(path: Path) -> dict[str, Array]:
    """Every tensor of a V1 checkpoint, as views of the memory-mapped file.

    Raises:
        FileFormatError: the file is cut short or damaged.
    """
    try:
        declared, pieces = dict[str, _BundleEntry](), dict[str, list[tuple[Place, Array]]]()
        for key, value in read_table(mapped(path)):
            for number, _, item in fields(value):
                if key == b"" and number == 1 and isinstance(item, memoryview):
                    declared = _v1_declared(item)
                elif key != b"" and number == 2 and isinstance(item, memoryview):
                    name, where, tensor = _v1_slice(item, declared)
                    pieces.setdefault(name, []).append((where, tensor))
        missing = [name for name in declared if name not in pieces]
        if missing:
            raise ValueError(f"it declares {', '.join(missing[:5])} and holds no such numbers")
        tensors = {name: _v1_whole(name, entry, pieces[name]) for name, entry in declared.items()}
    except (ValueError, struct.error) as error:
        raise FileFormatError(path, f"no sound checkpoint: {error}") from error
    return tensors


def _text(value: Value) -> str:
    if isinstance(value, int):
        raise ValueError("a number where a name belongs")
    return bytes(value).decode()


def _v1_declared(value: memoryview) -> dict[str, _BundleEntry]:
    found = dict[str, _BundleEntry]()
    for number, _, item in fields(value):
        if number != 1 or isinstance(item, int):
            continue
        name, shape, dtype, slices = "", (), 0, list[Place]()
        for inner, _, content in fields(item):
            if inner == 1:
                name = _text(content)
            elif inner == 2 and isinstance(content, memoryview):
                shape = _shape(name, content)
            elif inner == 3 and isinstance(content, int):
                dtype = content
            elif inner == 4:
                slices.append(place(content))
        found[name] = _BundleEntry(dtype=dtype, shape=shape, slices=tuple(slices))
    return found


def _v1_whole(name: str, entry: _BundleEntry, pieces: list[tuple[Place, Array]]) -> Array:
    places, arrays = [where for where, _ in pieces], [array for _, array in pieces]
    if len(arrays) == 1 and all(
        axis in ((0, None), (0, size)) for axis, size in zip(places[0], entry.shape, strict=False)
    ):
        return arrays[0]  # what is no number has no shape here
    return joined(name, entry.shape, places, arrays)


def _v1_slice(value: memoryview, declared: Mapping[str, _BundleEntry]) -> tuple[str, Place, Array]:
    name, where, tensor = "", (), None
    for number, _, item in fields(value):
        if number == 1:
            name = _text(item)
        elif number == 2:
            where = place(item)
        elif number == 3 and isinstance(item, memoryview):
            tensor = item
    if name not in declared or tensor is None:
        raise ValueError(f"numbers of {name[:60]!r}, which it does not declare")
    entry = declared[name]
    # tensor.proto: numbers as raw bytes (4), or packed float_val (5), double_val (6); the rest are no weights.
    wanted = {4, 5 if entry.dtype == _FLOAT else 6}
    found = [(number, item) for number, _, item in fields(tensor) if number >= 4 and isinstance(item, memoryview)]
    number, content = found[-1] if found else (4, memoryview(b""))
    if len(found) > 1 and entry.dtype == _FLOAT:
        raise ValueError(f"the numbers of {name} are not in one piece")
    if number not in wanted or (number != 4 and entry.dtype not in (_FLOAT, 2)):
        return name, where, np.frombuffer(content, np.uint8)
    shape = entry.shape
    if len(where) == len(shape):
        shape = tuple(size if length is None else length for (_, length), size in zip(where, shape, strict=True))
    if entry.dtype in _TYPES and (
        min(shape, default=0) < 0 or prod(shape) * np.dtype(_TYPES[entry.dtype]).itemsize != len(content)
    ):
        raise ValueError(f"{name} has {len(content):,} bytes, which is not its shape {shape}")
    return name, where, _array(replace(entry, shape=shape), content)
