"""A network written as ``.tflite`` by TensorFlow's converter, and run in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping

from converters.weights import Array, Weights
from zoo.layers import ModelSpec
from zoo.registry import RunsTflite, optional


class TfliteForward:
    """`zoo.registry.Framework.forward`, by a copy of the network that puts every layer out.

    Attributes:
        runtime: what runs it.
    """

    def __init__(self, runtime: RunsTflite) -> None:
        with optional("tf_slim"):
            from converters.exporters import tf_slim
        self.runtime, self._tf_slim = runtime, tf_slim

    def __call__(self, spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a network's every layer."""
        network = Weights(spec=spec, tensors=weights, source=spec.name)
        return self.run(self._tf_slim.tflite(network, every_activation=True), spec, inputs)

    def deployed(self, weights: Weights) -> bytes:
        """The network as it is deployed."""
        return self._tf_slim.tflite(weights)

    def run(self, model: bytes, spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a model, in canonical layout."""
        return self._tf_slim.run_tflite(model, spec, inputs, self.runtime.run_tflite)
