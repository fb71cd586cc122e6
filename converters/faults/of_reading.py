"""A layer that the subject itself describes otherwise, or that reads what it should not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, permutations
from typing import Any

import numpy as np

from converters.faults.case import Case, attributes, left_by
from converters.faults.types import Edit, Site, evaluate
from converters.metric import defect, error
from converters.verdicts import Diagnosis
from converters.weights import Array
from zoo.layers import LRN, Dropout, Layer

_CONNECT = "connect it as the network says"

# Of so many operands every order is tried.
_MANY = 4


def described_otherwise(case: Case) -> Diagnosis | None:
    """The subject describes the layer otherwise, and what it describes is what it computes."""
    for place in case.chain:
        own = case.theirs.get(place.name)
        if own is None:
            continue
        alike = as_ours(place, own.layer)
        edit = Edit(layers=(alike,), parameters=own.parameters)
        left = left_by(case, place, evaluate(case.site(place), edit)) if alike != place else None
        if left is not None:
            return Diagnosis(
                fault="definition_differs",
                layer=place.name,
                message=f"{place.name}: the two networks define it differently: {'; '.join(_changes(place, alike))}",
                remedy="take the definition that the weights were trained with",
                error=left,
            )
    return None


def not_run(ours: Layer, theirs: Layer) -> Diagnosis | None:
    """The first layer whose result is not there, where the subject describes it otherwise; None where it does not."""
    alike = as_ours(ours, theirs)
    if alike == ours:
        return None
    told, remedy = "; ".join(_changes(ours, alike)), "take the definition that the weights were trained with"
    even = isinstance(ours, LRN) and isinstance(alike, LRN) and alike.region == "across" and not alike.size % 2
    if even:
        told += "; a window of an even size has no middle, and most runtimes refuse it"
        remedy = f"set size to {ours.size}" if isinstance(ours, LRN) else remedy
    return Diagnosis(
        fault="lrn_even_size" if even else "definition_differs",
        layer=ours.name,
        message=f"{ours.name}: it gives no result, and is defined differently: {told}",
        remedy=remedy,
    )


def as_ours(place: Layer, theirs: Layer) -> Layer:
    """Their layer under our name and with our inputs; numbers that are one in float32 as we have them."""
    alike = dict[str, Any]()
    if type(place) is type(theirs):
        for name, wrong in attributes(place, theirs).items():
            right = getattr(place, name)
            if isinstance(wrong, float) and isinstance(right, float) and np.float32(wrong) == np.float32(right):
                alike[name] = right
    return replace(theirs, **{**alike, "name": place.name, "inputs": place.inputs})


def _changes(ours: Layer, theirs: Layer) -> Iterator[str]:
    if type(ours) is not type(theirs):
        yield f"{type(theirs).__name__} instead of {type(ours).__name__}"
        return
    for name, wrong in attributes(ours, theirs).items():
        yield f"{name} is {wrong}, not {getattr(ours, name)}"


def reads_another(case: Case) -> Diagnosis | None:
    """The layer reads another activation than it should."""
    if len(case.chain) > 1:
        return None
    (source, *others), layer = case.spec.wiring()[case.layer.name], case.layer
    for name, value in case.known.items():
        if name == source or value.shape[1:] != case.known[source].shape[1:]:
            continue
        reads = (value, *(case.known[other] for other in others))
        site = Site(spec=case.spec, weights=case.weights, layer=layer, inputs=reads)
        left = left_by(case, layer, evaluate(site, Edit(layers=(layer,))))
        if left is not None:
            told = f"{layer.name}: it reads {name} instead of {source}"
            return Diagnosis(fault="wrong_input", layer=layer.name, message=told, remedy=_CONNECT, error=left)
    return None


def operands_exchanged(case: Case) -> Diagnosis | None:
    """The layer reads what it should, in another order."""
    sources, layer = case.spec.wiring()[case.layer.name], case.layer
    if len(case.chain) > 1 or not 1 < len(sources) <= _MANY:
        return None
    for order in islice(permutations(sources), 1, None):  # the first is the right one
        reads = tuple(case.known[name] for name in order)
        site = Site(spec=case.spec, weights=case.weights, layer=layer, inputs=reads)
        left = left_by(case, layer, evaluate(site, Edit(layers=(layer,))))
        if left is not None:
            told = f"{layer.name}: it reads {', '.join(order)}, in this order, instead of {', '.join(sources)}"
            return Diagnosis(fault="operands_exchanged", layer=layer.name, message=told, remedy=_CONNECT, error=left)
    return None


def reads_altered(case: Case) -> Diagnosis | None:
    """The layer is right about what it was really fed; something between it and the layer before alters that."""
    layer, own = case.layer, case.theirs.get(case.layer.name)
    source = case.spec.wiring()[layer.name][0]
    x = case.known[source]
    if own is None or own.read is None or own.read.size != x.size or not np.isfinite(own.read).all():
        return None
    read = np.asarray(own.read, np.float64).reshape(x.shape)
    site = case.site(layer)
    left = left_by(case, layer, evaluate(replace(site, inputs=(read, *site.inputs[1:])), Edit(layers=(layer,))))
    if left is None:
        return None
    dropped = _dropped(x, read, case.budget)
    if dropped:
        ours = case.spec.layer(source) if source in {place.name for place in case.spec.layers} else None
        place = source if isinstance(ours, Dropout) else layer.name
        return Diagnosis(
            fault="dropout_left_on",
            layer=place,
            message=f"{place}: dropout was left on: {dropped} before {layer.name} reads them",
            remedy="run the network for inference: eval() in PyTorch, training_mode false in ONNX, phase TEST in Caffe",
            error=left,
        )
    how, off = _how(x, read, case.budget), error(read, x, fallback=1.0)[0]
    return Diagnosis(
        fault="wrong_input",
        layer=layer.name,
        message=f"{layer.name}: it computes what it should, but reads not what {source} gives{how} (error {off:.1e})",
        remedy=f"look at what stands between {source} and {layer.name}",
        error=left,
    )


def _dropped(x: Array, read: Array, budget: float) -> str | None:
    """How a layer's numbers were dropped at random; None where that is not what happened."""
    live = x != 0
    kept = live & (read != 0)
    count = int(np.count_nonzero(live))
    if not np.any(kept) or np.array_equal(kept, live):
        return None
    share, factor = 1 - np.count_nonzero(kept) / count, float(np.median(read[kept] / x[kept]))
    if defect(read, x) or error(read, np.where(kept, factor * x, 0.0), fallback=1.0)[0] > budget:
        return None
    scaled = abs(factor - 1) > 1e-3
    ratio = 1 - 1 / factor if scaled and factor else share
    # Chance may drop somewhat more or less than the ratio.
    if not 0 < ratio < 1 or abs(share - ratio) > 0.05 + 4 * (ratio * (1 - ratio) / count) ** 0.5:
        return None
    rest = f"times {factor:.4g}" if scaled else "not scaled"
    return f"{share:.0%} of the numbers are 0 and the rest is {rest}"


def _how(x: Array, read: Array, budget: float) -> str:
    power = float((x * x).sum())
    factor = float((x * read).sum()) / power if power else 0.0
    return f": it is {factor:.5g} times that" if error(read, factor * x, fallback=1.0)[0] <= budget else ""
