"""Reads and writes at a place in a file, by several threads at once; Windows has neither `pread` nor `pwrite`."""

from __future__ import annotations

import os
from threading import Lock

_one_moves = Lock()  # a descriptor has one position


def read_at(descriptor: int, length: int, position: int) -> bytes:
    """At most so many bytes from there."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, position)
    with _one_moves:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, length)


def write_at(descriptor: int, content: memoryview, position: int) -> None:
    """All of `content`, from there."""
    while content:
        done = _some_written(descriptor, content, position)  # a disk that fills up takes a part, and only then fails
        content, position = content[done:], position + done


def _some_written(descriptor: int, content: memoryview, position: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, content, position)
    with _one_moves:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, content)
