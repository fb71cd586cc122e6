"""One list of images a machine: written once, and mapped into the memory of every process that trains there."""

from __future__ import annotations

import os
import pickle
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from zoo.errors import ZooError, said
from zoo.training.images import Images
from zoo.wire.mapped import mapped

Pair: TypeAlias = tuple[Images, Images]
_ALIGNED = 64


def write(pair: Pair) -> Path:
    """Training and validation images in a temporary file that only this user may read; who reads it last removes it.

    Raises:
        ZooError: there is no room for it.
    """
    buffers = list[pickle.PickleBuffer]()
    head = pickle.dumps(pair, protocol=5, buffer_callback=buffers.append)
    number, name = tempfile.mkstemp(prefix="zoo-images-")
    try:
        with os.fdopen(number, "wb") as file:
            pickle.dump((head, [buffer.raw().nbytes for buffer in buffers]), file)
            for buffer in buffers:
                file.write(bytes(-file.tell() % _ALIGNED))
                file.write(buffer.raw())
    except BaseException as error:
        Path(name).unlink()
        if isinstance(error, OSError):
            raise ZooError(f"{name}: the list of images cannot be written ({said(error)}); make room there") from error
        raise
    return Path(name)


def remove(path: Path) -> None:
    """Take it away; Windows keeps what somebody still reads, until the last one who asks."""
    with suppress(PermissionError):
        path.unlink(missing_ok=True)


def read(path: Path) -> Pair:
    """What `write` wrote, its arrays in pages that all who read it share.

    Raises:
        ZooError: it cannot be read, or is damaged.
    """
    whole = mapped(path)
    try:
        with path.open("rb") as file:
            head, lengths = pickle.load(file)
            end, buffers = file.tell(), list[memoryview]()
        for length in lengths:
            begin = end + -end % _ALIGNED
            end = begin + length
            buffers.append(whole[begin:end])
        return pickle.loads(head, buffers=buffers)
    except Exception as error:  # of whatever the bytes say
        raise ZooError(f"{path}: the list of images is damaged ({said(error)}); begin again") from error
