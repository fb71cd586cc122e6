"""TensorFlow's own ways out: tf2onnx, the frozen graph (``.pb``), the SavedModel folder and LiteRT's ``.tflite``.

The TensorFlow targets take N x H x W x C images, as everything does there: inputs have the spec's names; outputs
are what the spec puts out and, where a softmax closes it, the logits too. An ONNX file is N x C x H x W, as everything
is there.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from converters.exporters import checked_opset
from converters.weights import Array, Weights
from zoo.channels_last import native_shape, to_canonical, to_native
from zoo.environment import quiet_libraries, quiet_loggers
from zoo.errors import FileFormatError, UnsupportedError, said
from zoo.frameworks.tf_slim import Table, identifier, sanitized, variables
from zoo.frameworks.tf_slim.runtime import (
    assign,
    build_for_inference,
    session,
    tf,
    variable_value,
)
from zoo.layers import Constant, ModelSpec, PriorBox, Unpool
from zoo.shapes import activation_shapes
from zoo.wire.layout import contiguous

# After TensorFlow, which is quiet only if its runtime loads it.
import tf2onnx.convert  # isort: skip
from tensorflow import lite  # isort: skip
from tensorflow.lite.python.convert_phase import ConverterError  # isort: skip

# What brings all that is imported here.
EXTRA = "tf_slim"

# What tf2onnx 1.17 writes at most is 18; LRN, Conv and pooling are the same in 17, which every runtime of 2022 reads.
OPSET = 17
_OPSETS = range(9, 19)
_SIGNATURE = "serving_default"


def export_onnx(weights: Weights, path: Path, *, every_activation: bool, opset: int | None = None) -> None:
    """Write the network as tf2onnx sees it.

    Graph inputs and outputs are named as the spec's, N x shape with a free N; the transpositions to and from
    N x H x W x C are part of the graph that tf2onnx is given.

    Args:
        weights: the network and its parameters.
        path: the ``.onnx`` to write.
        every_activation: every layer is a graph output, not the spec's outputs alone.
        opset: the ONNX operator set; 17 if left out.

    Raises:
        UnsupportedError: the exporter cannot write that opset, an input of which only the size is read, or what reads
            none.
    """
    spec, opset = weights.spec, checked_opset("tf2onnx", opset, OPSET, _OPSETS)
    outputs = spec.graph_outputs(every_activation=every_activation)
    _refuse(spec, outputs)
    with tf.Graph().as_default() as graph, _quiet():
        built = _build(spec, outputs, canonical=True)
        definition, reads = _opened(graph, built.outputs)
    nodes = {node.name for node in definition.node}
    unread = [name for name, tensor in built.inputs.items() if tensor.partition(":")[0] not in nodes]
    if unread:
        raise UnsupportedError(f"{spec.name}: tf2onnx cannot keep {', '.join(unread)}, of which only the size is read")
    values = _values(weights)
    with _quiet():
        model, _ = tf2onnx.convert.from_graph_def(
            definition,
            name=spec.name,
            input_names=[*built.inputs.values(), *reads],
            output_names=list(built.outputs.values()),
            opset=opset,
            tensors_to_rename={tensor: name for name, tensor in (built.inputs | built.outputs).items()},
        )
    _close(model.graph, {tensor: values[variable] for tensor, variable in reads.items()})
    onnx.save_model(model, str(path))


def _refuse(spec: ModelSpec, outputs: Sequence[str]) -> None:
    fixed = [layer.name for layer in spec.layers if isinstance(layer, Constant | PriorBox) and layer.name in outputs]
    if fixed:
        raise UnsupportedError(f"{spec.name}: tf2onnx cannot keep {', '.join(fixed)}, which do not depend on any input")
    unpooled = next((layer.name for layer in spec.layers if isinstance(layer, Unpool)), None)
    if unpooled:
        raise UnsupportedError(f"layer {unpooled!r}: tf2onnx writes its SegmentMax, which is no operator of ONNX")


def _without_variables(graph: Any, outputs: Mapping[str, str], replace: Callable[[Any, Any], None]) -> Any:
    """The GraphDef that leads to the outputs; `replace` rewrites each node that reads a variable, given its handle."""
    definition = tf.graph_util.extract_sub_graph(
        graph.as_graph_def(), [tensor.partition(":")[0] for tensor in outputs.values()]
    )
    handles = {node.name: node for node in definition.node if node.op == "VarHandleOp"}
    for node in definition.node:
        if node.op == "ReadVariableOp":
            handle = handles[node.input[0]]
            node.ClearField("input")
            replace(node, handle)
    for i, node in reversed(list(enumerate(definition.node))):
        if node.name in handles:
            del definition.node[i]
    return definition


def _opened(graph: Any, outputs: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """The graph with placeholders in the place of its variables, and which stands for which: tensor -> variable.

    tf2onnx copies constants dozens of times: 13 GB and two minutes for AlexNet's. So it sees the network without them.
    """
    reads = dict[str, str]()

    def placeholder(node: Any, handle: Any) -> None:
        reads[f"{node.name}:0"] = handle.name
        node.op = "Placeholder"
        node.ClearField("attr")
        for name in ("dtype", "shape"):
            node.attr[name].CopyFrom(handle.attr[name])

    return _without_variables(graph, outputs, placeholder), reads


def _close(graph: Any, values: dict[str, Array]) -> None:
    """Put the weights in the place of the graph inputs that stood for them, and fold what is done to them alone."""
    kept = list[Any]()
    for node in graph.node:
        value = values.get(node.input[0]) if node.input else None
        if value is not None and node.op_type in ("Identity", "Transpose"):
            axes = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
            values[node.output[0]] = value if node.op_type == "Identity" else np.transpose(value, axes)
        elif value is not None and node.op_type == "Split":
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            values.update(zip(node.output, np.split(value, len(node.output), axis), strict=True))
        else:
            kept.append(node)
    read = {name for node in kept for name in node.input} | {output.name for output in graph.output}
    real = [given for given in graph.input if given.name not in values]
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    graph.input.extend(real)
    for name in sorted(read & values.keys()):
        array = contiguous(values[name])
        tensor = graph.initializer.add(name=name, data_type=onnx.TensorProto.FLOAT, dims=array.shape)
        tensor.raw_data = array.astype("<f4", copy=False).tobytes()


def export_frozen_graph(weights: Weights, path: Path) -> None:
    """Write a frozen graph: a GraphDef whose variables are constants; placeholders and outputs have the spec's names.

    Args:
        weights: the network and its parameters.
        path: the ``.pb`` to write.
    """
    values = _values(weights)

    def constant(node: Any, handle: Any) -> None:
        node.op = "Const"
        node.ClearField("attr")
        node.attr["dtype"].CopyFrom(handle.attr["dtype"])
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(contiguous(values[handle.name])))

    with tf.Graph().as_default() as graph, _quiet():
        built = _build(weights.spec, _deployed(weights.spec))
        definition = _without_variables(graph, built.outputs, constant)
    path.write_bytes(definition.SerializeToString(deterministic=True))


@contextmanager
def _file_errors() -> Generator[None]:
    """TensorFlow tells of a full disk in a page, one line of which ends in what the system said."""
    try:
        yield
    except tf.errors.OpError as error:
        told = re.search(r"; ([^;\n]+)$", error.message, re.MULTILINE)
        if told is None:
            raise
        number = next((number for number in errno.errorcode if os.strerror(number) == told[1]), errno.EIO)
        raise OSError(number, told[1]) from error


def export_saved_model(weights: Weights, folder: Path) -> None:
    """Write a SavedModel with one signature, ``serving_default``, whose inputs and outputs have the spec's names.

    Args:
        weights: the network and its parameters.
        folder: made by this call; it must not exist.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    _write_saved_model(weights, folder, _deployed(weights.spec))


