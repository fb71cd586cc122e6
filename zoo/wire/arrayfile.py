"""Arrays into files: their numbers in C order, laid out block by block on the way, on every core at hand."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zoo.wire.cores import map_on_cores
from zoo.wire.layout import Block, blocks, packed
from zoo.wire.positioned import write_at


def write_numbers(file: BinaryIO, arrays: Iterable[NDArray[Any]]) -> None:
    """Write the numbers of arrays of any strides where `file` stands, in C order and little endian.

    A transposed array is never laid out whole: next to its source and what was written that would be a third copy.
    """
    file.flush()
    descriptor, position, turned = file.fileno(), file.tell(), list[tuple[NDArray[Any], Block, int]]()
    for array in arrays:
        if array.flags.c_contiguous:
            write_at(descriptor, _bytes(array), position)
        else:
            flat = np.atleast_1d(array.squeeze())  # axes of one number move nothing
            turned += [(flat, block, position) for block in blocks(flat)]
        position += array.nbytes
    one_writes = Lock()  # the system lets one write to a file at a time, and would keep the other's core busy waiting

    def write(work: tuple[NDArray[Any], Block, int]) -> None:
        array, block, begin = work
        piece, axis = packed(array[block]), len(block) - 1
        first, step = prod(array.shape[axis + 1 :]) * block[-1].start, prod(array.shape[axis:])
        with one_writes:
            for i, row in enumerate(piece.reshape(prod(piece.shape[:axis]), -1)):
                write_at(descriptor, _bytes(row), begin + array.itemsize * (first + i * step))

    map_on_cores(write, turned)
    file.seek(position)


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data
