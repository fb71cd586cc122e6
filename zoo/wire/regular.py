"""What stands where a file should: a pipe or a device would be waited for, or read, without end."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import FileFormatError


def check_regular(path: Path) -> None:
    """Refuse what is there and is no file with an end; raises `FileFormatError`."""
    if path.exists() and not path.is_file():
        raise FileFormatError(path, "is no regular file")