def _write_saved_model(weights: Weights, folder: Path, outputs: Sequence[str]) -> None:
    with _file_errors(), tf.Graph().as_default() as graph, session() as running, _quiet():
        built = _build(weights.spec, outputs)
        assign(running, weights.spec, weights.tensors, None)
        fed, given = (
            {name: graph.get_tensor_by_name(tensor) for name, tensor in side.items()}
            for side in (built.inputs, built.outputs)
        )
        builder = tf.saved_model.builder.SavedModelBuilder(str(folder))
        signature = tf.saved_model.predict_signature_def(inputs=fed, outputs=given)
        builder.add_meta_graph_and_variables(
            running, [tf.saved_model.tag_constants.SERVING], {_SIGNATURE: signature}, strip_default_attrs=True
        )
        builder.save()


def tflite(weights: Weights, *, every_activation: bool = False) -> bytes:
    """A network as TensorFlow's converter writes it for LiteRT, in float32.

    One signature, ``serving_default``, whose inputs and outputs have the spec's names; N is free.

    Args:
        weights: the network and its parameters.
        every_activation: every layer is an output.

    Raises:
        UnsupportedError: the converter has no operator of LiteRT's own for a layer.
    """
    spec = weights.spec
    outputs = [layer.name for layer in spec.layers] if every_activation else _deployed(spec)
    with TemporaryDirectory() as scratch, quiet_libraries(), _quiet():
        folder = Path(scratch) / "saved_model"
        _write_saved_model(weights, folder, outputs)
        converter = lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[_SIGNATURE])
        try:
            return converter.convert()
        except ConverterError as error:
            unknown = re.search("TF Select ops: (.+)", str(error))
            told = unknown[1] if unknown else said(error, 200)
            raise UnsupportedError(f"{spec.name}: LiteRT has no operator of its own for {told}") from error


