"""Which tensor of somebody else's network is which layer of ours: by name, or else by graph order, kind and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TypeVar

import numpy as np

from converters.weights import Array
from zoo.layers import Layer, ModelSpec, Pool, Shape, Softmax
from zoo.shapes import activation_shapes

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")


def align(
    ours: Sequence[Ours], theirs: Sequence[Theirs], alike: Callable[[Ours, Theirs], bool]
) -> list[tuple[int, int]]:
    """The longest matching of two sequences that keeps the order of both (their longest common subsequence)."""
    best = np.zeros((len(ours) + 1, len(theirs) + 1), np.int64)
    same = [[alike(a, b) for b in theirs] for a in ours]
    for i in reversed(range(len(ours))):
        for j in reversed(range(len(theirs))):
            skipped = max(best[i + 1, j], best[i, j + 1])
            best[i, j] = max(skipped, best[i + 1, j + 1] + 1) if same[i][j] else skipped
    pairs, i, j = list[tuple[int, int]](), 0, 0
    while i < len(ours) and j < len(theirs):
        if same[i][j] and best[i, j] == best[i + 1, j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1, j] >= best[i, j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def match_layers(ours: ModelSpec, theirs: ModelSpec) -> dict[str, str]:
    """Our layer -> the layer of another spec that stands for it; what has no counterpart is left out.

    Layers of one name are one layer. A network with other names throughout is matched by order, kind and shape.
    """
    names = {layer.name for layer in theirs.layers}
    shared = [layer.name for layer in ours.layers if layer.name in names]
    if shared:
        return {name: name for name in shared}
    our_shapes, their_shapes = activation_shapes(ours), activation_shapes(theirs)

    def alike(a: Layer, b: Layer) -> bool:
        return type(a) is type(b) and our_shapes[a.name] == their_shapes[b.name]

    pairs = align(ours.layers, theirs.layers, alike)
    return {ours.layers[i].name: theirs.layers[j].name for i, j in pairs}


# ONNX operator -> the layer kinds whose result it is. Whatever is made of several operators (an LRN often is) is found
# by what the next layer reads.
_OPERATORS = {
    "Conv": ("Conv", "Dense"),
    "Gemm": ("Dense",),
    "MatMul": ("Dense",),
    "Relu": ("ReLU",),
    "LeakyRelu": ("ReLU",),
    "PRelu": ("ReLU",),
    "MaxPool": ("Pool",),
    "AveragePool": ("Pool",),
    "GlobalMaxPool": ("Pool",),
    "GlobalAveragePool": ("Pool",),
    "LRN": ("LRN",),
    "Dropout": ("Dropout",),
    "Softmax": ("Softmax",),
    "BatchNormalization": ("BatchNorm",),
    "Sigmoid": ("Sigmoid",),
    "Tanh": ("TanH",),
    "Flatten": ("Flatten",),
}

# Operators that hand numbers on, moved about or padded: a layer's input is looked for behind them.
_CARRIERS = {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Pad", "Cast", "Dropout"}


@dataclass(frozen=True, kw_only=True)
class NodeResult:
    """One node of somebody's ONNX graph.

    Attributes:
        name: of its first result.
        operator: what it does.
        reads: the names of what it reads.
        value: what it gave; None for what is no float tensor.
    """

    name: str
    operator: str
    reads: tuple[str, ...]
    value: Array | None


def match_tensors(ours: ModelSpec, nodes: Sequence[NodeResult], rows: Mapping[str, int]) -> dict[str, Array]:
    """Our layer -> a tensor of an ONNX graph, in canonical layout; what has no counterpart is left out.

    By name, where names are shared; else nodes that are a layer by themselves are matched by order, kind and shape, and
    any other layer is what the node of the next one reads.

    Args:
        ours: the network looked for.
        nodes: in graph order.
        rows: layer -> how many rows its activation has.
    """
    values = {node.name: node.value for node in nodes if node.value is not None}
    named = {layer.name: values[layer.name] for layer in ours.layers if layer.name in values}
    if named:
        return named
    shapes = {name: (rows[name], *shape) for name, shape in activation_shapes(ours).items() if name in rows}
    strong = [node for node in nodes if node.operator in _OPERATORS and node.value is not None]

    def fits(layer: Layer, node: NodeResult) -> bool:
        shaped = node.value is not None and canonical_view(node.value, shapes[layer.name]) is not None
        return shaped and _one_kind(layer, node)

    def resized(layer: Layer, node: NodeResult) -> bool:
        value, wanted = node.value, shapes[layer.name]
        channels = value is not None and value.ndim == len(wanted) and value.shape[1] == wanted[1]
        return channels and _one_kind(layer, node)

    pairs = align(ours.layers, strong, fits)
    matched = {ours.layers[i].name: strong[j] for i, j in pairs}
    # Between two matches, a layer and a node of one kind and as many channels are one, whatever height and width: a
    # size rounded otherwise is a fault to be found there. (One of two towers, split by hand, has fewer channels.)
    bounds = [(-1, -1), *pairs, (len(ours.layers), len(strong))]
    for (i, j), (end_i, end_j) in pairwise(bounds):
        layers, others = ours.layers[i + 1 : end_i], strong[j + 1 : end_j]
        matched |= {layers[m].name: others[n] for m, n in align(layers, others, resized)}
    tensors = _with_bias(nodes, {name: node.name for name, node in matched.items()})
    _fill(ours, nodes, matched, tensors, shapes)
    found = dict[str, Array]()
    for layer in ours.layers:
        if layer.name in tensors:
            view = canonical_view(values[tensors[layer.name]], shapes[layer.name])
            found[layer.name] = values[tensors[layer.name]] if view is None else view
    return found


def _one_kind(layer: Layer, node: NodeResult) -> bool:
    if isinstance(layer, Pool) and (layer.mode == "ave") != node.operator.endswith("AveragePool"):
        return False
    return type(layer).__name__ in _OPERATORS[node.operator]


def _with_bias(nodes: Sequence[NodeResult], tensors: dict[str, str]) -> dict[str, str]:
    """A bias that is added by a node of its own belongs to the layer: its result is the layer's."""
    produced = {node.name for node in nodes}
    moved = dict(tensors)
    by_tensor = {tensor: name for name, tensor in tensors.items()}
    operators = {node.name: node.operator for node in nodes}
    for node in nodes:
        inner = [name for name in node.reads if name in produced]
        biased = node.operator == "Add" and len(node.reads) == 2 and len(inner) == 1 and inner[0] in by_tensor
        if biased and operators[inner[0]] in ("MatMul", "Conv", "Gemm"):
            moved[by_tensor[inner[0]]] = node.name
    return moved


