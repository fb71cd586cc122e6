"""How long the first axis of an activation is: that of what is read, for most kinds, but not for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from zoo.axes import axis_index
from zoo.layers import (
    ArgMax,
    Concat,
    Constant,
    Crop,
    DetectionOutput,
    Flatten,
    Layer,
    ModelSpec,
    PriorBox,
    PSROIPool,
    Reshape,
    ROIPool,
    Shape,
    Slice,
    Tile,
)


def kept_from(layer: Layer, inputs: Sequence[Shape], shape: Shape) -> int | None:
    """The place of the input whose first axis a layer keeps; None where it makes one of its own.

    Args:
        layer: the layer.
        inputs: the shapes of what it reads, without the first axis.
        shape: that of its own activation.
    """
    match layer:
        case ROIPool() | PSROIPool():
            return 1
        case PriorBox() | DetectionOutput():
            return None
        case Constant():
            return 0 if inputs else None
        case Flatten() | Reshape():
            return 0 if prod(inputs[0]) == prod(shape) else None
        case ArgMax(axis=None):
            return 0
        case ArgMax(axis=int(axis)) | Concat(axis=axis) | Slice(axis=axis) | Tile(axis=axis) | Crop(axis=axis):
            return 0 if axis_index(layer.name, axis, inputs[0]) else None
        case _:
            return 0


def first_axis(layer: Layer, sizes: Sequence[int], inputs: Sequence[Shape], shape: Shape) -> int:
    """How long a layer's first axis is, from those of what it reads."""
    kept = kept_from(layer, inputs, shape)
    if kept is not None:
        return sizes[kept]
    match layer:
        case Constant():
            return layer.shape[0]
        case ArgMax():
            return layer.top_k
        case Concat():
            return sum(sizes)
        case Slice():
            return min(layer.stop, sizes[0]) - layer.start
        case Tile():
            return sizes[0] * layer.tiles
        case Crop():
            return sizes[1]
        case Flatten() | Reshape():
            return sizes[0] * prod(inputs[0]) // prod(shape)
        case _:
            return 1


def keeps_items(spec: ModelSpec, shapes: Mapping[str, Shape]) -> bool:
    """Whether every activation holds one item for each of the inputs', in their order."""
    wiring = spec.wiring()
    return all(
        kept_from(layer, [shapes[name] for name in wiring[layer.name]], shapes[layer.name]) == 0
        for layer in spec.layers
    )