def export_tflite(weights: Weights, path: Path) -> None:
    """Write what `tflite` gives."""
    path.write_bytes(tflite(weights))


def run_tflite(
    model: bytes, spec: ModelSpec, inputs: Mapping[str, Array], run: Callable[[bytes, Mapping[str, Array]], Any]
) -> dict[str, Array]:
    """Run a ``.tflite`` that this project wrote.

    Args:
        model: its bytes.
        spec: its network.
        inputs: input name -> batch in canonical layout.
        run: a runtime's `zoo.registry.RunsTflite.run_tflite`.

    Returns:
        Its outputs, canonical layout.
    """
    shapes = activation_shapes(spec)
    fed = {name: contiguous(to_native(np.asarray(array, np.float32), shapes[name])) for name, array in inputs.items()}
    return {name: to_canonical(array, shapes[name]) for name, array in run(model, fed).items()}


def run_frozen_graph(path: Path, weights: Weights, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a frozen graph that this project wrote.

    Args:
        path: the ``.pb``.
        weights: what it was made of.
        inputs: input name -> batch in canonical layout.

    Returns:
        Every layer's activation, canonical layout.

    Raises:
        FileFormatError: the file holds no graph of this network.
    """
    definition = tf.GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
        with tf.Graph().as_default(), session() as running, _quiet():
            tf.import_graph_def(definition, name="")
            return _run(running, weights.spec, inputs)
    except (KeyError, ValueError, OSError, DecodeError, tf.errors.OpError) as error:
        raise FileFormatError(path, f"no frozen graph of {weights.spec.name}: {said(error, 200)}") from error


def run_saved_model(folder: Path, weights: Weights, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a SavedModel that this project wrote; see `run_frozen_graph`."""
    try:
        with tf.Graph().as_default(), session() as running, _quiet():
            tf.saved_model.loader.load(running, [tf.saved_model.tag_constants.SERVING], str(folder))
            return _run(running, weights.spec, inputs)
    except (KeyError, ValueError, OSError, tf.errors.OpError) as error:
        raise FileFormatError(folder, f"no SavedModel of {weights.spec.name}: {said(error, 200)}") from error


@dataclass(frozen=True, kw_only=True)
class _Built:
    """The tensors of a network just built, by the spec's names: what goes in, comes out, and lies between."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    layers: dict[str, str]


def _build(spec: ModelSpec, outputs: Sequence[str], *, canonical: bool = False) -> _Built:
    """Build the network for inference in the current graph, the same names in every call."""
    shapes = activation_shapes(spec)
    given, inputs = dict[str, Any](), dict[str, Any]()
    for source in spec.inputs:
        shape = source.shape if canonical else native_shape(source.shape)
        fed = given[source.name] = tf.placeholder(tf.float32, [None, *shape], name=_top(source.name))
        inputs[source.name] = tf.transpose(fed, [0, 2, 3, 1]) if canonical and len(shape) == 3 else fed
    layers = build_for_inference(spec, inputs)
    out = dict[str, Any]()
    for name in outputs:
        found = layers[name]
        if canonical and len(shapes[name]) == 3:
            found = tf.transpose(found, [0, 3, 1, 2])
        elif len(shapes[name]) == 1 and len(found.shape) == 4:
            found = tf.squeeze(found, [1, 2])
        out[name] = tf.identity(found, name=_top(name))
    sides = ({name: tensor.name for name, tensor in side.items()} for side in (given, out, layers))
    return _Built(**dict(zip(("inputs", "outputs", "layers"), sides, strict=True)))


def _top(name: str) -> str:
    """A name for an operation outside all scopes, which may not begin with ``_`` and the like."""
    return sanitized(name).lstrip("_-") or "tensor"


def _deployed(spec: ModelSpec) -> list[str]:
    logits = Table(spec).logits
    return [*([logits] if logits not in spec.outputs else []), *spec.outputs]


def _values(weights: Weights) -> dict[str, Array]:
    """Variable, scope included -> its value, a view of the canonical parameter."""
    scope = identifier(weights.spec.name)
    return {
        f"{scope}/{variable.name}": variable_value(weights.tensors[variable.parameter], variable)
        for variable in variables(weights.spec)
    }


def _run(running: Any, spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    with tf.Graph().as_default():
        built = _build(spec, _deployed(spec))
    shapes, tensor = activation_shapes(spec), running.graph.get_tensor_by_name
    feed = {
        tensor(built.inputs[name]): to_native(np.asarray(array, np.float32), shapes[name])
        for name, array in inputs.items()
    }
    found = running.run({name: tensor(built.layers[name]) for name in built.layers}, feed)
    return {layer.name: to_canonical(found[layer.name], shapes[layer.name]) for layer in spec.layers}


def _quiet() -> AbstractContextManager[None]:
    """Without the remarks of TensorFlow and tf2onnx about deprecated functions and their own optimisers."""
    return quiet_loggers("tf2onnx", "tensorflow")
