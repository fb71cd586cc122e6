"""What every kind of layer has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Pair", "Rounding", "Shape"]

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Rounding: TypeAlias = Literal["floor", "ceil"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A layer by its name, and the activations it reads; none means the layer listed before."""

    name: str
    inputs: tuple[str, ...] = ()
