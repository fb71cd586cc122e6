"""PyTorch's files, read without torch: what was saved, and the numbers of its tensors as views of the file.

No name in a file leads anywhere: whatever object it describes stands there as one that does nothing. Nor is a file
believed: a storage of more numbers than are stored and a tensor that reaches beyond its own are refused. Of the keys
of dictionaries, names and small numbers alone are kept: a tuple of tuples, a set of sets may take years to hash.

Format: pytorch ``torch/serialization.py``, ``torch/_utils.py``. A zip holds one pickle, and a record of numbers for
each storage. Before 1.6 (`_legacy_save`): five pickles (a magic number, the format's version, the writing machine, the
object, the keys of its storages), then the storages.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from math import prod
from pathlib import Path
from pickle import PickleError
from typing import Any, Literal, cast

import numpy as np

from zoo.arrays import Array
from zoo.errors import FileFormatError, said
from zoo.wire.mapped import mapped
from zoo.wire.signatures import ZIP
from zoo.wire.torch_objects import DTYPES, KNOWN, OTHERS, Dictionary, Foreign, Inert, Storage, Tensor, as_key, special
from zoo.wire.unpickler import PythonUnpickler
from zoo.wire.zipped import member_bytes

_PICKLES, _OBJECT, _KEYS = 5, 3, 4
_COUNT = struct.Struct("<q")
# A state dict of a thousand tensors takes a tenth of this; what a pickle makes takes a hundred times its bytes.
_MAX_PICKLE = 1 << 20
# What of Python itself lies beside weights in the files of training scripts; whatever else of it is named would do
# something if it were loaded, and the file is refused.
_HARMLESS = {
    *(("builtins", name) for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int")),
    *(("builtins", name) for name in ("list", "object", "range", "set", "slice", "str", "tuple")),
    *(("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(("pathlib", name) for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")),
    *(("pathlib._local", name) for name in ("Path", "PosixPath", "WindowsPath")),
    *(("collections", name) for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
    *(("argparse", "Namespace"), ("types", "SimpleNamespace"), ("uuid", "UUID"), ("decimal", "Decimal")),
    *(("_codecs", "encode"), ("copyreg", "_reconstructor")),
}
# Python 2's names, which a pickle of protocol 2 has.
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _HostileError(ValueError):
    """It names something that would run."""


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


_LEFT_OUT = {code[0] for code in (pickle.BYTEARRAY8, pickle.LONG4, pickle.EXT1, pickle.EXT2, pickle.EXT4)}
_Set = type("set", (Inert,), {})


class _Unpickler(PythonUnpickler):
    """Python's unpickler, in which no name leads anywhere; keeps what the storages are said to be."""

    # A bytearray is made as large as is declared before it is read, numbers of thousands of digits take long to print,
    # and extensions are looked up in a cache that all unpicklers share; torch.save writes none of them.
    dispatch = {code: load for code, load in PythonUnpickler.dispatch.items() if code not in _LEFT_OUT}  # noqa: RUF012

    def __init__(self, data: BytesIO | mmap.mmap) -> None:
        super().__init__(_Limited(data), encoding="latin1")
        self.storages, self.saved, self.foreign = dict[str, Storage](), cast(object, None), list[str]()

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        module = _PYTHON_2.get(module, module)
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module in ("torch", "torch.cuda") and name.endswith("Storage"):
            return type(name, (Inert,), {})
        if module == "torch._utils" and name.startswith("_rebuild"):
            return special
        if (module, name) not in _HARMLESS:
            if module.partition(".")[0] in sys.stdlib_module_names:
                raise _HostileError(f"{module}.{name}")
            self.foreign.append(f"{module}.{name}")
        return type(name, (Foreign,), {})

    def persistent_load(self, pid: object) -> Inert | type[Inert]:
        parts: list[Any] = list(cast("tuple[Any, ...]", pid)) if isinstance(pid, tuple) else []
        if parts[:1] == ["module"]:  # a pickled class with its source
            name = getattr(parts[1], "__name__", "a class") if len(parts) > 1 else "a class"
            self.foreign.append(name)
            return parts[1] if len(parts) > 1 and isinstance(parts[1], type) else Inert
        shape = [type(part) for part in parts[:5]]
        if len(parts) not in (5, 6) or parts[0] != "storage" or shape[1:] != [type, str, str, int] or parts[4] < 0:
            raise ValueError("it refers to what is no storage")
        whole = Storage(parts[2], 0, parts[4], parts[1].__name__.removesuffix("Storage"))
        known = self.storages.setdefault(whole.key, whole)
        if known.numbers < whole.numbers:
            self.storages[whole.key] = whole
        return whole if parts[5:] in ([], [None]) else _part(whole, parts[5])

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], Inert | Dictionary):
            raise ValueError("a state for what has none")
        super().load_build()

    def load_setitem(self) -> None:
        items = [self.stack.pop(), self.stack.pop()][::-1]
        self._set(items)

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _set(self, items: list[object]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[as_key(key)] = value

    def load_empty_set(self) -> None:
        self.append(_Set())

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(_Set())

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = load_empty_set
    dispatch[pickle.FROZENSET[0]] = load_frozenset


def _part(whole: Storage, view: object) -> Storage:
    """A storage that is a view of another one, as they were before 0.4: (key, offset, size)."""
    numbers = cast("tuple[object, ...]", view) if isinstance(view, tuple) else ()
    match numbers:
        case (str(), int(start), int(size)) if start >= 0 and size >= 0 and start + size <= whole.numbers:
            return Storage(whole.key, start, size, whole.type)
        case _:
            raise ValueError("a view of a storage that reaches beyond it")


def _gone_through(data: BytesIO | mmap.mmap) -> _Unpickler:
    unpickler = _Unpickler(data)
    try:
        unpickler.saved = unpickler.load()
    except KeyError as error:  # of an opcode, or of what is to be remembered
        raise ValueError("a damaged pickle, or none") from error
    except (PickleError, EOFError, LookupError, TypeError, AttributeError, AssertionError, struct.error) as error:
        raise ValueError(f"a damaged pickle: {error or type(error).__name__}") from error
    return unpickler


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a file holds.

    Attributes:
        value: what was saved, `Tensor` for every tensor.
        foreign: the names of what stands in it as nothing.
        numbers: the bytes of a storage, by its key, their checksum checked where there is one.
        order: how they are laid out, ``<`` or ``>``.
    """

    value: object
    foreign: tuple[str, ...]
    numbers: Callable[[str], memoryview] = field(repr=False)
    order: Literal["<", ">"] = "<"

    def array(self, tensor: Tensor) -> Array:
        """The numbers of a tensor without a `problem`, as a view of the file.

        Raises:
            ValueError: they are damaged or cut short.
        """
        dtype = tensor.dtype
        if tensor.storage is None or not prod(tensor.shape):
            return np.empty(tensor.shape, dtype)
        start = (tensor.storage.start + tensor.offset) * dtype.itemsize
        strides = tuple(step * dtype.itemsize for step in tensor.stride)
        content = self.numbers(tensor.storage.key)
        found = np.ndarray(tensor.shape, dtype.newbyteorder(self.order), content, start, strides)
        return found.astype(dtype) if self.order == ">" else found


def read_torch(path: Path) -> Saved:
    """What was saved in a file, its numbers unread.

    Raises:
        FileFormatError: it is damaged or no such file, or it holds what would run code.
    """
    try:
        if bytes(mapped(path)[: len(ZIP)]) != ZIP:
            return _old(path)
        if not zipfile.is_zipfile(path):
            raise ValueError("an archive without an end: cut short, as by a download that stopped")
        return _zipped(path)
    except _HostileError as error:
        raise foreign(path, [str(error)]) from error
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FileFormatError(path, f"is damaged or no PyTorch file ({said(error, 120)})") from error


def foreign(path: Path, names: Sequence[str]) -> FileFormatError:
    """The refusal of a file that holds objects, by their names, where a state dict belongs."""
    shown = ", ".join([*dict.fromkeys(names)][:3])
    return FileFormatError(
        path,
        f"holds Python objects ({shown}), not a state dict, and loading those would run code; load it where it was "
        "made, and torch.save its model.state_dict()",
    )


def _old(path: Path) -> Saved:
    data = mapped(path)
    pickles = [_gone_through(cast(mmap.mmap, data.obj)) for _ in range(_PICKLES)]
    storages = {key: storage for unpickler in pickles for key, storage in unpickler.storages.items()}
    at, places = cast(mmap.mmap, data.obj).tell(), dict[str, tuple[int, int]]()
    declared, left = sum(map(_size, storages.values())), len(data) - at
    if declared > left:
        raise ValueError(f"it declares {declared:,} bytes of numbers, {left:,} are left")
    keys = pickles[_KEYS].saved
    for key in cast("list[object]", keys) if isinstance(keys, list) else []:
        if not isinstance(key, str) or key not in storages or len(data) - at < _COUNT.size:
            raise ValueError("a storage is none of its own, or cut short")
        size = _size(storages[key])
        if _COUNT.unpack_from(data, at) != (storages[key].numbers,) or key in places:
            raise ValueError(f"the storage {key!r} has another size than is said, or is there twice")
        places[key] = at + _COUNT.size, size
        at += _COUNT.size + size

    def numbers(key: str) -> memoryview:
        start, size = places.get(key, (0, -1))
        if size < 0 or start + size > len(data):
            raise ValueError(f"the numbers of storage {key!r} are missing")
        return data[start : start + size]

    foreign = [name for unpickler in pickles for name in unpickler.foreign]
    return Saved(value=pickles[_OBJECT].saved, foreign=tuple(foreign), numbers=numbers)


def _size(storage: Storage) -> int:
    dtype = DTYPES.get(storage.type)
    return storage.numbers * (dtype.itemsize if dtype else OTHERS.get(storage.type, ("", 1))[1])


def _zipped(path: Path) -> Saved:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        _check(path, records)
        content = {record.filename.lower(): record for record in records}
        if len(content) < len(records):
            raise ValueError("it holds two records of one name")
        pickled = [name for name in content if name.endswith(".pkl")]
        if len(pickled) != 1 or not pickled[0].endswith("data.pkl"):
            raise ValueError("it holds no data.pkl, or another pickle beside it")
        data, root = mapped(path), pickled[0].removesuffix("data.pkl")

        def bytes_of(name: str) -> memoryview:
            record = content.get(f"{root}{name}".lower())
            if record is None:
                raise ValueError(f"its record {name} is missing")
            # torch.serialization.set_crc32_options(False) writes 0
            return member_bytes(archive, record, data, checked=bool(record.CRC))

        unpickler = _gone_through(BytesIO(bytes_of("data.pkl")))
        held = sum(record.file_size for record in records)
        if sum(map(_size, unpickler.storages.values())) > held:
            raise ValueError(f"it declares more numbers than it holds in {held:,} bytes")
        order = ">" if f"{root}byteorder" in content and bytes(bytes_of("byteorder")) == b"big" else "<"
    return Saved(
        value=unpickler.saved,
        foreign=tuple(unpickler.foreign),
        numbers=cache(lambda key: bytes_of(f"data/{key}")),  # many tensors may share a storage: it is checked once
        order=order,
    )


def _check(path: Path, records: list[zipfile.ZipInfo]) -> None:
    # Before PyTorch 1.4 it held its attributes, and no constants apart.
    if any(record.filename.lower().endswith(("constants.pkl", "attributes.pkl")) for record in records):
        raise FileFormatError(
            path, "is a TorchScript program, not a state dict; torch.jit.load it and torch.save its state_dict()"
        )
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise FileFormatError(path, "is compressed; torch.save stores its records as they are")
    if any(record.compress_size != record.file_size for record in records):
        raise ValueError("a record has two sizes, though it is stored as it is")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise ValueError("its records are larger than the file")
