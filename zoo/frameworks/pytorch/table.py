"""The table: layer kind -> the module call that makes it; run by `network`, printed by `source`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo import layers
from zoo.frameworks.pytorch import detecting, normalising, pointwise, pooling, shaping, weighted
from zoo.frameworks.pytorch.calls import Call
from zoo.layers import Layer, ModelSpec, Shape
from zoo.shapes import activation_shapes


def call(layer: Layer, inputs: Sequence[Shape]) -> Call:
    """The table.

    Args:
        layer: what to make.
        inputs: the shapes of the activations it reads, without the batch axis.
    """
    if isinstance(layer, layers.Weighted):
        return weighted.call(layer, inputs[0])
    if isinstance(layer, layers.Pooling):
        return pooling.call(layer, inputs)
    if isinstance(layer, layers.Normalising):
        return normalising.call(layer, inputs[0])
    if isinstance(layer, layers.Pointwise):
        return pointwise.call(layer, inputs)
    if isinstance(layer, layers.Detecting):
        return detecting.call(layer, inputs)
    return shaping.call(layer, inputs)


def network_calls(spec: ModelSpec) -> dict[str, Call]:
    """Layer -> its call, in the order of the network."""
    shapes, wiring = activation_shapes(spec), spec.wiring()
    return {layer.name: call(layer, [shapes[name] for name in wiring[layer.name]]) for layer in spec.layers}
