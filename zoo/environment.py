"""Environment variables that a library reads as it is loaded or as a process starts."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(variables: Mapping[str, str]) -> Generator[None]:
    """Set `variables`, for this process and those it starts, where the user has not; afterwards all is as before."""
    missing = [name for name in variables if name not in os.environ]
    os.environ.update((name, variables[name]) for name in missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
