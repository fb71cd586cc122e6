"""What a caffemodel says of the network that saved it, held against a network its weights would fit.

Caffe loads weights by layer name and shape, but writes every layer along. Two members of one family can have all shapes
in common: the order of the layers in the file, and its LRN parameters, tell them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

from zoo.errors import SpecError
from zoo.layers import LRN, ModelSpec
from zoo.shapes import activation_shapes
from zoo.show import first_difference
from zoo.wire.caffemodel import StoredLayer

# LRNParameter.NormRegion.
_WITHIN = 1


def saved_otherwise(layers: Sequence[StoredLayer], spec: ModelSpec) -> str | None:
    """The first fact in which the network that saved a file differs from `spec`, as far as the file says."""
    return first_difference(spec, replace(_as_saved(layers, spec), name="the file"))


def _as_saved(layers: Sequence[StoredLayer], spec: ModelSpec) -> ModelSpec:
    """`spec` with what the file says otherwise: the order of a chain's layers, and its LRN.

    Layers that only one of them has are no contradiction: a file is often saved by the network in training, and
    converters write but names.
    """
    saved = {layer.name: layer for layer in layers}
    for layer in spec.layers:
        theirs = saved.get(layer.name)
        if isinstance(layer, LRN) and theirs and theirs.type == "LRN":
            spec = spec.replace_layer(_lrn(layer, theirs.lrn))
    if any(layer.inputs for layer in spec.layers):
        return spec
    ours = {layer.name: layer for layer in spec.layers}
    in_file = iter([ours[name] for name in saved if name in ours])
    ordered = tuple(next(in_file) if layer.name in saved else layer for layer in spec.layers)
    saved_in_order = replace(spec, layers=ordered)
    try:
        activation_shapes(saved_in_order)
    except SpecError:  # no network has that order: the file was sorted, or shuffled, which Caffe does not mind
        return spec
    return saved_in_order


def _lrn(layer: LRN, numbers: Mapping[str, float] | None) -> LRN:
    """A layer of that name and Caffe's own kind, which knows no towers."""
    if numbers is None:  # written without parameters, which says nothing of them
        return replace(layer, towers=1)
    within = numbers.get("norm_region") == _WITHIN
    return replace(
        layer,
        towers=1,
        size=int(numbers.get("local_size", 5)),
        alpha=_same(numbers.get("alpha", 1.0), layer.alpha),
        beta=_same(numbers.get("beta", 0.75), layer.beta),
        k=1.0 if within else _same(numbers.get("k", 1.0), layer.k),
        region="within" if within else "across",
    )


def _same(single: float, ours: float) -> float:
    """Ours, where the file has it rounded to single precision; else theirs, as it was written."""
    return ours if struct.pack("<f", ours) == struct.pack("<f", single) else float(f"{single:.7g}")
