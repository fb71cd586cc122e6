"""What the families' rows need to know of a layer's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.axes import axis_index
from zoo.frameworks.keras.calls import Axis, Value, Word
from zoo.layers import Layer, Pair, Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where a layer stands in its network, as far as its row depends on that.

    Attributes:
        shapes: of the activations it reads, without the batch axis.
        shape: of its own.
        initializers: ``kernel_initializer`` and ``bias_initializer``, where they are not what Keras starts from.
        outputs: how many outputs a convolution or dense layer has; the classifier's are an argument.
    """

    shapes: Sequence[Shape]
    shape: Shape
    initializers: Mapping[str, Value]
    outputs: int | Word


def native_axis(layer: Layer, axis: int, shape: Shape) -> Value:
    """Where a canonical axis lies in Keras' activation."""
    index = axis_index(layer.name, axis, shape)
    return Axis(index) if len(shape) == 3 and index else index


def channel_axis(shape: Shape) -> Value:
    """Where the channels lie."""
    return Axis(1) if len(shape) == 3 else 1


def short(pair: Pair) -> int | Pair:
    """One number where both sides are equal."""
    return pair[0] if pair[0] == pair[1] else pair
