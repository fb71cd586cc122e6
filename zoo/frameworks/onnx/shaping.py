"""Reshaping, joining and cutting."""

from __future__ import annotations

from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.onnx.builder import Builder, reshape_last
from zoo.layers import Concat, Crop, Flatten, Permute, Reshape, Shape, Shaping, Shuffle, Slice, Tile
from zoo.shapes import cuts, permutation


def add(g: Builder, layer: Shaping, inputs: tuple[str, ...], shapes: list[Shape], shape: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    match layer:
        case Flatten() | Reshape():
            reshape_last(g, layer, inputs[0], shape)
        case Concat():
            g.last(layer, "Concat", *inputs, axis=axis_index(layer.name, layer.axis, shape))
        case Slice():
            axis = axis_index(layer.name, layer.axis, shapes[0])
            g.slice(layer, "", inputs[0], [layer.start], [layer.stop], [axis])
        case Permute():
            g.last(layer, "Transpose", inputs[0], perm=permutation(layer, shapes[0]))
        case Crop():
            starts, stops = zip(*cuts(layer, shapes), strict=True)
            g.slice(layer, "", inputs[0], starts, stops, range(1, len(shape) + 1))
        case Shuffle():
            groups = g.reshape(layer, "groups", inputs[0], -1, layer.groups, shape[0] // layer.groups, *shape[1:])
            turns = g.step(layer, "turns", "Transpose", groups, perm=(0, 2, 1, *range(3, len(shape) + 2)))
            g.last(layer, "Reshape", turns, g.integers(layer, "shape", -1, *shape))
        case Tile():
            axis = axis_index(layer.name, layer.axis, shape)
            times = g.integers(layer, "times", *(layer.tiles if i == axis else 1 for i in range(len(shape) + 1)))
            g.last(layer, "Tile", inputs[0], times)
        case _:
            assert_never(layer)
