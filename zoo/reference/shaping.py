"""Reshaping, joining, cutting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.errors import SpecError
from zoo.layers import Concat, Constant, Crop, Flatten, Permute, Reshape, Shaping, Shuffle, Slice, Tile
from zoo.reference.arrays import Float64
from zoo.shapes import cuts, first_cut, permutation, reshaped


def apply(layer: Shaping, inputs: Sequence[Float64], parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    if isinstance(layer, Constant):
        numbers = np.full(layer.shape, layer.value, float) if layer.value is not None else parameters["weight"]
        return np.broadcast_to(numbers, (len(inputs[0]), *layer.shape)) if inputs else np.asarray(numbers, float)
    x = inputs[0]
    match layer:
        case Flatten():
            first, last = layer.axis % x.ndim, layer.end_axis % x.ndim
            return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])
        case Concat():
            return np.concatenate(inputs, axis=layer.axis)
        case Slice():
            if layer.stop > x.shape[layer.axis]:
                raise SpecError(layer.name, f"cannot take {layer.start}:{layer.stop} of a batch of {len(x)}")
            return np.take(x, range(layer.start, layer.stop), axis=layer.axis)
        case Reshape():
            return x.reshape(-1, *reshaped(layer, x.shape[1:]))
        case Permute():
            return np.transpose(x, permutation(layer, x.shape[1:]))
        case Crop():
            start = first_cut(layer, x.shape[1:])
            first = slice(None) if start is None else slice(start, start + len(inputs[1]))
            return x[(first, *(slice(*cut) for cut in cuts(layer, [one.shape[1:] for one in inputs])))]
        case Shuffle():
            channels = x.reshape(len(x), layer.groups, -1, *x.shape[2:])
            return channels.swapaxes(1, 2).reshape(x.shape)
        case Tile():
            return np.concatenate([x] * layer.tiles, axis=layer.axis)
        case _:
            assert_never(layer)
