"""Shapes in words, and axes as Caffe counts them: the batch is axis 0, negative ones count from the end."""

from __future__ import annotations

from zoo.errors import SpecError
from zoo.layers import Bias, Scale, Shape


def shape_text(shape: Shape) -> str:
    """``3 x 227 x 227``."""
    return " x ".join(map(str, shape)) or "nothing"


def axis_index(layer: str, axis: int, shape: Shape) -> int:
    """An axis counted from the batch (0), made non-negative and checked against the rank."""
    rank = len(shape) + 1
    if not -rank <= axis < rank:
        raise SpecError(layer, f"axis {axis} does not exist in a batch of {shape_text(shape)}")
    return axis % rank


def item_axis(layer: str, axis: int, shape: Shape) -> int:
    """`axis_index` of an axis that cannot be the batch, which stays open."""
    index = axis_index(layer, axis, shape)
    if index == 0:
        raise SpecError(layer, "axis 0 is the batch, which stays open; axis must be at least 1")
    return index


def affine_shape(layer: Scale | Bias, shape: Shape) -> Shape:
    """The shape of the parameter a one-input `Scale` or `Bias` broadcasts over its input."""
    axis = axis_index(layer.name, layer.axis, shape)
    if axis == 0:
        raise SpecError(layer.name, "a parameter cannot span the batch axis; axis must be at least 1")
    end = len(shape) if layer.num_axes == -1 else axis - 1 + layer.num_axes
    if end > len(shape):
        raise SpecError(
            layer.name, f"num_axes {layer.num_axes} from axis {axis} exceeds a batch of {shape_text(shape)}"
        )
    return shape[axis - 1 : end]
