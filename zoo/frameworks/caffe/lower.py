"""Networks rewritten into exactly equal ones, for runtimes that lack a layer kind or get it wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from zoo import layers
from zoo.arrays import Array
from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.layers import Layer, ModelSpec, Names, Pair, Shape
from zoo.shapes import activation_shapes, window


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A rewritten network.

    Attributes:
        spec: layers with parameters keep their names and parameters.
        names: layer of the original network -> the layer whose activation is the same in `spec`.
    """

    spec: ModelSpec
    names: dict[str, str]


# A rule gets a layer (inputs written out), the shapes of its inputs and the names that are free; it answers with the
# layers to put in its place, the last of which has the original's activation, or with None.
Rule: TypeAlias = Callable[[Layer, Sequence[Shape], Names], "list[Layer] | None"]


def rewrite(spec: ModelSpec, rule: Rule) -> Lowered:
    """Apply one rule to every layer."""
    shapes, wiring = activation_shapes(spec), spec.wiring()
    free, names, made = Names(shapes), dict[str, str](), list[Layer]()
    for layer in spec.layers:
        explicit = replace(layer, inputs=tuple(names.get(name, name) for name in wiring[layer.name]))
        replacement = rule(explicit, [shapes[name] for name in wiring[layer.name]], free) or [explicit]
        made += replacement
        names[layer.name] = replacement[-1].name
    return Lowered(spec=replace(spec, layers=tuple(made)), names=names)


def rewrite_all(spec: ModelSpec, *rules: Rule) -> Lowered:
    """Apply rules one after the other."""
    names = {layer.name: layer.name for layer in spec.layers}
    for rule in rules:
        step = rewrite(spec, rule)
        spec, names = step.spec, {name: step.names[now] for name, now in names.items()}
    return Lowered(spec=spec, names=names)


def for_caffe(spec: ModelSpec) -> Lowered:
    """An exactly equal network that any Caffe can express.

    Raises:
        UnsupportedError: a layer Caffe has no equal for.
        SpecError: an impossible network.
    """
    return rewrite_all(spec, _checked, bias_apart, single_eltwise, split_towers, floor_convolutions, within_k)


def _checked(layer: Layer, inputs: Sequence[Shape], free: Names) -> None:
    """Refuse what Caffe's own checks refuse."""
    if isinstance(layer, layers.LRN) and len(inputs[0]) != 3:
        raise UnsupportedError(f"layer {layer.name!r} (LRN): Caffe normalises N x C x H x W only")


