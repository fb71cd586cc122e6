"""The oracle: a NumPy float64 forward pass that *defines* every layer kind.

Written for plainness, a file a family of kinds; each function can be held against the formula in the docstring of its
kind in `zoo.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo import layers
from zoo.arrays import Array
from zoo.layers import Layer, ModelSpec
from zoo.parameters import parameters_of
from zoo.reference import detecting, normalising, pointwise, pooling, shaping, weighted
from zoo.reference.arrays import Float64

__all__ = ["apply", "forward"]


def forward(
    spec: ModelSpec,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    known: Mapping[str, Float64] | None = None,
) -> dict[str, Float64]:
    """Run `spec` at inference in float64.

    Args:
        spec: the network.
        weights: canonical name -> array; any float type.
        inputs: input name -> batch, N x shape.
        known: activations that need not be computed again.

    Returns:
        Every layer's activation under its name, float64, N x shape.
    """
    activations: dict[str, Float64] = {name: np.asarray(x, np.float64) for name, x in inputs.items()}
    activations |= known or {}
    wiring = spec.wiring()
    for layer in spec.layers:
        if layer.name in activations:
            continue
        reads = [activations[name] for name in wiring[layer.name]]
        activations[layer.name] = apply(layer, reads, parameters_of(weights, layer.name))
    return {layer.name: activations[layer.name] for layer in spec.layers}


def apply(layer: Layer, inputs: Sequence[Float64], parameters: Mapping[str, Array]) -> Float64:
    """One layer.

    Args:
        layer: its description.
        inputs: float64 activations it reads, N x shape each.
        parameters: its own by their `zoo.parameters.Role`, as the kind has them.
    """
    if isinstance(layer, layers.Weighted):
        return weighted.apply(layer, inputs[0], parameters)
    if isinstance(layer, layers.Pooling):
        return pooling.apply(layer, inputs)
    if isinstance(layer, layers.Normalising):
        return normalising.apply(layer, inputs[0], parameters)
    if isinstance(layer, layers.Pointwise):
        return pointwise.apply(layer, inputs, parameters)
    if isinstance(layer, layers.Detecting):
        return detecting.apply(layer, inputs)
    return shaping.apply(layer, inputs, parameters)
