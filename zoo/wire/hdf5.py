"""HDF5 files: arrays by their path, written and read by h5py; of what is read nothing is followed or loaded.

A file may lead elsewhere (external and soft links, external and virtual storage) or name a filter, which HDF5 would
load as a plugin: all of that is refused before a number is read. Format: support.hdfgroup.org, "HDF5 File Format".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from zoo.arrays import BFLOAT16, Array, unread
from zoo.errors import said
from zoo.layers import Shape
from zoo.wire.layout import contiguous
from zoo.wire.mapped import mapped, release

# gzip, shuffle, fletcher32: built into HDF5, where others are loaded by their number.
_FILTERS = {1, 2, 3}
_MAX_DEPTH, _MAX_OBJECTS = 30, 100_000
# deflate cannot unfold to more than this many times its size.
_UNFOLDED = 1100
# So many bytes are laid out at a time.
_PIECE = 1 << 23
# What is written at once Linux keeps in pages as large, and who maps a number of it then holds all of its page.
_WRITTEN = 1 << 17
# A heap of texts (HDF5 File Format, III.E): its signature and version; then, by their sizes, its objects.
_HEAP = re.compile(rb"GCOL\x01")
_HEAP_HEAD = _OBJECT_HEAD = 16
# How h5py stores a bfloat16 of ml_dtypes, which Keras has its numbers in; of two bytes there is no other such type.
_TWO_BYTES = np.dtype("V2")
_h5: Any = h5py


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file holds.

    Attributes:
        arrays: path (``layers/conv2d/vars/0``) -> array.
        texts: (path of a group or array, attribute) -> its text, or list of texts.
    """

    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    texts: dict[tuple[str, str], str | list[str]] = field(default_factory=dict[tuple[str, str], "str | list[str]"])


class _View(RawIOBase):
    """A file in memory, of which nothing is copied that is not asked for.

    HDF5 goes round without end in a heap of texts of which an object has no size, or one that its sums turn into none;
    so each heap is looked at as it is read.
    """

    def __init__(self, data: memoryview) -> None:
        self._data, self._at, self._sound, self._objects = data, 0, set[int](), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: len(self._data)}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._data[self._at : self._at + len(buffer)]
        for found in _HEAP.finditer(self._data, max(self._at - _HEAP_HEAD, 0), self._at + len(content)):
            if found.start() not in self._sound:
                self._check_heap(found.start())
                self._sound.add(found.start())
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _check_heap(self, at: int) -> None:
        end = min(at + self._number(at + 8), len(self._data))
        at += _HEAP_HEAD
        while at + _OBJECT_HEAD <= end:
            size, is_rest = self._number(at + 8), not any(self._data[at : at + 2])
            step = size if is_rest else _OBJECT_HEAD + size + -size % 8
            at, self._objects = at + step, self._objects + 1
            if step < _OBJECT_HEAD or at > end or self._objects > 10 * _MAX_OBJECTS:
                raise ValueError("HDF5 that is damaged: a heap of texts that is not made of its objects")

    def _number(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 8], "little")


def _opened(data: memoryview) -> Any:
    file = _h5.File(_View(data), "r")
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("its addresses are not of 8 bytes")
    return file


def read_hdf5(source: Path | memoryview, skip: tuple[str, ...] = (), largest: int | None = None) -> Contents:
    """Every array of a file, and every attribute of text.

    Args:
        source: the file.
        skip: names of groups at the top that are passed over.
        largest: of arrays of more bytes, shape and type alone are read; None reads all.

    Raises:
        ValueError: it is damaged, or leads out of the file.
    """
    contents, data = Contents(), source if isinstance(source, memoryview) else mapped(source)
    try:
        with _opened(data) as file:
            for path, item in _walk(file, "", 0, skip):
                for name in item.attrs:
                    text = _text(_attribute(item, name))
                    if text is not None:
                        contents.texts[path, name] = text
                if isinstance(item, _h5.Dataset):
                    contents.arrays[path] = _array(path, item, data, largest)
                if len(contents.arrays) + len(contents.texts) > _MAX_OBJECTS:
                    raise ValueError("it holds more objects than any network")
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise ValueError(f"HDF5 that is damaged: {said(error, 200)}") from error
    return contents


