"""The pickles of PyTorch's files, gone through by an unpickler that makes nothing, before or without `torch.load`.

`torch.load` runs no code of a file, but believes it: it makes every storage of the format before 1.6 as large as the
pickle says, makes it larger where a tensor reaches beyond it, and hashes whatever is a key, be it a small pickle's
tuple of tuples that would take years.

Format: pytorch ``torch/serialization.py``. A zip holds one pickle. Before 1.6 (`_legacy_save`): five pickles (a magic
number, the format's version, the writing machine, the object, the keys of its storages), then the storages.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from pickle import PickleError
from typing import Any, cast

import numpy as np

from zoo.arrays import BFLOAT16
from zoo.wire.unpickler import PythonUnpickler
from zoo.wire.zipped import unpacked

# What numbers are, by the name of their storage's type; one that is not known here may be larger than is counted.
_DTYPES = {
    **{"Double": np.dtype("<f8"), "Float": np.dtype("<f4"), "Half": np.dtype("<f2"), "BFloat16": BFLOAT16},
    **{"Long": np.dtype("<i8"), "Int": np.dtype("<i4"), "Short": np.dtype("<i2")},
    **{"Char": np.dtype("i1"), "Byte": np.dtype("u1")},
}
_WIDTHS = {name: dtype.itemsize for name, dtype in _DTYPES.items()} | {"ComplexDouble": 16, "ComplexFloat": 8}
_PICKLES, _OBJECT = 5, 3
# A tuple is walked through as often as it is referred to: sizes and strides are tuples of a few numbers.
_MAX_TUPLE, _MAX_DEPTH = 100_000, 100
# A state dict of a thousand tensors takes a tenth of this; what a pickle makes takes a hundred times its bytes.
_MAX_PICKLE = 1 << 20


class _Inert:
    """Stands for whatever a file names: it takes anything, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        pass

    extend = append


class _Storage(_Inert):
    """A storage, of which nothing is made."""

    def __init__(self, numbers: int, dtype: np.dtype[Any] | None) -> None:
        self.numbers, self.dtype = numbers, dtype


class Unread(_Inert):
    """A tensor, of which shape and type are known; the type is None where no parameter has it."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> None:
        self.shape, self.dtype = shape, dtype


class _Dict(dict[object, object]):
    """An ordered dictionary, whose attributes (a state dict's versions of modules) are left out."""

    def __setstate__(self, _: object) -> None:
        pass


def _rebuilt(*parts: object) -> Unread:
    """In the place of torch's functions that make a tensor of (storage, offset, size, stride, ...)."""
    if len(parts) < 4 or not isinstance(parts[0], _Storage):
        raise ValueError("a tensor without a storage")
    if not isinstance(parts[2], tuple) or not isinstance(parts[3], tuple):
        raise ValueError("a tensor of no shape")
    size, stride = cast("tuple[object, ...]", parts[2]), cast("tuple[object, ...]", parts[3])
    numbers: list[Any] = [parts[1], *size, *stride]
    if len(size) != len(stride) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a tensor of impossible shape")
    offset, *rest = cast("list[int]", numbers)
    last = offset + sum((side - 1) * step for side, step in zip(rest, rest[len(size) :], strict=False))
    if all(rest[: len(size)]) and last >= parts[0].numbers:
        raise ValueError(f"a tensor reaches number {last:,} of a storage of {parts[0].numbers:,}")
    return Unread(tuple(rest[: len(size)]), parts[0].dtype)


def _parameter(tensor: object, *_: object) -> object:
    return tensor


# torch/_utils.py; they begin with the same four arguments, and the last two make what the storage does not tell.
_REBUILD = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}
_KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuilt,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): _Dict,
}


class _Limited:
    """A file for an unpickler, which ends where no state dict would go on."""

    def __init__(self, data: BytesIO | mmap.mmap) -> None:
        self._data, self._left = data, _MAX_PICKLE

    def read(self, size: int) -> bytes:
        self._spend(size)
        return self._data.read(size)

    def readline(self) -> bytes:
        line = self._data.readline()
        self._spend(len(line))
        return line

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(
                f"a pickle of more than {_MAX_PICKLE:,} bytes beside its numbers; save the state dict alone"
            )


