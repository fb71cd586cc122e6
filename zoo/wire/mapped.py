"""A file as one view of memory: its pages are read when they are looked at, and never copied."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import FileFormatError
from zoo.wire.regular import check_regular
from zoo.wire.watched import watch


def mapped(path: Path) -> memoryview:
    """The bytes of a file, read only, as a memory map that lives as long as any view of it.

    Raises:
        FileFormatError: the file is missing, empty or cannot be read.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            watch(path)
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as error:  # what mmap says of a file without bytes
        raise FileFormatError(path, "the file is empty") from error
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error.strerror}") from error


def release(array: NDArray[Any] | memoryview) -> None:
    """Give the pages of a memory-mapped file back: they stay in the disk cache, but not in this process."""
    base: Any = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # Windows gives them back by itself
        base.madvise(mmap.MADV_DONTNEED)
