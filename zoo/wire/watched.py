"""Files that are read while others may shorten them."""

from __future__ import annotations

from collections import deque
from pathlib import Path

# The files that were mapped last, and their sizes. Who looks at a page that is gone is ended by SIGBUS, and it does not
# say of which file.
_watched = deque[tuple[Path, int]](maxlen=64)


def watch(path: Path) -> None:
    """Remember how long a file is that is mapped here or elsewhere."""
    _watched.append((path, path.stat().st_size))


def shrunken() -> str | None:
    """What is to be said of a mapped file that has become shorter since; None where there is none."""
    for path, size in _watched:
        now = path.stat().st_size if path.exists() else size
        if now < size:
            return f"{path}: became shorter while it was read ({now:,} of {size:,} bytes are left); nothing was changed"
    return None
