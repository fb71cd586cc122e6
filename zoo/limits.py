"""How much memory computing a network may take; `zoo.shapes.check_memory` holds networks to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

DEFAULT_GIGABYTES = 8.0
_gigabytes = ContextVar("gigabytes", default=DEFAULT_GIGABYTES)


def limit() -> float:
    """The limit at hand, in gigabytes."""
    return _gigabytes.get()


@contextmanager
def memory_limit(gigabytes: float) -> Generator[None]:
    """Within it, networks that take up to so much are computed."""
    before = _gigabytes.set(gigabytes)
    try:
        yield
    finally:
        _gigabytes.reset(before)