def bias_apart(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """A Scale by a second input from the batch on, with a bias, which would span it in Caffe. The Bias is named so."""
    if not isinstance(layer, layers.Scale) or not layer.bias or len(inputs) == 1:
        return None
    if axis_index(layer.name, layer.axis, inputs[0]):
        return None
    factor = replace(layer, name=free.fresh(f"{layer.name}_factor"), bias=False)
    return [factor, layers.Bias(name=layer.name, inputs=(factor.name,), axis=1, num_axes=len(inputs[1]))]


def single_eltwise(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """An Eltwise of one input: Caffe's takes two or more."""
    if not isinstance(layer, layers.Eltwise) or len(inputs) > 1:
        return None
    return [layers.Power(name=layer.name, inputs=layer.inputs, scale=layer.coeffs[0] if layer.coeffs else 1.0)]


def split_towers(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """LRN inside towers: Slice, one LRN a tower, Concat. The Concat keeps the name."""
    if not isinstance(layer, layers.LRN) or layer.towers == 1:
        return None
    width = inputs[0][0] // layer.towers
    slices, norms = list[Layer](), list[Layer]()
    for i in range(layer.towers):
        piece = layers.Slice(
            name=free.fresh(f"{layer.name}_in{i + 1}"), inputs=layer.inputs, start=i * width, stop=(i + 1) * width
        )
        slices.append(piece)
        name = free.fresh(f"{layer.name}_tower{i + 1}")
        norms.append(replace(layer, name=name, inputs=(piece.name,), towers=1))
    return [*slices, *norms, layers.Concat(name=layer.name, inputs=tuple(norm.name for norm in norms))]


def floor_convolutions(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """A convolution that rounds up: padded by one stride more on each side, and the surplus positions cut off.

    See `_padded_further`, which covers what the last window read past the edge.
    """
    if not isinstance(layer, layers.Conv) or layer.rounding == "floor":
        return None
    floor = replace(layer, rounding="floor")
    wanted, got = window(layer, inputs[0]).out, window(floor, inputs[0]).out
    return _padded_further(floor, (wanted[0] > got[0], wanted[1] > got[1]), wanted, free)


def without_overhang(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """A kernel that reaches over more than its padded input: padded further, as `floor_convolutions`."""
    if not isinstance(layer, layers.Conv):
        return None
    at = window(layer, inputs[0])
    overhangs = (at.after[0] > layer.pad[0], at.after[1] > layer.pad[1])
    return _padded_further(layer, overhangs, at.out, free) if any(overhangs) else None


def without_gaps(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """A kernel of 3 x 3 a channel, with gaps between its columns and a pad of one: padded further."""
    if not isinstance(layer, layers.Conv) or not 1 < layer.groups == layer.out_channels == inputs[0][0]:
        return None
    if layer.kernel != (3, 3) or layer.pad[1] != 1 or layer.dilation[1] == 1:
        return None
    return _padded_further(layer, (False, True), window(layer, inputs[0]).out, free)


def _padded_further(layer: layers.Conv, axes: tuple[bool, bool], wanted: Pair, free: Names) -> list[Layer]:
    """A convolution with a stride more of padding on some axes, and Slices of the positions that are wanted of it.

    A pad of ``p + stride`` puts one more position before the first, and leaves all others where they were.
    """
    padded = tuple(p + (s if more else 0) for p, s, more in zip(layer.pad, layer.stride, axes, strict=True))
    result: list[Layer] = [replace(layer, pad=(padded[0], padded[1]))]
    for axis, side in enumerate(("rows", "columns")):
        if axes[axis]:
            name = free.fresh(f"{layer.name}_{side}")
            cut = layers.Slice(name=name, inputs=(result[-1].name,), start=1, stop=1 + wanted[axis], axis=2 + axis)
            result.append(cut)
    return result


def within_k(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """LRN within a map: Caffe never reads its k."""
    if isinstance(layer, layers.LRN) and layer.region == "within":
        return without_k(layer, inputs, free)
    return None


def without_k(layer: Layer, inputs: Sequence[Shape], free: Names) -> list[Layer] | None:
    """LRN with k 1: ``x / (k + a S)^b = k^-b * x / (1 + (a/k) S)^b``. The Power keeps the name."""
    if not isinstance(layer, layers.LRN) or layer.k == 1:
        return None
    if layer.k <= 0:
        raise UnsupportedError(f"layer {layer.name!r} (LRN): k must be positive here, got {layer.k:g}")
    unit = replace(layer, name=free.fresh(f"{layer.name}_unit"), k=1.0, alpha=layer.alpha / layer.k)
    return [unit, layers.Power(name=layer.name, inputs=(unit.name,), scale=layer.k**-layer.beta)]


def as_scales(
    spec: ModelSpec, weights: Mapping[str, Array], *, batch_norms: bool
) -> tuple[ModelSpec, dict[str, Array]]:
    """Every `Bias` (and, if asked, every `BatchNorm` with given statistics) as the `Scale` that computes the same.

    Scales get an axis counted from the front, Scales and PReLUs at least one. Returns the network and its parameters.
    """
    shapes, wiring, tensors = activation_shapes(spec), spec.wiring(), dict(weights)
    spec = replace(spec, ties=())  # of parameters that get other names here; each has its copy
    for layer in spec.layers:
        sources, shape = wiring[layer.name], shapes[layer.name]
        weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
        if isinstance(layer, layers.BatchNorm) and batch_norms and not layer.batch_stats:
            mean, variance = tensors.pop(f"{layer.name}.mean"), tensors.pop(f"{layer.name}.variance")
            factor = 1 / np.sqrt(variance.astype(np.float64) + layer.eps)
            tensors[weight], tensors[bias] = factor.astype(np.float32), (-mean * factor).astype(np.float32)
            spec = spec.replace_layer(layers.Scale(name=layer.name, inputs=sources, bias=True))
        elif isinstance(layer, layers.Scale | layers.Bias) and len(sources) == 1:
            if isinstance(layer, layers.Bias):
                tensors[weight] = np.ones_like(tensors[bias])
            axis, num_axes = axis_index(layer.name, layer.axis, shape), layer.num_axes
            if num_axes == 0:  # one number for all
                axis, num_axes = 1, 1
                tensors |= {name: np.full(shape[:1], tensors[name]) for name in (weight, bias) if name in tensors}
            scale = layers.Scale(name=layer.name, inputs=sources, axis=axis, num_axes=num_axes, bias=bias in tensors)
            spec = spec.replace_layer(scale)
        elif isinstance(layer, layers.PReLU) and layer.shared:
            name = f"{layer.name}.slope"
            tensors[name] = np.full(shape[:1], tensors[name])
            spec = spec.replace_layer(replace(layer, inputs=sources, shared=False))
        elif isinstance(layer, layers.Scale | layers.Bias):
            spec = spec.replace_layer(replace(layer, axis=axis_index(layer.name, layer.axis, shape)))
    return spec, tensors


@dataclass(frozen=True, kw_only=True)
class SliceGroup:
    """Slices of one activation along one axis that Caffe can make in one layer: adjacent pieces, gaps filled in.

    Attributes:
        name: of the Caffe layer.
        source: the activation sliced.
        axis: counted from the batch.
        pieces: the names of the pieces, in order.
        points: where they meet.
        unused: the pieces that fill gaps.
    """

    name: str
    source: str
    axis: int
    pieces: tuple[str, ...]
    points: tuple[int, ...]
    unused: tuple[str, ...]


def slice_groups(spec: ModelSpec, lengths: Mapping[str, int]) -> dict[str, SliceGroup]:
    """First slice of a group (in the spec's order) -> the group; each Slice of `spec` is in one of them.

    Args:
        spec: the network.
        lengths: of the first axis of its activations.
    """
    shapes, wiring = activation_shapes(spec), spec.wiring()
    free, open_groups = Names(shapes), dict[tuple[str, int], list[list[layers.Slice]]]()
    for layer in spec.layers:
        if not isinstance(layer, layers.Slice):
            continue
        source = wiring[layer.name][0]
        groups = open_groups.setdefault((source, layer.axis % (len(shapes[source]) + 1)), [])
        fitting = (g for g in groups if all(layer.stop <= s.start or s.stop <= layer.start for s in g))
        group = next(fitting, None)
        if group is None:
            groups.append([layer])
        else:
            group.append(layer)
    return {
        group[0].name: _tiled(group, source, axis, (lengths[source], *shapes[source])[axis], free)
        for (source, axis), groups in open_groups.items()
        for group in groups
    }


def _tiled(group: list[layers.Slice], source: str, axis: int, size: int, free: Names) -> SliceGroup:
    pieces, points, unused, end = list[str](), list[int](), list[str](), 0
    for piece in [*sorted(group, key=lambda s: s.start), None]:
        start = piece.start if piece else size
        if start > end:
            unused.append(free.fresh(f"{group[0].name}_unused{len(unused) + 1}"))
            pieces.append(unused[-1])
            points.append(end)
        if piece:
            pieces.append(piece.name)
            points.append(piece.start)
            end = piece.stop
    return SliceGroup(
        name=group[0].name if len(pieces) == 1 else free.fresh(f"{group[0].name}_slice"),
        source=source,
        axis=axis,
        pieces=tuple(pieces),
        points=tuple(points[1:]),
        unused=tuple(unused),
    )
