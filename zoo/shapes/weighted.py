"""Convolutions and dense layers."""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo import layers
from zoo.axes import axis_index, item_axis
from zoo.errors import SpecError
from zoo.layers import Conv, Deconv, Pair, Shape
from zoo.parameters import Parameter, kernel, offset
from zoo.shapes.base import check_image
from zoo.shapes.window import window


def output_shape(layer: layers.Weighted, shape: Shape) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    match layer:
        case Conv():
            place = window(layer, shape)
            _check_groups(layer, shape)
            return (layer.out_channels, *place.out)
        case Deconv():
            return (layer.out_channels, *deconv_size(layer, shape))
        case layers.Dense():
            axis = item_axis(layer.name, layer.axis, shape)
            if layer.out_features < 1:
                raise SpecError(layer.name, f"out_features must be positive, got {layer.out_features}")
            return (*shape[: axis - 1], layer.out_features)
        case layers.Embed():
            if min(layer.rows, layer.out_features) < 1:
                raise SpecError(layer.name, f"needs rows and numbers, got {layer.rows} x {layer.out_features}")
            return (*shape, layer.out_features)
        case _:
            assert_never(layer)


def parameters(layer: layers.Weighted, shape: Shape) -> tuple[Parameter, ...]:
    """The family's part of `zoo.shapes.layer_parameters`."""
    match layer:
        case Conv():
            weight, outs = kernel((layer.out_channels, shape[0] // layer.groups, *layer.kernel)), layer.out_channels
        case Deconv():
            weight, outs = kernel((shape[0], layer.out_channels // layer.groups, *layer.kernel)), layer.out_channels
        case layers.Dense():
            read = shape[axis_index(layer.name, layer.axis, shape) - 1 :]
            weight, outs = kernel((layer.out_features, prod(read))), layer.out_features
        case layers.Embed():
            weight, outs = kernel((layer.rows, layer.out_features)), layer.out_features
        case _:
            assert_never(layer)
    return (weight, offset((outs,))) if layer.bias else (weight,)


def deconv_size(layer: Deconv, shape: Shape) -> Pair:
    """Height and width of what a `Deconv` makes of a (C, H, W) input."""
    check_image(layer, shape)
    if min(*layer.kernel, *layer.stride, *layer.dilation) < 1 or min(layer.pad) < 0:
        raise SpecError(layer.name, "kernel, stride and dilation must be at least 1, pad at least 0")
    _check_groups(layer, shape)
    sides = zip(shape[1:], layer.kernel, layer.stride, layer.pad, layer.dilation, strict=True)
    height, width = (s * (n - 1) + d * (k - 1) + 1 - 2 * p for n, k, s, p, d in sides)
    if min(height, width) < 1:
        raise SpecError(layer.name, f"pad {layer.pad} leaves nothing: {height} x {width}")
    return height, width


def _check_groups(layer: Conv | Deconv, shape: Shape) -> None:
    if layer.groups < 1 or shape[0] % layer.groups or layer.out_channels % layer.groups or layer.out_channels < 1:
        raise SpecError(layer.name, f"{layer.groups} groups do not divide {shape[0]} -> {layer.out_channels} channels")
