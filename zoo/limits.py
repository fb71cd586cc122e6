"""How large numbers may be, and how much memory computing a network may take: `zoo.shapes.check_memory` holds it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

DEFAULT_GIGABYTES = 8.0
# From here on a number rounds to infinity in float32, of which every framework's layers make their own.
_FLOAT32_INFINITE = 2.0**128 - 2.0**103
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


def in_float32(number: float) -> bool:
    """Whether a number, a whole one of any length too, is finite in float32."""
    return abs(number) < _FLOAT32_INFINITE
