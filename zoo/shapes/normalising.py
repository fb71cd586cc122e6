"""Normalisation."""

from __future__ import annotations

from typing import assert_never

from zoo import layers
from zoo.axes import axis_index, shape_text
from zoo.errors import SpecError
from zoo.layers import LRN, Shape
from zoo.parameters import Parameter, factor, statistics
from zoo.shapes.base import check_channels


def output_shape(layer: layers.Normalising, shape: Shape) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    if not isinstance(layer, layers.Softmax | layers.MVN):
        check_channels(layer, shape)
    match layer:
        case LRN():
            _check_lrn(layer, shape)
            return shape
        case layers.Normalize():
            _check_axes(layer, shape)
            return shape
        case layers.MVN():
            _check_axes(layer, shape)
            return (*shape, *[1] * (3 - len(shape)))
        case layers.Softmax():
            axis_index(layer.name, layer.axis, shape)
            return shape
        case layers.BatchNorm():
            return shape
        case _:
            assert_never(layer)


def parameters(layer: layers.Normalising, shape: Shape) -> tuple[Parameter, ...]:
    """The family's part of `zoo.shapes.layer_parameters`."""
    match layer:
        case layers.Normalize():
            return (factor(() if layer.shared else shape[:1]),)
        case layers.BatchNorm():
            return statistics(shape[:1])
        case LRN() | layers.MVN() | layers.Softmax():
            return ()
        case _:
            assert_never(layer)


def _check_lrn(layer: LRN, shape: Shape) -> None:
    if layer.size < 1 or layer.size % 2 == 0:
        raise SpecError(layer.name, f"the window must be odd, got size {layer.size}")
    if layer.region == "within" and (len(shape) != 3 or layer.towers != 1):
        raise SpecError(
            layer.name, f"a window within a map needs a C x H x W input and one tower, got {shape_text(shape)}"
        )
    if layer.towers < 1 or shape[0] % layer.towers:
        raise SpecError(layer.name, f"{layer.towers} towers do not divide {shape[0]} channels")


def _check_axes(layer: layers.MVN | layers.Normalize, shape: Shape) -> None:
    if len(shape) > 3:
        raise SpecError(layer.name, f"takes 4 axes at most with the batch, got N x {shape_text(shape)}")
