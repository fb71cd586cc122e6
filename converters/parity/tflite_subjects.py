"""A network written as ``.tflite`` by TensorFlow's converter, and run in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters import exporters
from converters.weights import Array, Weights
from zoo.layers import ModelSpec
from zoo.registry import RunsTflite


class TfliteForward:
    """`zoo.registry.Framework.forward`, by a copy of the network that puts every layer out.

    Attributes:
        runtime: what runs it.
        exporter: the file of `converters.exporters` that writes it; left out, TF-slim's.
    """

    def __init__(self, runtime: RunsTflite, exporter: Any = None) -> None:
        self.runtime = runtime
        self.exporter = exporter or exporters.exporter("tf_slim")

    def __call__(self, spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a network's every layer."""
        network = Weights(spec=spec, tensors=weights, source=spec.name)
        return self.run(self.exporter.tflite(network, every_activation=True), spec, inputs)

    def deployed(self, weights: Weights) -> bytes:
        """The network as it is deployed."""
        return self.exporter.tflite(weights)

    def run(self, model: bytes, spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a model, in canonical layout."""
        return self.exporter.run_tflite(model, spec, inputs, self.runtime.run_tflite)