def read_matlab(path: Path, names: Iterable[str], largest: int | None = None) -> dict[str, Any]:
    """Variables of a file that MATLAB 7.3 saved: structs as dicts, arrays of structs and cells as lists, texts, arrays.

    References lead to places of the same file (MathWorks, "MAT-File Versions"; axes stand in reverse).

    Args:
        path: the file.
        names: the variables wanted; those that are not there are left out.
        largest: as for `read_hdf5`.

    Raises:
        ValueError: it is damaged, or leads out of the file.
    """
    try:
        data = mapped(path)
        with _opened(data) as file:
            _ = sum(1 for _ in _walk(file, "", 0, ()))  # refuses what leads elsewhere
            reader = _Matlab(file=file, data=data, largest=largest)
            return {name: reader.value(file[name], name, 0) for name in names if name in file}
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise ValueError(f"HDF5 that is damaged: {said(error, 200)}") from error


@dataclass(kw_only=True)
class _Matlab:
    file: Any
    data: memoryview
    largest: int | None
    count: int = 0

    def value(self, item: Any, path: str, depth: int) -> Any:
        self.count += 1
        if depth > _MAX_DEPTH or self.count > _MAX_OBJECTS:
            raise ValueError(f"{path} is nested without end, or holds more than any network")
        kind = _text(_attribute(item, "MATLAB_class")) or ""
        if isinstance(item, _h5.Group):
            return self._struct(item, path, depth)
        if _attribute(item, "MATLAB_empty"):
            return "" if kind == "char" else [] if kind in ("cell", "struct") else np.empty(0)
        if item.dtype.kind == "O":
            return self._referred(item, path, depth)
        numbers = _array(path, item, self.data, None if kind == "char" else self.largest)
        return "".join(map(chr, numbers.reshape(-1).tolist())) if kind == "char" else numbers.T

    def _struct(self, item: Any, path: str, depth: int) -> Any:
        fields = {str(name): item[name] for name in item}
        found = {name: self.value(field, f"{path}/{name}", depth + 1) for name, field in fields.items()}
        # The fields of an array of structs are lists of references that no cell is.
        if not fields or any(isinstance(one, _h5.Group) or "MATLAB_class" in one.attrs for one in fields.values()):
            return found
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]

    def _referred(self, item: Any, path: str, depth: int) -> list[Any]:
        if item.is_virtual or item.external or item.nbytes > len(self.data):
            raise ValueError(f"the references of {path} are more than what is stored of them")
        return [self.value(self.file[one], f"{path}/{i}", depth + 1) for i, one in enumerate(item[()].reshape(-1))]


def hdf5_pieces(
    outline: Path,
    arrays: Mapping[str, tuple[Shape, Callable[[], Array]]],
    texts: Mapping[tuple[str, str], str | Sequence[str]],
) -> Iterator[bytes | memoryview]:
    """A file of float32 arrays, piece by piece; equal contents give equal bytes.

    HDF5 lays the file out, with holes where numbers belong; those are never whole in memory, however they are turned.

    Args:
        outline: a file that is written, and removed after the last piece.
        arrays: path within the file -> shape, and what gives the numbers in order, in an array of any strides and axes.
        texts: (path of a group, attribute) -> its text, or list of texts.
    """
    with _h5.File(outline, "w") as file:
        for (group, name), text in texts.items():
            holder = file.require_group(group) if group else file
            holder.attrs[name] = text if isinstance(text, str) else np.array(text, _h5.string_dtype())
        unfilled = _h5.h5p.create(_h5.h5p.DATASET_CREATE)
        unfilled.set_alloc_time(_h5.h5d.ALLOC_TIME_EARLY)
        unfilled.set_fill_time(_h5.h5d.FILL_TIME_NEVER)
        places = dict[int, Callable[[], Array]]()
        for name, (shape, made) in arrays.items():
            dataset = file.create_dataset(name, shape, "<f4", dcpl=unfilled)
            offset = dataset.id.get_offset()
            if offset is None and dataset.size:  # it has no place before it has a number: of no axes
                dataset[()] = made()
            elif offset is not None:
                places[offset] = made
    with outline.open("rb") as file:
        for place in sorted(places):
            yield file.read(place - file.tell())
            for piece in _in_pieces(places[place]()):
                yield piece
                file.seek(len(piece), SEEK_CUR)
        yield file.read()
    outline.unlink()


