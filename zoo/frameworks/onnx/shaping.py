"""Reshaping, joining and cutting."""

from __future__ import annotations

from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.onnx.builder import Builder, reshape_last
from zoo.layers import Concat, Flatten, Shape, Shaping, Slice


def add(g: Builder, layer: Shaping, inputs: tuple[str, ...], shapes: list[Shape], shape: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    match layer:
        case Flatten():
            reshape_last(g, layer, inputs[0], shape)
        case Concat():
            g.last(layer, "Concat", *inputs, axis=axis_index(layer.name, layer.axis, shape))
        case Slice():
            start, stop = g.integers(layer, "start", layer.start), g.integers(layer, "stop", layer.stop)
            axis = g.integers(layer, "axis", axis_index(layer.name, layer.axis, shapes[0]))
            g.last(layer, "Slice", inputs[0], start, stop, axis)
        case _:
            assert_never(layer)
