"""Reshaping, joining, cutting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from zoo.layers import Concat, Flatten, Permute, Reshape, Shaping, Slice, Tile
from zoo.reference.arrays import Float64
from zoo.shapes import permutation, reshaped


def apply(layer: Shaping, inputs: Sequence[Float64]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    x = inputs[0]
    match layer:
        case Flatten():
            first, last = layer.axis % x.ndim, layer.end_axis % x.ndim
            return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])
        case Concat():
            return np.concatenate(inputs, axis=layer.axis)
        case Slice():
            return np.take(x, range(layer.start, layer.stop), axis=layer.axis)
        case Reshape():
            return x.reshape(len(x), *reshaped(layer, x.shape[1:]))
        case Permute():
            return np.transpose(x, permutation(layer, x.shape[1:]))
        case Tile():
            return np.concatenate([x] * layer.tiles, axis=layer.axis)
        case _:
            assert_never(layer)
