"""What reaches across the batch, which is an axis like others to Caffe, and which our own networks leave open."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from zoo import layers
from zoo.axes import axis_index
from zoo.layers import Layer, Shape


def leaves_no_axis(layer: layers.Reshape, batch: int, shape: Shape) -> bool:
    """Whether a Reshape makes a single number of a blob that holds one."""
    rank = len(shape) + 1
    whole = layer.axis in (0, -rank - 1) and layer.num_axes in (-1, rank)
    return whole and not layer.dims and batch * prod(shape) == 1


def by_numbers(layer: layers.Reshape, batch: int, shape: Shape) -> layers.Reshape:
    """A Reshape from axis 0 on as one that leaves the batch open, where the prototxt's own settles what it makes.

    A batch given by its number becomes a 0, which any batch fits. Axes before the batch, and what is left beside
    another first size, become numbers; no axis at all is a number an item; what fits no batch is left, to be refused.
    """
    dims, full = layer.dims, (batch, *shape)
    if leaves_no_axis(layer, batch, shape):
        return replace(layer, dims=(0,), axis=0, num_axes=-1)
    before = not dims or layer.num_axes == 0
    if layer.axis not in (0, -len(full) - 1):
        return layer
    if dims[:1] == (batch,) and not before:
        return replace(layer, dims=(0, *dims[1:]))
    if not before and (dims[0] < 1 or -1 not in dims):
        return layer
    end = len(full) if layer.num_axes == -1 else layer.num_axes
    copied = (*full, *[0] * len(dims))  # a 0 behind the last axis copies nothing
    made = [*(size or copied[i] for i, size in enumerate(dims)), *full[end:]]
    if made.count(-1) == 1 and prod(made):
        made[made.index(-1)] = prod(full) // -prod(made)
    if not made or prod(made) != prod(full):
        return layer
    return replace(layer, dims=(0 if made[0] == batch else made[0], *made[1:]), axis=0, num_axes=-1)


def across_batch(layer: Layer, shape: Shape) -> Layer | None:
    """A layer to which the batch is an axis like others, one axis further on, where a longer batch has one more.

    Args:
        layer: the layer.
        shape: of what it reads first, without the batch axis.

    Returns:
        None where it does not reach across the batch.
    """
    match layer:
        case layers.Permute(order=order) if order[:1] != (0,):
            return replace(layer, order=(0, *(axis + 1 for axis in order)))
        case layers.Dense() | layers.Reduction() if axis_index(layer.name, layer.axis, shape) == 0:
            return replace(layer, axis=1)
        case layers.Scale() | layers.Bias() if (
            len(layer.inputs) == 1 and axis_index(layer.name, layer.axis, shape) == 0
        ):
            return replace(layer, axis=1)
        case layers.Scale(bias=True) if len(layer.inputs) == 2 and axis_index(layer.name, layer.axis, shape) == 0:
            return replace(layer, axis=0)  # the second has one more axis as well, and is laid on from it on
        case _:
            return None
