"""How large numbers may be, and what computing a network may take: `zoo.shapes.check_cost` holds it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

# From here on a number rounds to infinity in float32, of which every framework's layers make their own.
_FLOAT32_INFINITE = 2.0**128 - 2.0**103


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What computing a network may take.

    Attributes:
        gigabytes: of memory, for a batch; a layer alone, for an item, may take an eighth of it.
        operations: multiply-adds for an item, or what takes as long. VGG-16 has 1.5e10, PSPNet for 713 x 713 5e11.
    """

    gigabytes: float = 8.0
    operations: float = 1e12


DEFAULT = Limits()
_VARIABLE = "ALEXNET_ZOO_LIMITS"  # of the environment, so that the processes that train and judge have them too


def limits() -> Limits:
    """The limits at hand."""
    said = os.environ.get(_VARIABLE)
    if said is None:
        return DEFAULT
    gigabytes, operations = map(float, said.split())
    return Limits(gigabytes=gigabytes, operations=operations)


@contextmanager
def allowing(wanted: Limits) -> Generator[None]:
    """Within it, this process and those it starts compute networks that take up to so much."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = f"{wanted.gigabytes!r} {wanted.operations!r}"
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def in_float32(number: float) -> bool:
    """Whether a number, a whole one of any length too, is finite in float32."""
    return abs(number) < _FLOAT32_INFINITE
