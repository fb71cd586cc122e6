"""What the families share: parameters broadcast over an activation, and images with a border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Array

Float64: TypeAlias = NDArray[np.float64]


def along(x: Float64, axis: int, parameter: Array) -> Float64:
    """`parameter`, shaped to broadcast over `x` from `axis` on."""
    start = axis % x.ndim
    tail = x.ndim - start - parameter.ndim
    return np.asarray(parameter, np.float64).reshape(*[1] * start, *parameter.shape, *[1] * tail)


def place(x: Float64, before: Sequence[int], after: Sequence[int], fill: float) -> Float64:
    """`x` with `fill` around its pixels; a negative `after` crops."""
    padded = np.pad(
        x, [(0, 0), (0, 0), *((b, max(a, 0)) for b, a in zip(before, after, strict=True))], constant_values=fill
    )
    height, width = (padded.shape[2 + i] + min(after[i], 0) for i in (0, 1))
    return padded[:, :, :height, :width]
