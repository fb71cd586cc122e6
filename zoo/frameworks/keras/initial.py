"""The initial values of the recipe, as Keras' initializers."""

from __future__ import annotations

from typing import assert_never

from zoo.frameworks.keras.calls import Initializer, Value
from zoo.layers import Layer, ModelSpec, Weighted
from zoo.recipe import Constant, Distribution, Normal, TruncatedNormal, Uniform, initial_values
from zoo.registry import recipe

_OPTIONS = {"weight": "kernel_initializer", "bias": "bias_initializer"}


def initializers(spec: ModelSpec) -> dict[str, dict[str, Value]]:
    """Layer -> its options for initial values; biases of 0 are Keras' own, and what is not drawn starts by itself."""
    found: dict[str, dict[str, Value]] = {layer.name: {} for layer in spec.layers}
    drawn: dict[str, Layer] = {layer.name: layer for layer in spec.layers if isinstance(layer, Weighted)}
    for name, (_, distribution) in initial_values(recipe(spec), spec).items():
        layer, _, role = name.rpartition(".")
        if layer in drawn and (role == "weight" or distribution != Constant(value=0.0)):
            found[layer][_OPTIONS[role]] = _initializer(distribution)
    return found


def _initializer(distribution: Distribution) -> Initializer:
    """Keras' word for a distribution."""
    match distribution:
        case Constant(value=value):
            return Initializer("Constant", {"value": value})
        case Normal(std=std):
            return Initializer("RandomNormal", {"stddev": std})
        case TruncatedNormal(std=std):
            return Initializer("TruncatedNormal", {"stddev": std})
        case Uniform(bound=bound):
            return Initializer("RandomUniform", {"minval": -bound, "maxval": bound})
        case _:
            assert_never(distribution)
