"""PyTorch's file format before 1.6, gone through before `torch.load` reads it, so that no declared size is believed.

Format: pytorch ``torch/serialization.py`` (`_legacy_save`): five pickles (a magic number, the format's version, the
writing machine, the object, the keys of its storages), then the storages. `torch.load` makes every storage as large as
the object's pickle says before it looks at what follows.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from pathlib import Path
from pickle import PickleError
from typing import Any, cast

# Bytes of a number, by the name of its storage's type; one that is not known here may be larger than is counted.
_WIDTHS = {
    **{"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "ComplexDouble": 16, "ComplexFloat": 8},
    **{"Long": 8, "Int": 4, "Short": 2},
}
_PICKLES = 5
_Python = cast(Any, pickle)._Unpickler


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


class _Storages(_Python):
    """Python's unpickler, in which no name leads anywhere; adds up the bytes of the storages."""

    def __init__(self, data: mmap.mmap) -> None:
        super().__init__(data, encoding="latin1")
        self.declared = dict[str, int]()

    def find_class(self, module: str, name: str) -> type[_Inert]:
        return type(name, (_Inert,), {}) if module == "torch" and name.endswith("Storage") else _Inert

    def persistent_load(self, pid: object) -> _Inert | type[_Inert]:
        parts = cast("tuple[Any, ...]", pid) if isinstance(pid, tuple) else ()
        if parts[:1] == ("module",):  # a pickled class with its source, which torch.load refuses by its name
            return _Inert
        if len(parts) != 6 or parts[0] != "storage" or not isinstance(parts[1], type) or type(parts[4]) is not int:
            raise ValueError("it refers to what is no storage")
        width = _WIDTHS.get(parts[1].__name__.removesuffix("Storage"), 1)
        self.declared[str(parts[2])] = max(self.declared.get(str(parts[2]), 0), parts[4] * width)
        return _Inert()


def check(path: Path) -> None:
    """Refuse a file that declares more than it holds.

    Raises:
        ValueError: it does, or its pickles are damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        declared = 0
        try:
            for _ in range(_PICKLES):
                storages = _Storages(data)
                storages.load()
                declared += sum(storages.declared.values())
        except (PickleError, EOFError, LookupError, TypeError, AttributeError, AssertionError, struct.error) as error:
            raise ValueError(f"a damaged pickle ({error})") from error
        if declared > len(data) - data.tell():
            raise ValueError(f"it declares {declared:,} bytes of numbers, {len(data) - data.tell():,} are left")
