"""MATLAB's files of level 5 (versions 5 to 7.2), read from start to end: structs, cells, texts and arrays of numbers.

An array is a view of the file where it is not packed. Format: MathWorks, "MAT-File Level 5 File Format".
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from math import prod
from struct import unpack
from typing import Any, Protocol

import numpy as np

from zoo.arrays import Array, unread
from zoo.wire.mapped import release

_HEADER, _ORDER, _TAG = 128, 126, 8
# Kinds of elements; the numbers and texts of an array may be stored in any of these types.
_MATRIX, _PACKED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
# Classes of arrays.
_CELL, _STRUCT, _TEXT = 1, 2, 4
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800
_MAX_DEPTH, _MAX_ARRAYS = 30, 100_000
# Packed elements may not unfold to more than this beyond twice the file; they unfold piece by piece.
_UNFOLDED, _PIECE = 1 << 27, 1 << 20


class _Source(Protocol):
    at: int

    def take(self, size: int) -> memoryview: ...

    def skip(self, size: int) -> None: ...


class _Plain:
    """A part of the file as it is."""

    def __init__(self, data: memoryview) -> None:
        self._data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        content = self._data[self.at : self.at + size]
        if len(content) != size:
            raise ValueError(f"it is cut short: {size - len(content):,} bytes are missing")
        self.at += size
        return content

    def skip(self, size: int) -> None:
        self.take(size)


class _Packed:
    """A part that is packed with zlib: no more of it is unpacked than is asked for."""

    def __init__(self, data: memoryview, allowed: int) -> None:
        self._data, self._fed, self._unpacker = data, 0, zlib.decompressobj()
        self._ready, self.at, self._allowed = memoryview(b""), 0, allowed

    def take(self, size: int) -> memoryview:
        self._spend(size)
        first = self._some(size)
        if len(first) == size:
            return first
        content = bytearray(first)
        while len(content) < size:
            content += self._some(size - len(content))
        return memoryview(content)

    def skip(self, size: int) -> None:
        self._spend(size)
        while size:
            size -= len(self._some(size))

    def _spend(self, size: int) -> None:
        self.at += size
        if self.at > self._allowed:
            raise ValueError("it would unfold to far more than its size")

    def _some(self, size: int) -> memoryview:
        while not self._ready and size:
            piece = self._unpacker.unconsumed_tail
            if not piece:
                piece = self._data[self._fed : self._fed + _PIECE]
                self._fed += len(piece)
                release(self._data)
            self._ready = memoryview(self._unpacker.decompress(piece, _PIECE))
            if not self._ready and not piece:
                raise ValueError(f"it is cut short: {size:,} bytes are missing")
        some, self._ready = self._ready[:size], self._ready[size:]
        return some


def read_matlab_5(data: memoryview, names: Collection[str], largest: int | None = None) -> dict[str, Any]:
    """Variables of a file: structs as dicts, arrays of structs and cells as lists, texts, arrays.

    Args:
        data: the file.
        names: the variables wanted; those that are not there are left out.
        largest: of arrays of more bytes, shape and type alone are read; None reads all.

    Raises:
        ValueError: it is damaged, or a packed part would unfold to far more than its size.
    """
    if bytes(data[_ORDER:_HEADER]) not in (b"IM", b"MI"):
        raise ValueError("its header does not say which byte comes first")
    order = "<" if bytes(data[_ORDER:_HEADER]) == b"IM" else ">"
    file, found, allowed = _Plain(data[_HEADER:]), dict[str, Any](), 2 * len(data) + _UNFOLDED
    reader = _Reader(order, largest)
    while file.at < len(data) - _HEADER:
        kind, size = unpack(f"{order}II", file.take(_TAG))
        content = file.take(size)
        if kind == _PACKED:
            packed = _Packed(content, allowed)
            kind, size = unpack(f"{order}II", packed.take(_TAG))
            found |= reader.variable(packed, size, names) if kind == _MATRIX else {}
            allowed -= packed.at
        elif kind == _MATRIX:
            found |= reader.variable(_Plain(content), size, names)
    return found


class _Reader:
    def __init__(self, order: str, largest: int | None) -> None:
        self._order, self._largest, self._arrays = order, largest, 0

    def variable(self, source: _Source, size: int, names: Collection[str]) -> Mapping[str, Any]:
        """Name -> value of what stands next; nothing where it is not wanted."""
        end = source.at + size
        kind, shape, name = self._described(source)
        return {name: self._value(source, kind, shape, end, 0)} if name in names else {}

    def _described(self, source: _Source) -> tuple[int, tuple[int, ...], str]:
        """What every array begins with: its flags, of which the last byte is the class; its shape; its name."""
        flags = self._element(source)[1]
        kind = int(unpack(f"{self._order}II", flags)[0])
        shape = tuple(np.frombuffer(self._element(source)[1], f"{self._order}i4").tolist())
        if not shape or min(shape) < 0:
            raise ValueError(f"an array of the impossible shape {shape}")
        return kind, shape, bytes(self._element(source)[1]).decode("latin-1")

    def _element(self, source: _Source) -> tuple[int, memoryview]:
        """Kind and content of a small part; up to four bytes stand in its tag."""
        tag = source.take(_TAG)
        kind, size = unpack(f"{self._order}II", tag)
        if kind >> 16:
            return kind & 0xFFFF, tag[4 : 4 + (kind >> 16)]
        content = source.take(size)
        source.skip(-size % _TAG)
        return kind, content

    def _array(self, source: _Source, depth: int) -> Any:
        kind, size = unpack(f"{self._order}II", source.take(_TAG))
        self._arrays += 1
        if kind != _MATRIX or depth > _MAX_DEPTH or self._arrays > _MAX_ARRAYS:
            raise ValueError(
                "what should be an array is none, or they are nested without end, or more than any network"
            )
        if size == 0:  # as MATLAB writes [] in a cell
            return np.empty((0, 0))
        end = source.at + size
        kind, shape, _ = self._described(source)
        return self._value(source, kind, shape, end, depth)

    def _value(self, source: _Source, kind: int, shape: tuple[int, ...], end: int, depth: int) -> Any:
        value: Any = None  # of sparse matrices, functions and objects, which no network needs
        match kind & 0xFF:
            case code if code in _NUMBERS and not kind & _COMPLEX:
                value = self._numbers(source, np.dtype(_NUMBERS[code]), shape)
            case code if code == _TEXT:
                stored, content = self._element(source)
                encoding = _ENCODINGS.get(stored, "latin-1")
                text = bytes(content).decode(encoding if "-8" in encoding or "l" in encoding else self._ended(encoding))
                value = text[:: shape[0]] if shape[0] else ""  # the first row
            case code if code == _CELL:
                value = [self._array(source, depth + 1) for _ in range(prod(shape))]
            case code if code == _STRUCT:
                value = self._structs(source, prod(shape), depth)
            case _:
                pass
        if source.at > end:
            raise ValueError("an array's parts are larger than it")
        source.skip(end - source.at)
        return value

    def _ended(self, encoding: str) -> str:
        return f"{encoding}-{'le' if self._order == '<' else 'be'}"

    def _structs(self, source: _Source, count: int, depth: int) -> Any:
        (width,) = unpack(f"{self._order}i", self._element(source)[1])
        table = bytes(self._element(source)[1])
        if width < 1:
            raise ValueError("a struct whose fields have no names")
        names = [table[i : i + width].partition(b"\0")[0].decode("latin-1") for i in range(0, len(table), width)]
        if not names and count > 1:
            raise ValueError("structs without fields")
        rows = [{name: self._array(source, depth + 1) for name in names} for _ in range(count)]
        return rows[0] if len(rows) == 1 else rows

    def _numbers(self, source: _Source, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """Stored in the smallest type that holds them, column by column."""
        if self._largest is not None and prod(shape) * dtype.itemsize > self._largest:
            return unread(shape, dtype)
        stored, content = self._element(source)
        if stored not in _STORED:
            raise ValueError(f"numbers of the unknown type {stored}")
        numbers = np.frombuffer(content, f"{self._order}{_STORED[stored]}").astype(dtype, copy=False)
        return numbers.reshape(shape, order="F")
