"""Reshaping, joining and cutting as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from torch import nn

from zoo.axes import axis_index
from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call
from zoo.geometry import permutation, reshaped
from zoo.layers import Concat, Constant, Crop, Flatten, Permute, Reshape, Shape, Shaping, Shuffle, Slice, Tile


def call(layer: Shaping, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    if isinstance(layer, Constant):
        if layer.value is None:
            return Call(make=modules.Parameter, args=(layer.shape,))
        return Call(make=modules.Constant, args=(layer.value, layer.shape))
    shape = inputs[0]
    match layer:
        case Flatten():
            return Call(make=nn.Flatten, args=(layer.axis, layer.end_axis))
        case Concat():
            return Call(make=modules.Concat, args=(axis_index(layer.name, layer.axis, shape),))
        case Slice():
            return Call(make=modules.Slice, args=(axis_index(layer.name, layer.axis, shape), layer.start, layer.stop))
        case Reshape():
            return Call(make=modules.Reshape, args=(reshaped(layer, shape),))
        case Permute():
            return Call(make=modules.Permute, args=(permutation(layer, shape),))
        case Crop():
            return Call(make=modules.Crop, args=(axis_index(layer.name, layer.axis, shape), layer.offsets))
        case Shuffle():
            return Call(make=modules.Shuffle, args=(layer.groups,))
        case Tile():
            axis = axis_index(layer.name, layer.axis, shape)
            return Call(
                make=modules.Tile, args=(tuple(layer.tiles if i == axis else 1 for i in range(len(shape) + 1)),)
            )
        case _:
            assert_never(layer)
