"""Pooling, resizing and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import assert_never

from zoo import layers
from zoo.axes import axis_index, item_axis, shape_text
from zoo.errors import SpecError
from zoo.layers import ArgMax, Interp, Pair, Shape, Unpool
from zoo.parameters import Parameter
from zoo.shapes.base import check_image, inputs_of, one_input, resized
from zoo.shapes.window import window


def output_shape(layer: layers.Pooling, inputs: Sequence[Shape]) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    if isinstance(layer, Unpool):
        return _unpool_shape(layer, inputs)
    shape = one_input(layer, inputs)
    match layer:
        case layers.Pool() | layers.PoolMask():
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


def parameters(layer: layers.Pooling) -> tuple[Parameter, ...]:
    """The family's part of `zoo.shapes.layer_parameters`."""
    match layer:
        case layers.Pool() | layers.PoolMask() | Unpool() | Interp() | layers.Reduction() | ArgMax():
            return ()
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


def _unpool_shape(layer: Unpool, inputs: Sequence[Shape]) -> Shape:
    shape, places = inputs_of(layer, inputs, 2)
    if places != shape:
        told = " and ".join(map(shape_text, inputs))
        raise SpecError(layer.name, f"numbers and their places must have one shape, got {told}")
    return (shape[0], *unpooled(layer, shape))


def unpooled(layer: Unpool, shape: Shape) -> Pair:
    """Height and width of what an `Unpool` makes of a (C, H, W) input."""
    check_image(layer, shape)
    sides = zip(shape[1:], layer.scale, layer.pad_out, strict=True)
    height, width = layer.size or tuple(side * scale - pad for side, scale, pad in sides)
    if min(height, width) < 1 or min(layer.scale) < 1 or min(layer.pad_out) < 0:
        raise SpecError(layer.name, f"height and width must be positive, got {height} x {width}")
    return height, width


def _arg_max_shape(layer: ArgMax, shape: Shape) -> Shape:
    axis = None if layer.axis is None else axis_index(layer.name, layer.axis, shape)
    size = prod(shape) if axis is None else shape[axis - 1] if axis else layer.top_k
    if not 1 <= layer.top_k <= size:
        raise SpecError(layer.name, f"top_k must be 1 to {size}, got {layer.top_k}")
    if axis is None:
        return (2 if layer.out_max_val else 1, layer.top_k, *[1] * (len(shape) - 2))
    return resized(shape, axis, layer.top_k)
