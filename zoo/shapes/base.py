"""What the families ask of the activations that a layer reads."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.axes import shape_text
from zoo.errors import SpecError
from zoo.layers import Layer, Shape

_TOLD = {1: "one activation", 2: "two activations", 3: "three activations"}


def inputs_of(layer: Layer, inputs: Sequence[Shape], count: int) -> Sequence[Shape]:
    """The shapes of the activations, which must be so many."""
    if len(inputs) != count:
        raise SpecError(layer.name, f"{type(layer).__name__} reads {_TOLD[count]}, got {len(inputs)}")
    return inputs


def one_input(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """The shape of the one activation that is read."""
    return inputs_of(layer, inputs, 1)[0]


def check_image(layer: Layer, shape: Shape) -> None:
    """Refuse what is not C x H x W."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")


def check_channels(layer: Layer, shape: Shape) -> None:
    """Refuse what has the first axis alone."""
    if not shape:
        raise SpecError(layer.name, "needs N x C and more, got one axis alone")


def resized(shape: Shape, axis: int, size: int) -> Shape:
    """A shape with another size of one axis; axis 0, the batch, is not in it."""
    return (*shape[: axis - 1], size, *shape[axis:]) if axis else shape
