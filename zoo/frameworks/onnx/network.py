"""A spec as an ONNX graph, and with its weights as a file: streamed, never gathered in one protobuf message."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path

from zoo.arrays import Array
from zoo.batches import kept_from
from zoo.errors import UnsupportedError
from zoo.frameworks.onnx.builder import Builder
from zoo.frameworks.onnx.table import add_layer
from zoo.layers import Constant, DetectionOutput, ModelSpec, PriorBox, Shape
from zoo.shapes import activation_shapes, parameter_shapes
from zoo.spec_json import METADATA_KEY, dumps, to_dict
from zoo.wire.onnx import IR_VERSIONS, MAX_BYTES, OPSET, Graph, chunks, data_chunks

# For all that is no weight.
_ROOM = 1 << 24


def graph(spec: ModelSpec, *, opset: int = OPSET, every_activation: bool = False, fast_lrn: bool = False) -> Graph:
    """The network as an ONNX graph without its weights.

    Nodes and their outputs are named after the layers, initializers canonically (``conv1.weight``); what a layer needs
    besides goes by ``<layer>/<what>``. Inputs and outputs are float32 in canonical layout, N, C, H, W, N left open.

    Args:
        spec: the network.
        opset: the operator set, 7 to 28.
        every_activation: make every layer an output, not the network's own outputs alone.
        fast_lrn: write LRN as elementary operators that ONNX Runtime runs faster than its ``LRN``; the same function.

    Raises:
        UnsupportedError: another operator set, one that lacks what a layer needs, or two things that ONNX would have
            to call by one name.
    """
    shapes, parameters, wiring = activation_shapes(spec), parameter_shapes(spec), spec.wiring()
    declared = spec.graph_outputs(every_activation=every_activation)
    _refuse(spec, opset, parameters.keys() & shapes.keys())
    builder = Builder(opset=opset, fast_lrn=fast_lrn, taken={*shapes, *parameters})
    for layer in spec.layers:
        sources = wiring[layer.name]
        add_layer(builder, layer, sources, [shapes[name] for name in sources], shapes[layer.name])
    batches = _batches(spec, shapes)
    return Graph(
        name=spec.name,
        title=spec.title,
        opset=opset,
        inputs={source.name: (batches[source.name], *source.shape) for source in spec.inputs},
        outputs={name: (batches[name], *_declared(spec, name, shapes[name])) for name in declared},
        nodes=tuple(builder.nodes),
        parameters=parameters,
        metadata=_metadata(spec),
        stored=builder.stored,
    )


def _refuse(spec: ModelSpec, opset: int, twice: Collection[str]) -> None:
    if opset not in IR_VERSIONS:
        known = f"{min(IR_VERSIONS)} to {max(IR_VERSIONS)}"
        raise UnsupportedError(f"{spec.name}: ONNX operator set {opset} cannot be written; choose one of {known}")
    if twice:
        raise UnsupportedError(f"layer {min(twice)!r}: an ONNX graph needs this name for a weight; rename the layer")


def _batches(spec: ModelSpec, shapes: Mapping[str, Shape]) -> dict[str, str | int]:
    """Activation -> the name or number of its first axis: one open name for all, unless a layer makes another."""
    wiring = spec.wiring()
    reads = {layer.name: [shapes[name] for name in wiring[layer.name]] for layer in spec.layers}
    kept = {layer.name: kept_from(layer, reads[layer.name], shapes[layer.name]) for layer in spec.layers}
    alike = all(at == 0 or isinstance(spec.layer(name), PriorBox) for name, at in kept.items())
    batches: dict[str, str | int] = {source.name: "N" if alike else f"N_{source.name}" for source in spec.inputs}
    for layer in spec.layers:
        at, sources = kept[layer.name], wiring[layer.name]
        if at is not None:
            batches[layer.name] = batches[sources[at]]
        elif isinstance(layer, PriorBox | DetectionOutput):
            batches[layer.name] = 1
        else:
            batches[layer.name] = layer.shape[0] if isinstance(layer, Constant) else f"N_{layer.name}"
    return batches


def _declared(spec: ModelSpec, name: str, shape: Shape) -> tuple[str | int, ...]:
    """The shape of an output as the graph declares it: how many are found, nobody knows."""
    return (1, f"M_{name}", 7) if isinstance(spec.layer(name), DetectionOutput) else shape


def _metadata(spec: ModelSpec) -> dict[str, str]:
    readable = {} if spec.preprocessing is None else {"preprocessing": json.dumps(to_dict(spec.preprocessing))}
    return {METADATA_KEY: dumps(spec), "model": spec.name} | readable


def write(path: Path, model: Graph, tensors: Mapping[str, Array], most: int = MAX_BYTES - _ROOM) -> None:
    """Write a graph with its weights (canonical name -> float32 array); equal arguments give equal bytes.

    Weights of more than `most` bytes go into ``<path>.data`` beside it: protobuf reads no file of 2 GiB.
    """
    if sum(4 * prod(shape) for shape in model.parameters.values()) <= most:
        with path.open("wb") as file:
            file.writelines(chunks(model, tensors))
        return
    data = path.with_name(f"{path.name}.data")
    with data.open("wb") as file:
        file.writelines(data_chunks(model, tensors))
    with path.open("wb") as file:
        file.writelines(chunks(model, None, data.name))
