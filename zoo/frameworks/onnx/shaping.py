"""Reshaping, joining and cutting."""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.onnx.builder import Builder, reshape_last
from zoo.layers import Concat, Constant, Crop, Flatten, Permute, Reshape, Shape, Shaping, Shuffle, Slice, Tile
from zoo.shapes import cuts, first_cut, permutation


def add(g: Builder, layer: Shaping, inputs: tuple[str, ...], shapes: list[Shape], shape: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    if isinstance(layer, Constant):
        _constant(g, layer, inputs)
        return
    match layer:
        case Flatten() | Reshape() if prod(shape) == prod(shapes[0]):
            reshape_last(g, layer, inputs[0], shape)
        case Flatten() | Reshape():
            g.last(layer, "Reshape", inputs[0], g.integers(layer, "shape", -1, *shape))
        case Concat():
            g.last(layer, "Concat", *inputs, axis=axis_index(layer.name, layer.axis, shape))
        case Slice():
            axis = axis_index(layer.name, layer.axis, shapes[0])
            g.slice(layer, "", inputs[0], [layer.start], [layer.stop], [axis])
        case Permute():
            g.last(layer, "Transpose", inputs[0], perm=permutation(layer, shapes[0]))
        case Crop():
            _crop(g, layer, inputs, shapes)
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


def _crop(g: Builder, layer: Crop, inputs: tuple[str, ...], shapes: list[Shape]) -> None:
    found, first = cuts(layer, shapes), first_cut(layer, shapes[0])
    starts, stops = [start for start, _ in found], [stop for _, stop in found]
    axes = range(1, len(found) + 1)
    if first is None:
        g.slice(layer, "", inputs[0], starts, stops, axes)
        return
    g.needs(layer, 10, "a Slice by computed sizes")
    cut = g.slice(layer, "cut", inputs[0], starts, stops, axes) if found else inputs[0]
    zero, start = g.integers(layer, "batch", 0), g.integers(layer, "first", first)
    size = g.step(layer, "items", "Gather", g.step(layer, "size", "Shape", inputs[1]), zero)
    g.last(layer, "Slice", cut, start, g.step(layer, "end", "Add", size, start), zero)


def _constant(g: Builder, layer: Constant, inputs: tuple[str, ...]) -> None:
    size = g.integers(layer, "size", *layer.shape)
    value = f"{layer.name}.weight" if layer.value is None else g.floats(layer, "value", layer.value)
    if inputs:
        shape = g.step(layer, "beside", "Shape", inputs[0])
        batch = g.step(layer, "batch", "Gather", shape, g.integers(layer, "first", 0))
        size = g.step(layer, "whole", "Concat", batch, size, axis=0)
    g.last(layer, "Expand", value, size)
