"""Reshaping, joining and cutting."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import assert_never

from zoo import layers
from zoo.axes import axis_index, shape_text
from zoo.errors import SpecError
from zoo.layers import Concat, Crop, Permute, Reshape, Shape, Slice, Tile
from zoo.parameters import Parameter, factor
from zoo.shapes.base import check_channels, inputs_of, one_input, resized


def output_shape(layer: layers.Shaping, inputs: Sequence[Shape]) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    match layer:
        case layers.Constant():
            if len(inputs) > 1 or min(layer.shape, default=0) < 1:
                raise SpecError(layer.name, "needs a shape of positive sizes, and reads one activation at most")
            return layer.shape if inputs else layer.shape[1:]
        case Concat():
            return _concat_shape(layer, inputs)
        case Crop():
            return tuple(stop - start for start, stop in cuts(layer, inputs_of(layer, inputs, 2)))
        case layers.Flatten():
            shape = one_input(layer, inputs)
            first, last = axis_index(layer.name, layer.axis, shape), axis_index(layer.name, layer.end_axis, shape)
            if first > last:
                raise SpecError(layer.name, f"cannot flatten axes {first} to {last}")
            return shape[last:] if first == 0 else (*shape[: first - 1], prod(shape[first - 1 : last]), *shape[last:])
        case Reshape():
            return reshaped(layer, one_input(layer, inputs))
        case Permute():
            shape = one_input(layer, inputs)
            return tuple(shape[axis - 1] for axis in permutation(layer, shape)[1:])
        case layers.Shuffle():
            shape = one_input(layer, inputs)
            check_channels(layer, shape)
            if layer.groups < 1 or shape[0] % layer.groups:
                raise SpecError(layer.name, f"{layer.groups} groups do not divide {shape[0]} channels")
            return shape
        case Tile():
            return _tile_shape(layer, one_input(layer, inputs))
        case Slice():
            return _slice_shape(layer, one_input(layer, inputs))
        case _:
            assert_never(layer)


def parameters(layer: layers.Shaping) -> tuple[Parameter, ...]:
    """The family's part of `zoo.shapes.layer_parameters`."""
    match layer:
        case layers.Constant():
            return (factor(layer.shape),) if layer.value is None else ()
        case Concat() | Crop() | layers.Flatten() | Reshape() | Permute() | layers.Shuffle() | Tile() | Slice():
            return ()
        case _:
            assert_never(layer)


def _tile_shape(layer: Tile, shape: Shape) -> Shape:
    axis = axis_index(layer.name, layer.axis, shape)
    if layer.tiles < 1:
        raise SpecError(layer.name, f"tiles must be at least 1, got {layer.tiles}")
    return resized(shape, axis, shape[axis - 1] * layer.tiles) if axis else shape


def _slice_shape(layer: Slice, shape: Shape) -> Shape:
    axis = axis_index(layer.name, layer.axis, shape)
    if not 0 <= layer.start < layer.stop or (axis and layer.stop > shape[axis - 1]):
        raise SpecError(layer.name, f"cannot take {layer.start}:{layer.stop} of axis {axis} of {shape_text(shape)}")
    return resized(shape, axis, layer.stop - layer.start)


def _concat_shape(layer: Concat, inputs: Sequence[Shape]) -> Shape:
    shape = inputs[0]
    axis = axis_index(layer.name, layer.axis, shape)

    def rest(other: Shape) -> Shape:
        return other if axis == 0 else (*other[: axis - 1], -1, *other[axis:])

    if any(len(other) != len(shape) or rest(other) != rest(shape) for other in inputs):
        raise SpecError(layer.name, f"inputs do not join along axis {axis}: {', '.join(map(shape_text, inputs))}")
    return shape if axis == 0 else resized(shape, axis, sum(other[axis - 1] for other in inputs))


def cuts(layer: Crop, inputs: Sequence[Shape]) -> list[tuple[int, int]]:
    """Where a `Crop` begins and ends, an axis after the batch each; along the batch see `first_cut`."""
    shape, size = inputs
    axis = axis_index(layer.name, layer.axis, shape)
    offsets = layer.offsets if len(layer.offsets) != 1 else layer.offsets * (len(shape) + 1 - axis)
    offsets = offsets or (0,) * (len(shape) + 1 - axis)
    if len(size) != len(shape) or len(offsets) != len(shape) + 1 - axis:
        told = f"{len(layer.offsets)} offsets from axis {axis}"
        raise SpecError(layer.name, f"cannot crop {shape_text(shape)} to {shape_text(size)} with {told}")
    if axis == 0:
        offsets, axis = offsets[1:], 1
    found = [(0, side) for side in shape[: axis - 1]]
    found += [(start, start + side) for start, side in zip(offsets, size[axis - 1 :], strict=True)]
    if any(start < 0 or stop > side for (start, stop), side in zip(found, shape, strict=True)):
        raise SpecError(layer.name, f"offsets {offsets} and {shape_text(size)} reach past {shape_text(shape)}")
    return found


def first_cut(layer: Crop, shape: Shape) -> int | None:
    """Where a `Crop` to the size of its second input begins along the first axis; None where that is left whole."""
    if axis_index(layer.name, layer.axis, shape) != 0:
        return None
    return layer.offsets[0] if layer.offsets else 0


def reshaped(layer: Reshape, shape: Shape) -> Shape:
    """What a `Reshape` makes of a shape, both without the batch axis."""
    rank = len(shape) + 1
    start = layer.axis if layer.axis >= 0 else layer.axis + rank + 1
    end = rank if layer.num_axes == -1 else start + layer.num_axes
    if not 0 <= start <= end <= rank:
        told = f"axes {layer.axis} and {layer.num_axes} more"
        raise SpecError(layer.name, f"{told} do not exist in a batch of {shape_text(shape)}")
    dims = list(layer.dims)
    told = f"{shape_text(shape)} to dims {' '.join(map(str, dims)) or 'none'}"
    if any(dim < -1 or (dim == 0 and start + i >= rank) for i, dim in enumerate(dims)) or dims.count(-1) > 1:
        raise SpecError(layer.name, f"cannot reshape {told}: of each axis a size, 0 for the same, or once -1")
    # The batch is open: it is kept, or it becomes whatever the others leave.
    first, rest = dims[0] if start == 0 and dims else 0, dims[1:] if start == 0 else dims
    if start == 0 and (not dims or end == 0):
        raise SpecError(layer.name, f"cannot reshape {told}: the batch must keep the first place")
    at = max(start, 1)
    items = (1, *shape)
    made = [*items[1:start], *(items[at + i] if dim == 0 else dim for i, dim in enumerate(rest)), *items[end:]]
    if -1 in made and first == 0:
        made[made.index(-1)] = prod(shape) // -prod(made) if prod(made) else 0
    if min(made, default=1) < 1 or (first == 0 and prod(made) != prod(shape)):
        raise SpecError(layer.name, f"cannot reshape {told}: as many numbers must come out, an item of the batch each")
    return tuple(made)


def permutation(layer: Permute, shape: Shape) -> tuple[int, ...]:
    """The whole order of a `Permute`, the batch included."""
    rank, order = len(shape) + 1, layer.order
    if len(set(order)) != len(order) or any(not 0 <= axis < rank for axis in order):
        raise SpecError(layer.name, f"order {order} names an axis twice, or one that N x {shape_text(shape)} has not")
    full = (*order, *(axis for axis in range(rank) if axis not in order))
    if full[0] != 0:
        raise SpecError(layer.name, f"order {full} moves the batch, which stays open; it must begin with 0")
    return full