def _fill(
    ours: ModelSpec,
    nodes: Sequence[NodeResult],
    matched: Mapping[str, NodeResult],
    tensors: dict[str, str],
    shapes: Mapping[str, Shape],
) -> None:
    """Layers without a node of their own: what the node of their only reader reads, if no layer is that already."""
    by_name, wiring = {node.name: node for node in nodes}, ours.wiring()
    for layer in reversed(ours.layers):
        readers = [name for name, sources in wiring.items() if layer.name in sources]
        if layer.name in tensors or len(readers) != 1 or readers[0] not in matched or not matched[readers[0]].reads:
            continue
        place = wiring[readers[0]].index(layer.name)
        source = by_name.get(matched[readers[0]].reads[min(place, len(matched[readers[0]].reads) - 1)])
        while source is not None and source.operator in _CARRIERS and source.name not in tensors.values():
            if source.value is not None and source.value.shape == shapes[layer.name]:
                break
            source = by_name.get(source.reads[0]) if source.reads else None
        if source is None or source.value is None or source.name in tensors.values():
            continue
        if canonical_view(source.value, shapes[layer.name]) is not None:
            tensors[layer.name] = source.name


def answer(network: ModelSpec, array: Array) -> str:
    """The layer that a network's one answer stands for: its softmax, if rows add up to 1, else what that reads."""
    last = network.layer(network.outputs[0])
    if isinstance(last, Softmax) and not np.allclose(array.sum(axis=last.axis), 1.0, atol=1e-3):
        return network.wiring()[last.name][0]
    return last.name


def canonical_view(value: Array, wanted: Shape) -> Array | None:
    """`value` as an array of shape `wanted` (N, C, H, W or N, C), where its layout is known; None otherwise.

    Known are the shape itself, N, H, W, C, unit axes at the end (a dense layer as a convolution) and towers folded
    into the batch.
    """
    if value.shape == wanted:
        return value
    if len(wanted) == 4 and value.ndim == 4:
        samples, channels, height, width = wanted
        if value.shape == (samples, height, width, channels):
            return value.transpose(0, 3, 1, 2)
        towers = value.shape[0] // samples if samples else 0
        if towers and value.shape == (samples * towers, channels // towers, height, width):
            return value.reshape(wanted)
    squeezed = tuple(size for size in value.shape[1:] if size != 1)
    if len(wanted) == 2 and value.shape[:1] == wanted[:1] and squeezed == tuple(s for s in wanted[1:] if s != 1):
        return value.reshape(wanted)
    return value.reshape(wanted) if value.size == prod(wanted) and value.ndim < 2 else None
