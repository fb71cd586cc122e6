"""ONNX files: our own by name, anybody's by what the graph does. Neither way parses the payload.

Tensors are views of the memory-mapped file, and what is written is streamed, so that a conversion costs no more memory
than the file. The ``onnx`` package is not needed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np

from converters.formats import GraphNetwork, NativeFile
from converters.formats._onnx_walk import NO_BIAS, looks_like_weight
from converters.formats._onnx_walk import tensors as graph_tensors
from converters.tensormap import Entry
from converters.weights import Array, Weights
from zoo.errors import FileFormatError, ZooError
from zoo.frameworks.onnx import Constants, read_graph
from zoo.frameworks.onnx import graph as graph_of
from zoo.frameworks.onnx import write as write_graph
from zoo.layers import Conv, Dense, ModelSpec, Shape
from zoo.likeness import unlike, without_closing_softmax
from zoo.shapes import activation_shapes, parameter_shapes
from zoo.spec_json import METADATA_KEY, loads
from zoo.wire.mapped import mapped
from zoo.wire.onnx import Model, parse

SUFFIXES = (".onnx",)

_LOG = logging.getLogger(__name__)


def read(path: Path) -> NativeFile:
    """The weights of an ONNX file, in canonical orientation, in the order of the graph.

    In a file of this project they have canonical names. In any other they keep the names of its initializers; see
    `_onnx_walk` for what is understood. Tensors kept in files of their own must lie in the same folder.

    Raises:
        FileFormatError: the file is missing, cut short or damaged, or computes its weights.
    """
    try:
        model = parse(mapped(path), path.parent)
        spec = _spec(model)
        own = None if spec is None else _own(model, spec)
        constants = Constants(model)
        graph = None if spec else _graph(model, path, constants)
        tensors = _tensors(model, graph, constants) if own is None else own
    except FileFormatError:
        raise
    except ZooError as error:
        raise FileFormatError(path, str(error)) from error
    except (ValueError, IndexError, OverflowError) as error:
        raise FileFormatError(path, f"no ONNX file that can be read: {error}") from error
    silent = [name for name in tensors if ignored(name)]
    if silent and not (graph and graph.spec):  # which says itself what has a bias
        _LOG.info("%s: %s", path, "; ".join(silent))
    return NativeFile(tensors=tensors, spec=spec, graph=graph, unlike=partial(_unlike, graph), writer=model.producer)


def _graph(
    model: Model, path: Path, constants: Constants | None, sizes: Mapping[str, Shape] | None = None
) -> GraphNetwork:
    sized = partial(_graph, model, path, None)
    try:
        net = read_graph(model, path.stem, f"read from {path.name}", constants, sizes)
    except (ValueError, ZooError) as error:
        return GraphNetwork(refusal=str(error), sized=sized)
    return GraphNetwork(spec=net.spec, tensors=net.parameters, stored=net.stored, notes=net.notes, sized=sized)


def _tensors(model: Model, graph: GraphNetwork | None, constants: Constants) -> dict[str, Array]:
    """The weights in the order of the graph, for who knows a network that has them in that order."""
    try:
        return graph_tensors(model, constants)
    except ValueError as error:
        if graph is None:
            raise
        if graph.spec is None:
            raise ValueError(f"{error}; and as a network: {graph.refusal}") from error
        return {**graph.tensors}


def _unlike(graph: GraphNetwork | None, spec: ModelSpec) -> str | None:
    """In what a graph is another network than one that the user names; a graph may stop at the logits."""
    if graph is None or graph.spec is None:
        return None
    theirs = replace(graph.spec, name="the file")
    reason = unlike(spec, theirs)
    return reason and (unlike(without_closing_softmax(spec), theirs) and reason)


def _spec(model: Model) -> ModelSpec | None:
    text = model.metadata.get(METADATA_KEY)
    return None if text is None else loads(text)


def _own(model: Model, spec: ModelSpec) -> dict[str, Array] | None:
    """The initializers under their own names, where those are the parameters of the network the file describes."""
    names = parameter_shapes(spec)
    if not all(name in model.initializers for name in names):
        return None
    further = {name: array for name, array in model.initializers.items() if name not in names}
    ours = graph_of(spec, fast_lrn=True).stored if further else {}
    known = {name for name, array in further.items() if name in ours and np.array_equal(array, ours[name])}
    return {
        name: array
        for name, array in model.initializers.items()
        if name in names or (looks_like_weight(array) and name not in known)
    }


def entries(spec: ModelSpec, tensors: Mapping[str, Array] | None) -> list[Entry]:
    """By name where the names are canonical; else the n-th weight of the graph belongs to the n-th layer that has one.

    A dense layer may be written as a convolution over its whole input, and the other way round.
    """
    shapes = parameter_shapes(spec)
    if tensors is None or all(name in tensors for name in shapes):
        return [Entry(canonical=name, native=name) for name in shapes]
    activations, wiring, found = activation_shapes(spec), spec.wiring(), _pairs(tensors)
    table = list[Entry]()
    for layer in spec.layers:
        if isinstance(layer, Conv | Dense):
            weight, bias = next(found, (f"the weight of {layer.name}", None))
            table.append(_weight(layer, weight, tensors.get(weight), activations[wiring[layer.name][0]]))
            if layer.bias:
                table.append(Entry(canonical=f"{layer.name}.bias", native=bias or f"the bias of {layer.name}"))
    listed = {entry.canonical for entry in table}
    return table + [Entry(canonical=name, native=name) for name in shapes if name not in listed]


def _pairs(tensors: Mapping[str, Array]) -> Iterator[tuple[str, str | None]]:
    names = [*tensors]
    for name, after in zip_longest(names, names[1:]):
        if tensors[name].ndim > 1:
            yield name, after if after is not None and tensors[after].ndim == 1 else None


def _weight(layer: Conv | Dense, native: str, tensor: Array | None, source: Shape) -> Entry:
    canonical, rank = f"{layer.name}.weight", 0 if tensor is None else tensor.ndim
    if isinstance(layer, Dense) and rank == 4 and layer.axis == 1:
        channels, height, width = source if len(source) == 3 else (source[0], 1, 1)
        sizes = {"C": channels, "H": height, "W": width}
        return Entry(canonical=canonical, native=native, axes="O(CHW)", native_axes="OCHW", sizes=sizes)
    if isinstance(layer, Conv) and rank == 2:
        sizes = {"I": source[0] // layer.groups, "H": layer.kernel[0], "W": layer.kernel[1]}
        return Entry(canonical=canonical, native=native, axes="OIHW", native_axes="O(IHW)", sizes=sizes)
    return Entry(canonical=canonical, native=native)


def ignored(name: str) -> bool:
    """The zeros that stand for a bias the graph does not have, where the network wants none either."""
    return NO_BIAS in name


def write(path: Path, weights: Weights) -> None:
    """Write the clean graph of `zoo.frameworks.onnx` with its weights, and the network itself into the metadata."""
    write_graph(path, graph_of(weights.spec), weights.tensors)


def main_file(path: Path) -> Path:
    """The file itself."""
    return path
