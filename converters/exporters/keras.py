"""Keras' own exporter, ``keras.Model.export``: ONNX on PyTorch; on TensorFlow the SavedModel folder and ``.tflite``.

On TensorFlow Keras has XLA compile grouped convolutions, which leaves a call in the graph that tf2onnx cannot write
(https://github.com/onnx/tensorflow-onnx/issues/2099). On PyTorch it leads to torch.onnx.export, in its TorchScript form
since the batch is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from converters.exporters import checked_opset
from converters.weights import Array, Weights
from zoo.channels_last import to_canonical
from zoo.errors import UnsupportedError
from zoo.frameworks import keras
from zoo.layers import ModelSpec
from zoo.shapes import activation_shapes

# The same as torch.onnx.export's own; see `converters.exporters.pytorch`.
OPSET = 18
_OPSETS = range(9, 21)
# Before every name of Keras', so that none is that of an input or layer.
_PREFIX = "keras/"


def export_onnx(weights: Weights, path: Path, *, every_activation: bool, opset: int | None = None) -> None:
    """Write the network as Keras exports it on PyTorch, with channels first.

    Graph inputs and outputs are named as the spec's, N x shape with a free N.

    Args:
        weights: the network and its parameters.
        path: the ``.onnx`` to write.
        every_activation: every layer is a graph output, not the spec's outputs alone.
        opset: the ONNX operator set; 18 if left out.

    Raises:
        UnsupportedError: the exporter cannot write that opset, a layer, or an input of which only the size is read.
    """
    spec, opset = weights.spec, checked_opset("Keras", opset, OPSET, _OPSETS)
    outputs = spec.graph_outputs(every_activation=every_activation)
    how: dict[str, Any] = {"backend": "torch", "data_format": "channels_first", "opset_version": opset}
    keras.export(spec, weights.tensors, path, outputs, form="onnx", **how)
    model = onnx.load(path)
    _name(model, spec, outputs)
    onnx.save_model(model, path)


def _name(model: Any, spec: ModelSpec, outputs: Sequence[str]) -> None:
    """Call inputs and outputs as the spec does: Keras leaves outputs without names, and no slash in one of an input."""
    graph = onnx.compose.add_prefix(model, _PREFIX, inplace=True).graph
    inputs = {value.name: value for value in graph.input}
    names = {_PREFIX + name: source.name for name, source in zip(keras.table(spec).inputs, spec.inputs, strict=True)}
    if unread := [name for theirs, name in names.items() if theirs not in inputs]:
        raise UnsupportedError(f"{spec.name}: Keras cannot keep {', '.join(unread)}, of which only the size is read")
    for theirs, name in names.items():
        inputs[theirs].name = name
        graph.node.insert(0, onnx.helper.make_node("Identity", [name], [theirs], f"{theirs}/named"))
    for value, name in zip(graph.output, outputs, strict=True):
        graph.node.append(onnx.helper.make_node("Identity", [value.name], [name], f"{_PREFIX}{name}/named"))
        value.name = name


def export_saved_model(weights: Weights, folder: Path) -> None:
    """Write a SavedModel with one signature, ``serving_default``.

    Its inputs, N x H x W x C, are called as in the generated source, and its outputs as the spec's.

    Args:
        weights: the network and its parameters.
        folder: made by this call.

    Raises:
        UnsupportedError: Keras cannot have one of the layers, or does not write it.
    """
    spec = weights.spec
    keras.export(spec, weights.tensors, folder, spec.outputs, form="tf_saved_model", backend="tensorflow")


def run_saved_model(folder: Path, weights: Weights, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a SavedModel that this project wrote.

    Args:
        folder: where it is.
        weights: what it was made of.
        inputs: input name -> batch in canonical layout.

    Returns:
        Its outputs, and of the layers that it does not show the activations of the model that Keras made it from;
        canonical layout.
    """
    layers = keras.forward(weights.spec, weights.tensors, inputs, "tensorflow")
    return layers | keras.run_saved_model(folder, weights.spec, inputs)


def tflite(weights: Weights, *, every_activation: bool = False) -> bytes:
    """A network as Keras writes it for LiteRT, in float32; inputs and outputs are those of `export_saved_model`.

    Args:
        weights: the network and its parameters.
        every_activation: every layer is an output.

    Raises:
        UnsupportedError: Keras cannot have one of the layers, or does not write it.
    """
    spec = weights.spec
    outputs = spec.graph_outputs(every_activation=every_activation)
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.tflite"
        keras.export(spec, weights.tensors, path, outputs, form="litert", backend="tensorflow")
        return path.read_bytes()


def export_tflite(weights: Weights, path: Path) -> None:
    """Write what `tflite` gives."""
    path.write_bytes(tflite(weights))


def run_tflite(
    model: bytes, spec: ModelSpec, inputs: Mapping[str, Array], run: Callable[[bytes, Mapping[str, Array]], Any]
) -> dict[str, Array]:
    """The outputs of a ``.tflite`` of `tflite`; `run` is a runtime's `zoo.registry.RunsTflite.run_tflite`."""
    shapes = activation_shapes(spec)
    return {name: to_canonical(y, shapes[name]) for name, y in run(model, keras.native_inputs(spec, inputs)).items()}
