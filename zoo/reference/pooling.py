"""Pooling by Caffe's windows."""

from __future__ import annotations

from itertools import product

import numpy as np

from zoo.arrays import Array
from zoo.layers import LOWEST, Pooling
from zoo.reference.arrays import Float64, place
from zoo.shapes import window


def apply(layer: Pooling, x: Float64) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    at = window(layer, x.shape[1:])
    (kh, kw), (sh, sw), (oh, ow) = at.kernel, at.stride, at.out

    def cells(image: Float64) -> list[Float64]:
        return [
            image[..., i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
            for i, j in product(range(kh), range(kw))
        ]

    if layer.mode == "max":
        # A pixel wins by being greater than the best so far, which NaN never is.
        return np.fmax(np.fmax.reduce(cells(place(x, at.before, at.after, LOWEST))), LOWEST)

    # The divisor counts padding, but not the overhang of a rounded-up size.
    def inside(i: int) -> Array:
        start = np.arange(at.out[i]) * at.stride[i]
        return np.minimum(start + at.kernel[i], x.shape[2 + i] + 2 * at.before[i]) - start

    # A window that begins at the edge holds nothing and averages to NaN, 0 / 0; past it Caffe's count is negative.
    with np.errstate(invalid="ignore"):
        return np.add.reduce(cells(place(x, at.before, at.after, 0.0))) / np.outer(inside(0), inside(1))