class _Storages(PythonUnpickler):
    """Python's unpickler, in which no name leads anywhere; adds up the bytes of the storages."""

    # A bytearray is made as large as is declared before it is read; torch.save writes none.
    dispatch = {code: load for code, load in PythonUnpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}  # noqa: RUF012

    def __init__(self, data: BytesIO | mmap.mmap) -> None:
        super().__init__(_Limited(data), encoding="latin1")
        self.declared, self.saved, self.foreign = dict[str, int](), cast(object, None), False
        # Every tuple, kept so that none gives its id to another: how many values it unfolds to, and how deep it is.
        self._tuples = dict[int, tuple[object, int, int]]()

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name.endswith("Storage"):
            return type(name, (_Inert,), {})
        self.foreign = True  # what it is, is for torch to say
        return _rebuilt if module == "torch._utils" and name in _REBUILD else _Inert

    def persistent_load(self, pid: object) -> _Inert | type[_Inert]:
        parts: list[Any] = list(cast("tuple[Any, ...]", pid)) if isinstance(pid, tuple) else []
        if parts[:1] == ["module"]:  # a pickled class with its source, which torch.load refuses by its name
            return _Inert
        shape = [type(part) for part in parts[:5]]
        if len(parts) not in (5, 6) or parts[0] != "storage" or shape[1:] != [type, str, str, int]:
            raise ValueError("it refers to what is no storage")
        kind = parts[1].__name__.removesuffix("Storage")
        width = _WIDTHS.get(kind, 1)
        self.declared[parts[2]] = max(self.declared.get(parts[2], 0), parts[4] * width)
        return _Storage(parts[4], _DTYPES.get(kind))

    def _weigh(self) -> None:
        made = cast("tuple[object, ...]", self.stack[-1])
        inner = [self._tuples.get(id(value), (value, 1, 0)) for value in made]
        size, depth = 1 + sum(size for _, size, _ in inner), 1 + max((depth for _, _, depth in inner), default=0)
        if size > _MAX_TUPLE or depth > _MAX_DEPTH:
            raise ValueError("a tuple of tuples without end")
        self._tuples[id(made)] = (made, size, depth)

    def load_tuple(self) -> None:
        super().load_tuple()
        self._weigh()

    def load_tuple1(self) -> None:
        super().load_tuple1()
        self._weigh()

    def load_tuple2(self) -> None:
        super().load_tuple2()
        self._weigh()

    def load_tuple3(self) -> None:
        super().load_tuple3()
        self._weigh()

    dispatch[pickle.TUPLE[0]] = load_tuple
    dispatch[pickle.TUPLE1[0]] = load_tuple1
    dispatch[pickle.TUPLE2[0]] = load_tuple2
    dispatch[pickle.TUPLE3[0]] = load_tuple3


def _gone_through(data: BytesIO | mmap.mmap) -> _Storages:
    storages = _Storages(data)
    try:
        storages.saved = storages.load()
    except (PickleError, EOFError, LookupError, TypeError, AttributeError, AssertionError, struct.error) as error:
        raise ValueError(f"a damaged pickle: {error or type(error).__name__}") from error
    return storages


def check_record(content: bytes) -> None:
    """Refuse a pickle of a zip that `torch.load` would never be done with; raises `ValueError`."""
    _gone_through(BytesIO(content))


def check_file(path: Path) -> None:
    """Refuse a file of the old format that declares more than it holds; raises `ValueError`."""
    _old(path)


def _old(path: Path) -> list[_Storages]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pickles = [_gone_through(data) for _ in range(_PICKLES)]
        left = len(data) - data.tell()
    declared = sum(sum(storages.declared.values()) for storages in pickles)
    if declared > left:
        raise ValueError(f"it declares {declared:,} bytes of numbers, {left:,} are left")
    return pickles


def outline(path: Path) -> object:
    """What was saved, with an `Unread` for every tensor; None where it holds what torch alone can tell.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: it is damaged.
    """
    if not zipfile.is_zipfile(path):
        pickles = _old(path)
        return None if any(storages.foreign for storages in pickles) else pickles[_OBJECT].saved
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        described = [record for record in records if record.filename.lower().endswith(".pkl")]
        if len(described) != 1 or any(record.compress_type != zipfile.ZIP_STORED for record in records):
            return None
        storages = _gone_through(BytesIO(unpacked(archive, described[0])))
        held = sum(record.file_size for record in records)
    is_whole = sum(storages.declared.values()) <= held <= path.stat().st_size
    return storages.saved if is_whole and not storages.foreign else None
