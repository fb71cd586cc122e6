"""How long the first axis of an activation is: that of what is read, for most kinds, but not for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from zoo import layers
from zoo.axes import axis_index
from zoo.layers import Layer, ModelSpec, Shape


def kept_from(layer: Layer, inputs: Sequence[Shape], shape: Shape) -> int | None:
    """The place of the input whose first axis a layer keeps; None where it makes one of its own.

    Args:
        layer: the layer.
        inputs: the shapes of what it reads, without the first axis.
        shape: that of its own activation.
    """
    match layer:
        case layers.ROIPool() | layers.PSROIPool():
            return 1
        case layers.PriorBox() | layers.DetectionOutput():
            return None
        case layers.Constant():
            return 0 if inputs else None
        case layers.Flatten() | layers.Reshape():
            return 0 if prod(inputs[0]) == prod(shape) else None
        case layers.ArgMax(axis=None):
            return 0
        case (
            layers.ArgMax(axis=int(axis))
            | layers.Concat(axis=axis)
            | layers.Slice(axis=axis)
            | layers.Tile(axis=axis)
            | layers.Crop(axis=axis)
        ):
            return 0 if axis_index(layer.name, axis, inputs[0]) else None
        case _:
            return 0


def first_axis(layer: Layer, sizes: Sequence[int], inputs: Sequence[Shape], shape: Shape) -> int:
    """How long a layer's first axis is, from those of what it reads."""
    kept = kept_from(layer, inputs, shape)
    if kept is not None:
        return sizes[kept]
    match layer:
        case layers.Constant():
            return layer.shape[0]
        case layers.ArgMax():
            return layer.top_k
        case layers.Concat():
            return sum(sizes)
        case layers.Slice():
            return min(layer.stop, sizes[0]) - layer.start
        case layers.Tile():
            return sizes[0] * layer.tiles
        case layers.Crop():
            return sizes[1]
        case layers.Flatten() | layers.Reshape():
            return sizes[0] * prod(inputs[0]) // prod(shape)
        case _:
            return 1


def mixes_items(layer: Layer, inputs: Sequence[Shape]) -> bool:
    """Whether what a layer makes of an item depends on the others of its batch, though it keeps them all."""
    match layer:
        case layers.BatchNorm():
            return layer.batch_stats
        case layers.Softmax():
            return axis_index(layer.name, layer.axis, inputs[0]) == 0
        case layers.Scale() | layers.Bias() if len(inputs) == 2:
            return axis_index(layer.name, layer.axis, inputs[0]) != 0  # the second has no items
        case _:
            return False


def keeps_items(spec: ModelSpec, shapes: Mapping[str, Shape]) -> bool:
    """Whether every activation holds one item for each of the inputs', in their order and made of it alone."""
    wiring = spec.wiring()
    reads = {layer.name: [shapes[name] for name in wiring[layer.name]] for layer in spec.layers}
    return all(
        kept_from(layer, reads[layer.name], shapes[layer.name]) == 0 and not mixes_items(layer, reads[layer.name])
        for layer in spec.layers
    )