def _in_pieces(array: Array) -> Iterator[memoryview]:
    step = max(_PIECE // array[:1].nbytes, 1)
    for start in range(0, len(array), step):
        laid = contiguous(array[start : start + step]).astype("<f4", copy=False).reshape(-1).view(np.uint8).data
        yield from (laid[at : at + _WRITTEN] for at in range(0, len(laid), _WRITTEN))


def top_names(path: Path) -> set[str]:
    """The names at the top of a file; nothing else of it is read.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with _h5.File(path, "r") as file:
            return {str(name) for name in file}
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"HDF5 that is damaged: {said(error, 200)}") from error


def _walk(group: Any, path: str, depth: int, skip: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    yield path, group
    if depth > _MAX_DEPTH:
        raise ValueError("its groups are nested without end")
    for name in group:
        inner = f"{path}/{name}" if path else name
        if inner in skip:
            continue
        if not isinstance(group.get(name, getlink=True), _h5.HardLink):
            raise ValueError(f"{inner} leads elsewhere (a link), which is not followed")
        item = group[name]
        if isinstance(item, _h5.Group):
            yield from _walk(item, inner, depth + 1, skip)
        elif isinstance(item, _h5.Dataset):
            yield inner, item


def _attribute(item: Any, name: str) -> Any:
    """A text, texts or numbers; None where it has none of these."""
    if name not in item.attrs:
        return None
    kind = item.attrs.get_id(name).get_type()
    return item.attrs[name] if isinstance(kind, _h5.h5t.TypeStringID | _h5.h5t.TypeIntegerID) else None


def _array(path: str, item: Any, data: memoryview, largest: int | None) -> Array:
    created = item.id.get_create_plist()
    filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
    if item.is_virtual or item.external:
        raise ValueError(f"the numbers of {path} lie in another file, which is not followed")
    if not {*filters} <= _FILTERS:
        raise ValueError(f"{path} is packed with a filter that is not built into HDF5 ({filters})")
    dtype = BFLOAT16 if item.dtype == _TWO_BYTES else item.dtype
    if item.shape is None or (dtype.kind not in "fiub" and dtype != BFLOAT16):
        raise ValueError(f"{path} holds {item.dtype}; arrays of numbers alone are read")
    if item.nbytes > min(len(data), item.id.get_storage_size()) * (_UNFOLDED if filters else 1):
        raise ValueError(f"{path} of shape {item.shape} is larger than what is stored of it")
    if largest is not None and item.nbytes > largest:
        return unread(item.shape, dtype)
    place = item.id.get_offset()
    if place is not None and item.id.get_type() == _h5.h5t.py_create(item.dtype):  # in one piece, as NumPy has them
        return np.frombuffer(data[place : place + item.nbytes], dtype).reshape(item.shape)
    numbers = cast(Array, item[()]).reshape(item.shape)
    release(data)
    return numbers if dtype == item.dtype else numbers.view(dtype)


def _text(value: Any) -> str | list[str] | None:
    if isinstance(value, str | bytes):
        return _decoded(value)
    if getattr(value, "ndim", 0) == 1 and value.dtype.kind in "SO":
        return [_decoded(item) for item in value.tolist() if isinstance(item, str | bytes)]
    return None


def _decoded(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
