"""What the families' calls need to know of a layer's place, and how activations lie in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.axes import axis_index
from zoo.frameworks.tf_slim.calls import Activation, Expression, call
from zoo.layers import Layer, Pair, Shape
from zoo.parameters import Parameter
from zoo.shapes import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where a layer stands in its network, as far as its call depends on that.

    Attributes:
        scope: of its variables and operations.
        inputs: the activations it reads.
        shapes: theirs, without the batch axis.
        shape: of its own.
        on_map: whether the vector it reads is an N x 1 x 1 x C tensor.
        keeps_map: whether its own is to stay one.
        is_head: whether it is the classifier, whose outputs are the function's ``num_classes``.
        dropout: the ratio that ``dropout_keep_prob`` stands for.
        initializers: the options of its call for initial values that are not the arg_scope's.
    """

    scope: str
    inputs: Sequence[Activation]
    shapes: Sequence[Shape]
    shape: Shape
    on_map: bool
    keeps_map: bool
    is_head: bool
    dropout: float
    initializers: Mapping[str, Expression]


# Where the axes N, C, H, W of an image are found in TensorFlow's N, H, W, C.
_IMAGE_AXES = (0, 3, 1, 2)
_TO_CANONICAL, _TO_NATIVE = [0, 3, 1, 2], [0, 2, 3, 1]


def pair(sides: Pair) -> Expression:
    """One number where both sides are equal."""
    return sides[0] if sides[0] == sides[1] else [*sides]


def native_axis(layer: Layer, axis: int, shape: Shape) -> int:
    """Where a canonical axis lies in TensorFlow's activation."""
    index = axis_index(layer.name, axis, shape)
    return _IMAGE_AXES[index] if len(shape) == 3 else index


def canonical(x: Expression, shape: Shape) -> Expression:
    """An activation in canonical layout."""
    return call("tf.transpose", x, _TO_CANONICAL) if len(shape) == 3 else x


def native(x: Expression, shape: Shape) -> Expression:
    """The inverse of `canonical`."""
    return call("tf.transpose", x, _TO_NATIVE) if len(shape) == 3 else x


def padded(x: Expression, place: Window, value: Expression = None) -> Expression:
    """`x` with explicit borders."""
    if not any(map(any, place.pads)):
        return x
    return call("tf.pad", x, [[0, 0], *map(list, place.pads), [0, 0]], constant_values=value)


def parameter(name: str, row: Parameter, axis: int, shape: Shape) -> Expression:
    """A parameter as a variable, broadcast along an activation of `shape` from `axis` on."""
    initializer = call("tf.constant_initializer", 0.0 if row.start == "offset" else row.start)
    return beside(call("slim.model_variable", name, [*row.shape], initializer=initializer), axis, row.shape, shape)


def beside(value: Expression, axis: int, size: Shape, shape: Shape) -> Expression:
    """A parameter of `size`, broadcast along an activation of `shape` from an axis on."""
    if len(shape) == 3 and axis == 1 and len(size) == 1:
        return value  # a number a channel, and channels are last
    full = [*[1] * axis, *size, *[1] * (len(shape) + 1 - axis - len(size))]
    return native(call("tf.reshape", value, full), shape)


def activation_beside(value: Expression, axis: int, size: Shape, shape: Shape) -> Expression:
    """An activation of `size`, its first axis laid along an axis of another of `shape`, broadcast behind its last."""
    if axis == 0 and size == shape:
        return value
    full = [*[1] * axis, -1, *size, *[1] * (len(shape) - axis - len(size))]
    return native(call("tf.reshape", canonical(value, size), full), shape)
