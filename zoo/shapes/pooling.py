"""Pooling, resizing and reductions."""

from __future__ import annotations

from math import prod
from typing import assert_never

from zoo import layers
from zoo.axes import item_axis, shape_text
from zoo.errors import SpecError
from zoo.layers import ArgMax, Interp, Pair, Shape
from zoo.shapes.base import check_image
from zoo.shapes.window import window


def output_shape(layer: layers.Pooling, shape: Shape) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    match layer:
        case layers.Pool():
            place = window(layer, shape)
            return (shape[0], *place.out)
        case Interp():
            size = interp_size(layer, shape)
            return (shape[0], *size)
        case layers.Reduction():
            return shape[: item_axis(layer.name, layer.axis, shape) - 1]
        case ArgMax():
            return _arg_max_shape(layer, shape)
        case _:
            assert_never(layer)


def interp_size(layer: Interp, shape: Shape) -> Pair:
    """Height and width of what an `Interp` makes of a (C, H, W) input."""
    check_image(layer, shape)
    cut = layer.pad_beg + layer.pad_end
    if max(layer.pad_beg, layer.pad_end) > 0 or min(shape[1:]) + cut < 1 or min(layer.zoom, layer.shrink) < 1:
        raise SpecError(layer.name, "pads must be at most 0 and leave something, zoom and shrink at least 1")
    sides = [side + cut for side in shape[1:]]
    if layer.size is not None and (layer.zoom == 1) == (layer.shrink == 1):
        sides = [*layer.size]
    else:
        shrunk = [(side - 1) // layer.shrink + 1 for side in sides]
        sides = [side + (side - 1) * (layer.zoom - 1) for side in shrunk]
    if min(sides) < 1:
        raise SpecError(layer.name, f"height and width must be positive, got {shape_text(tuple(sides))}")
    return sides[0], sides[1]


def _arg_max_shape(layer: ArgMax, shape: Shape) -> Shape:
    axis = None if layer.axis is None else item_axis(layer.name, layer.axis, shape)
    size = prod(shape) if axis is None else shape[axis - 1]
    if not 1 <= layer.top_k <= size:
        raise SpecError(layer.name, f"top_k must be 1 to {size}, got {layer.top_k}")
    if axis is None:
        return (2 if layer.out_max_val else 1, layer.top_k, *[1] * (len(shape) - 2))
    return (*shape[: axis - 1], layer.top_k, *shape[axis:])
