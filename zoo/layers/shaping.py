"""The same numbers in another shape, or a part of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from zoo.layers.base import Named


@dataclass(frozen=True, kw_only=True, slots=True)
class Flatten(Named):
    """Axes ``axis`` to ``end_axis`` (inclusive) become one, in C, H, W order."""

    axis: int = 1
    end_axis: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Concat(Named):
    """Inputs joined along ``axis``."""

    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice(Named):
    """``x[start:stop]`` along ``axis``. A Caffe Slice with several tops is several of these."""

    start: int
    stop: int
    axis: int = 1


Shaping: TypeAlias = Flatten | Concat | Slice
