"""How large numbers may be, and what computing a network may take: `zoo.shapes.check_cost` holds it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# From here on a number rounds to infinity in float32, of which every framework's layers make their own.
_FLOAT32_INFINITE = 2.0**128 - 2.0**103


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What computing a network may take.

    Attributes:
        gigabytes: of memory, for a batch.
        operations: multiply-adds for an item, or what takes as long. VGG-16 has 1.5e10, FCN-32s 2e11.
    """

    gigabytes: float = 8.0
    operations: float = 5e11


DEFAULT = Limits()
_limits = ContextVar("limits", default=DEFAULT)


def limits() -> Limits:
    """The limits at hand."""
    return _limits.get()


@contextmanager
def allowing(wanted: Limits) -> Generator[None]:
    """Within it, networks that take up to so much are computed."""
    before = _limits.set(wanted)
    try:
        yield
    finally:
        _limits.reset(before)


def in_float32(number: float) -> bool:
    """Whether a number, a whole one of any length too, is finite in float32."""
    return abs(number) < _FLOAT32_INFINITE
