"""The sorted table that TensorFlow keeps checkpoints in: LevelDB's table format, every block checksummed.

Format: leveldb ``doc/table_format.md``; TensorFlow ``lib/io/table_builder.cc``, ``format.cc``. A table is a row of
blocks, an index block of (last key, where) of each, and a footer. A block is a row of entries (bytes shared with the
key before, key, value), the restart points, a byte that tells the compression, and a masked CRC-32C.

Readers raise `ValueError` for anything damaged; callers turn it into the error that names their file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from zoo.wire.protobuf import read_varint, varint
from zoo.wire.signatures import TABLE_END
from zoo.wire.snappy import unpacked

_FOOTER = 48
_TRAILER = struct.Struct("<BI")
_UINT32 = struct.Struct("<I")
# table_options.h: a block is closed once it holds this many bytes, and writes a key out in full every 16 entries.
_BLOCK_BYTES = 262144
_RESTART_EVERY = 16
# Prefix compression lets a small file declare endless keys; no real one comes near this many bytes of them.
_MAX_KEY_BYTES = 1 << 25


def crc32c(data: memoryview | bytes | NDArray[Any], start: int = 0) -> int:
    """The CRC-32C of `data`, continued from `start`."""
    flat = data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    return google_crc32c.extend(start, cast(bytes, flat)) if flat.size else start


def masked(crc: int) -> int:
    """A checksum as it is stored, so that the checksum of data that holds checksums is a good one (crc32c.h)."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFF_FFFF


def is_table(data: memoryview) -> bool:
    """Whether a file ends as a table does."""
    return len(data) >= _FOOTER and bytes(data[-len(TABLE_END) :]) == TABLE_END


def read_table(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys, strictly rising, and values (views) of a table.

    Raises:
        ValueError: it is no table, cut short or damaged.
    """
    if not is_table(data):
        raise ValueError("it does not end as a checkpoint does: cut short, or another kind of file")
    end = len(data) - _FOOTER
    footer = data[end:]
    _, _, position = _handle(footer, 0)
    start, size, _ = _handle(footer, position)
    previous, position, key_bytes = None, 0, 0
    for _, where in _entries(_block(data, start, size, end)):
        start, size, _ = _handle(where, 0)
        if start < position:
            raise ValueError(f"the block at byte {start} overlaps the one before")
        for key, value in _entries(_block(data, start, size, end)):
            if previous is not None and key <= previous:
                raise ValueError(f"the key {key[:60]!r} is out of order")
            previous, key_bytes = key, key_bytes + len(key)
            if key_bytes > _MAX_KEY_BYTES:
                raise ValueError("it declares more names than a checkpoint can have")
            yield key, value
        position = start + size + _TRAILER.size


def _handle(view: memoryview, position: int) -> tuple[int, int, int]:
    start, position = read_varint(view, position)
    size, position = read_varint(view, position)
    return start, size, position


def _block(data: memoryview, start: int, size: int, end: int) -> memoryview:
    if start + size + _TRAILER.size > end:
        raise ValueError(f"a block of {size} bytes at byte {start} does not fit into the file")
    kind, stored = _TRAILER.unpack_from(data, start + size)
    if masked(crc32c(data[start : start + size + 1])) != stored:
        raise ValueError(f"the checksum of the block at byte {start} differs: the file is damaged")
    if kind > 1:
        raise ValueError(f"the block at byte {start} is packed in the unknown way {kind}")
    block = data[start : start + size]
    return memoryview(unpacked(block)) if kind else block


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    if len(block) < _UINT32.size:
        raise ValueError("a block is too short")
    (restarts,) = _UINT32.unpack_from(block, len(block) - _UINT32.size)
    end = len(block) - _UINT32.size * (restarts + 1)
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes declares {restarts} restart points")
    body, position, key = block[:end], 0, b""
    while position < end:
        shared, position = read_varint(body, position)
        added, position = read_varint(body, position)
        size, position = read_varint(body, position)
        if shared > len(key) or added + size > end - position:
            raise ValueError("a block holds an entry that is longer than the block")
        key = key[:shared] + bytes(body[position : position + added])
        if len(key) > _MAX_KEY_BYTES:
            raise ValueError("it declares a name longer than a checkpoint can have")
        yield key, body[position + added : position + added + size]
        position += added + size


def write_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of `items`, whose keys rise strictly; the bytes that TensorFlow itself would write."""
    written, index, block, last = bytearray(), list[tuple[bytes, bytes]](), _Block(), b""
    for key, value in items:
        if block.size >= _BLOCK_BYTES:
            index.append((_separator(last, key), _append(written, block)))
            block = _Block()
        block.add(key, value)
        last = key
    if block.size:
        index.append((_successor(last), _append(written, block)))
    meta_handle = _append(written, _Block())
    index_block = _Block(restart_every=1)
    for key, value in index:
        index_block.add(key, value)
    footer = meta_handle + _append(written, index_block)
    return bytes(written + footer.ljust(_FOOTER - len(TABLE_END), b"\0") + TABLE_END)


class _Block:
    def __init__(self, restart_every: int = _RESTART_EVERY) -> None:
        self._bytes, self._restarts, self._every = bytearray(), [0], restart_every
        self._count, self._last = 0, b""

    @property
    def size(self) -> int:
        """The bytes it takes, without its trailer; 0 while it is empty."""
        return len(self._bytes) and len(self._bytes) + _UINT32.size * (len(self._restarts) + 1)

    def add(self, key: bytes, value: bytes) -> None:
        if self._count == self._every:
            self._restarts.append(len(self._bytes))
            self._count, self._last = 0, b""
        shared = _common_prefix(self._last, key)
        self._bytes += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        self._count, self._last = self._count + 1, key

    def finish(self) -> bytes:
        """The block without its trailer."""
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._bytes) + b"".join(map(_UINT32.pack, numbers))


def _append(written: bytearray, block: _Block) -> bytes:
    content = block.finish()
    handle = varint(len(written)) + varint(len(content))
    written += content + _TRAILER.pack(0, masked(crc32c(content + b"\0")))
    return handle


def _common_prefix(a: bytes, b: bytes) -> int:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


def _separator(last: bytes, following: bytes) -> bytes:
    """The shortest key from `last` on and before `following` (leveldb ``util/comparator.cc``)."""
    i = _common_prefix(last, following)
    if i < min(len(last), len(following)) and last[i] < 0xFF and last[i] + 1 < following[i]:
        return last[:i] + bytes([last[i] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """The shortest key from `last` on."""
    for i, byte in enumerate(last):
        if byte != 0xFF:
            return last[:i] + bytes([byte + 1])
    return last
