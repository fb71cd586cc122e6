"""Which tensor of somebody else's network is which layer of ours: by name, or else by graph order, kind and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TypeVar

import numpy as np

from converters.weights import Array
from zoo.layers import Layer, ModelSpec, Shape
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


# ONNX operator -> the layer kinds whose result it may be. An LRN may end in the division it is made of, or, in towers,
# in the concatenation of its parts; a dense layer in a 1 x 1 convolution or in the addition of its bias.
_OPERATORS = {
    "Conv": ("Conv", "Dense"),
    "Gemm": ("Dense",),
    "MatMul": ("Dense",),
    "Add": ("Dense", "Conv", "Eltwise", "Bias", "Scale", "Power"),
    "Sum": ("Eltwise",),
    "Sub": ("Power", "Bias"),
    "Mul": ("Eltwise", "Scale", "Power", "LRN"),
    "Div": ("LRN", "BatchNorm", "Power"),
    "Max": ("Eltwise", "ReLU"),
    "Clip": ("ReLU",),
    "Relu": ("ReLU",),
    "LeakyRelu": ("ReLU",),
    "PRelu": ("ReLU",),
    "MaxPool": ("Pool",),
    "AveragePool": ("Pool",),
    "GlobalMaxPool": ("Pool",),
    "GlobalAveragePool": ("Pool",),
    "LRN": ("LRN",),
    "Concat": ("Concat", "LRN"),
    "Reshape": ("Flatten", "LRN"),
    "Flatten": ("Flatten",),
    "Dropout": ("Dropout",),
    "Identity": ("Dropout",),
    "Softmax": ("Softmax",),
    "BatchNormalization": ("BatchNorm",),
    "Sigmoid": ("Sigmoid",),
    "Tanh": ("TanH",),
    "Pow": ("Power",),
    "Slice": ("Slice",),
    "Split": ("Slice",),
}


def match_tensors(
    ours: ModelSpec, tensors: Sequence[tuple[str, str, Array]], rows: Mapping[str, int]
) -> dict[str, Array]:
    """Our layer -> a tensor of an ONNX graph, in canonical layout; what has no counterpart is left out.

    Args:
        ours: the network looked for.
        tensors: name, operator and value of every node's result, in graph order.
        rows: layer -> how many rows its activation has.
    """
    values = {name: value for name, _, value in tensors}
    shapes = activation_shapes(ours)
    named = {layer.name: values[layer.name] for layer in ours.layers if layer.name in values}
    if named:
        return named

    def alike(layer: Layer, tensor: tuple[str, str, Array]) -> bool:
        kinds = _OPERATORS.get(tensor[1], ())
        wanted = (rows[layer.name], *shapes[layer.name])
        return type(layer).__name__ in kinds and canonical_view(tensor[2], wanted) is not None

    found = dict[str, Array]()
    for i, j in align(ours.layers, tensors, alike):
        layer = ours.layers[i]
        view = canonical_view(tensors[j][2], (rows[layer.name], *shapes[layer.name]))
        if view is not None:
            found[layer.name] = view
    return found


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
