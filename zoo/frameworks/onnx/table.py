"""The table: layer kind -> ONNX operators, one node a layer wherever ONNX has the layer, named after it."""

from __future__ import annotations

from zoo import layers
from zoo.frameworks.onnx import detecting, normalising, pointwise, pooling, shaping, weighted
from zoo.frameworks.onnx.builder import Builder
from zoo.layers import Layer, Shape


def add_layer(g: Builder, layer: Layer, inputs: tuple[str, ...], shapes: list[Shape], shape: Shape) -> None:
    """Add one layer to the graph.

    Args:
        g: the graph so far.
        layer: what to add.
        inputs: the activations it reads.
        shapes: their shapes, without the batch axis.
        shape: the shape of its own activation.
    """
    if isinstance(layer, layers.Weighted):
        weighted.add(g, layer, inputs[0], shapes[0], shape)
    elif isinstance(layer, layers.Pooling):
        pooling.add(g, layer, inputs, shapes, shape)
    elif isinstance(layer, layers.Normalising):
        normalising.add(g, layer, inputs[0], shape)
    elif isinstance(layer, layers.Pointwise):
        pointwise.add(g, layer, inputs, shapes)
    elif isinstance(layer, layers.Detecting):
        detecting.add(g, layer, inputs, shapes)
    else:
        shaping.add(g, layer, inputs, shapes, shape)
