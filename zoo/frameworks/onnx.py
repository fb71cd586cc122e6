"""ONNX: a clean graph, one node a layer, made from the spec; run by ONNX Runtime on the CPU.

The graph is written without the ``onnx`` package, and the weights never pass through a protobuf message: they are
streamed into the file, or lent to ONNX Runtime where they lie. ONNX Runtime is imported when something is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from zoo.errors import UnsupportedError
from zoo.frameworks._onnx_graph import IR_VERSIONS, OPSET, Array, Graph, chunks
from zoo.frameworks._onnx_layers import Builder, add_layer
from zoo.initial import initial_weights
from zoo.layers import Concat, ModelSpec, Shape
from zoo.registry import imported, recipe
from zoo.shapes import activation_shapes, axis_index, parameter_shapes
from zoo.spec_json import METADATA_KEY, dumps, to_dict

# Drawn with this seed, so that a generated file is the same every time.
_SEED = 0


def graph(spec: ModelSpec, *, opset: int = OPSET, every_activation: bool = False, fast_lrn: bool = False) -> Graph:
    """The network as an ONNX graph without its weights.

    Nodes and their outputs are named after the layers, initializers canonically (``conv1.weight``); what a layer needs
    besides goes by ``<layer>/<what>``. Inputs and outputs are float32 in canonical layout, N, C, H, W, N left open.

    Args:
        spec: the network.
        opset: the operator set, 13 to 22.
        every_activation: make every layer an output, not the network's own outputs alone.
        fast_lrn: write LRN as elementary operators that ONNX Runtime runs faster than its ``LRN``; the same function.

    Raises:
        UnsupportedError: another operator set, or two things that ONNX would have to call by one name.
    """
    if opset not in IR_VERSIONS:
        known = f"{min(IR_VERSIONS)} to {max(IR_VERSIONS)}"
        raise UnsupportedError(f"{spec.name}: ONNX operator set {opset} cannot be written; choose one of {known}")
    shapes, parameters, wiring = activation_shapes(spec), parameter_shapes(spec), spec.wiring()
    for name in parameters:
        if name in shapes:
            raise UnsupportedError(f"layer {name!r}: an ONNX graph needs this name for a weight; rename the layer")
    builder = Builder(opset=opset, fast_lrn=fast_lrn, taken={*shapes, *parameters})
    for layer in spec.layers:
        sources = wiring[layer.name]
        add_layer(builder, layer, sources, [shapes[name] for name in sources], shapes[layer.name])
    batches = _batches(spec, shapes)
    outputs = [layer.name for layer in spec.layers] if every_activation else spec.outputs
    return Graph(
        name=spec.name,
        title=spec.title,
        opset=opset,
        inputs={source.name: (batches[source.name], *source.shape) for source in spec.inputs},
        outputs={name: (batches[name], *shapes[name]) for name in outputs},
        nodes=tuple(builder.nodes),
        parameters=parameters,
        metadata=_metadata(spec),
    )


def _batches(spec: ModelSpec, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Activation -> the name of its open batch size; one for all, unless a layer joins batches."""
    joins = {
        layer.name
        for layer in spec.layers
        if isinstance(layer, Concat) and axis_index(layer.name, layer.axis, shapes[layer.name]) == 0
    }
    batches = {source.name: f"N_{source.name}" if joins else "N" for source in spec.inputs}
    for name, sources in spec.wiring().items():
        batches[name] = f"N_{name}" if name in joins else batches[sources[0]]
    return batches


def _metadata(spec: ModelSpec) -> dict[str, str]:
    readable = {} if spec.preprocessing is None else {"preprocessing": json.dumps(to_dict(spec.preprocessing))}
    return {METADATA_KEY: dumps(spec), "model": spec.name} | readable


def write(path: Path, model: Graph, tensors: Mapping[str, Array]) -> None:
    """Write a graph with its weights (canonical name -> float32 array); equal arguments give equal bytes."""
    with path.open("wb") as file:
        file.writelines(chunks(model, tensors))


def generate(spec: ModelSpec, directory: Path) -> list[Path]:
    """Write ``<spec.file_name>.onnx``, ready to run or to be given weights.

    ONNX has no untrained form, so the weights are the initial values of the network's recipe, drawn with a fixed seed;
    the entry ``weights`` of the file's metadata says so.
    """
    path = directory / f"{spec.file_name}.onnx"
    model, how = graph(spec), recipe(spec)
    note = {"weights": f"untrained: initial values of the recipe {how.name!r}, seed {_SEED}"}
    write(path, replace(model, metadata={**model.metadata, **note}), initial_weights(spec, how, _SEED))
    return [path]


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the graph at inference in float32; see `zoo.registry.Framework`. Nothing is written to disk."""
    model = graph(spec, every_activation=True)
    # ONNX Runtime drops a weight no node reads (BatchNorm's, where the batch's own statistics count): it takes no loan.
    read = {name for node in model.nodes for name in node.inputs}
    lent = {name: weights[name] for name in model.parameters if name in read}
    return cast(Any, imported("zoo.frameworks._onnx_runtime")).run(b"".join(chunks(model, None)), inputs, None, lent)


def run(model: Path | bytes, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
    """Run an ONNX file, whoever made it, in ONNX Runtime on the CPU.

    Args:
        model: the file, or its bytes.
        inputs: input name -> array, as the file wants it.
        outputs: which of the file's outputs are wanted; None for all.

    Raises:
        FileFormatError: ONNX Runtime refuses the file or the inputs.
    """
    return cast(Any, imported("zoo.frameworks._onnx_runtime")).run(model, inputs, outputs)


def run_batches(
    model: bytes, batches: Sequence[Mapping[str, Array]], weights: Mapping[str, Array]
) -> list[dict[str, Array]]:
    """All outputs of an ONNX graph for each batch.

    Args:
        model: the graph; initializers whose data it leaves out are said to be external.
        batches: input name -> array, each.
        weights: the data left out, initializer -> array; lent, not copied.

    Raises:
        FileFormatError: ONNX Runtime refuses the graph or the inputs.
    """
    return cast(Any, imported("zoo.frameworks._onnx_runtime")).run_batches(model, batches, None, weights)
