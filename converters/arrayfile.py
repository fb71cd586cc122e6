"""Arrays into files: their numbers in C order, laid out block by block on the way, on every core at hand."""

from __future__ import annotations

import os
from math import prod
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from converters.cores import spread
from converters.layout import Block, blocks, packed

_NUMBER = np.dtype("<f4")


def write_numbers(file: BinaryIO, array: NDArray[Any]) -> None:
    """Write the numbers of a float32 array of any strides where `file` stands, in C order and little endian.

    A transposed array is never laid out whole: next to its source and what was written that would be a third copy.
    """
    if array.flags.c_contiguous:
        file.write(array.astype(_NUMBER, copy=False).reshape(-1).view(np.uint8).data)
        return
    file.flush()
    begin, flat = file.tell(), np.atleast_1d(array.squeeze())  # axes of one number move nothing
    one_writes = Lock()  # the system lets one write to a file at a time, and would keep the other's core busy waiting

    def write(block: Block) -> None:
        piece, axis = packed(flat[block]).astype(_NUMBER, copy=False), len(block) - 1
        rows = piece.reshape(prod(piece.shape[:axis]), -1)
        first, step = prod(flat.shape[axis + 1 :]) * block[-1].start, prod(flat.shape[axis:])
        with one_writes:
            for i, row in enumerate(rows):
                _write_at(file.fileno(), row.view(np.uint8).data, begin + _NUMBER.itemsize * (first + i * step))

    spread(write, blocks(flat))
    file.seek(begin + array.nbytes)


def _write_at(descriptor: int, content: memoryview, position: int) -> None:
    while content:
        done = os.pwrite(descriptor, content, position)  # a disk that fills up takes a part, and only then fails
        content, position = content[done:], position + done
