"""Two mistakes at once, in one layer or in two of which the subject shows the second alone.

Pairs are tried where no single fault explains a layer, and on little: the first sample, and so few of a large layer's
outputs that one try stays cheap. What fits there is held against everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

import numpy as np

from converters.faults.case import Case, left_by
from converters.faults.types import Edit, Fault, Site, evaluate
from converters.verdicts import Diagnosis
from converters.weights import Array
from zoo.layers import Conv, Dense, Layer

# No more tries than this a layer, and no more multiplications a try.
_TRIES = 2000
_PRODUCTS = 400_000

# A chain of more hidden layers than this has too many pairs.
_LAYERS = 3


@dataclass(frozen=True, kw_only=True)
class _Pair:
    first: Fault
    second: Fault
    places: tuple[Layer, Layer]
    result: Array


def explained_by_two(faults: Sequence[Fault], case: Case) -> Diagnosis | None:
    """The two faults that together explain a layer, or None."""
    if len(case.chain) > _LAYERS:
        return None
    small = _small(case)
    for tried in islice(_pairs(faults, small), _TRIES):
        if left_by(small, tried.places[1], tried.result) is None:
            continue
        whole = [
            (left, pair)
            for pair in _pairs((tried.first, tried.second), case, tried.places)
            if (left := left_by(case, pair.places[1], pair.result)) is not None
        ]
        if whole:
            left, pair = min(whole, key=lambda item: item[0])
            return _named(pair, left)
    return None


def _named(pair: _Pair, left: float) -> Diagnosis:
    first, second = (place.name for place in pair.places)
    there = "" if first == second else f"{second}: "
    return Diagnosis(
        fault=f"{pair.first.name}+{pair.second.name}",
        layer=first,
        message=f"{first}: {pair.first.sentence}, and {there}{pair.second.sentence}",
        remedy=f"{pair.first.remedy}; {pair.second.remedy}",
        error=left,
    )


def _pairs(faults: Sequence[Fault], case: Case, places: tuple[Layer, Layer] | None = None) -> Iterator[_Pair]:
    """What two faults make of a layer, or of two layers of the chain; of `places` alone, if they are given."""
    for i, place in enumerate(case.chain):
        for later in case.chain[i:]:
            if places and (place.name, later.name) != (places[0].name, places[1].name):
                continue
            both = _in_one(faults, case.site(place)) if later is place else _in_two(faults, case, place, later)
            for first, second, y in both:
                yield _Pair(first=first, second=second, places=(place, later), result=y)


def _in_one(faults: Sequence[Fault], site: Site) -> Iterator[tuple[Fault, Fault, Array]]:
    for first, second in combinations(faults, 2):
        for edit in first.forms(site):
            after = _under(site, edit)
            for other in second.forms(after) if after else ():
                y = evaluate(after or site, other)
                if y is not None:
                    yield first, second, edit.result(y) if edit.result else y


def _under(site: Site, edit: Edit) -> Site | None:
    """The layer as a first fault has it, for the second to be in; None where that is no one layer of its kind."""
    if len(edit.layers) != 1 or type(edit.layers[0]) is not type(site.layer) or edit.spec is not None:
        return None
    name, inputs = site.layer.name, list(site.inputs)
    if edit.feed:
        inputs[0] = edit.feed(inputs[0])
    changed = {f"{name}.{role}": tensor for role, tensor in edit.parameters.items()}
    return replace(site, layer=edit.layers[0], inputs=tuple(inputs), weights={**site.weights, **changed})


def _in_two(faults: Sequence[Fault], case: Case, place: Layer, later: Layer) -> Iterator[tuple[Fault, Fault, Array]]:
    between = case.chain[case.chain.index(place) + 1 : case.chain.index(later)]
    for first in faults:
        for edit in () if first.needs_output else first.forms(case.site(place)):
            y = evaluate(case.site(place), edit)
            known = {**case.known, place.name: y} if y is not None else None
            for layer in between if known else ():
                y = evaluate(replace(case, known=known).site(layer), Edit(layers=(layer,))) if known else None
                known = {**known, layer.name: y} if known and y is not None else None
            if not known:
                continue
            site = replace(case, known=known).site(later)
            for second in faults:
                for other in second.forms(site):
                    z = evaluate(site, other)
                    if z is not None:
                        yield first, second, z


def _small(case: Case) -> Case:
    """The first sample, and of a large layer that stands alone a few outputs: as many of each group."""
    known = {name: value[:1] for name, value in case.known.items()}
    small = replace(case, known=known, observed=case.observed[:1])
    layer, weight = case.layer, case.weights.get(f"{case.layer.name}.weight")
    if len(case.chain) > 1 or weight is None or not isinstance(layer, Conv | Dense) or small.observed.ndim < 2:
        return small
    groups = layer.groups if isinstance(layer, Conv) else 1
    positions = small.observed.size // max(small.observed.shape[1], 1) if isinstance(layer, Conv) else 1
    products = weight.size * positions
    if products <= _PRODUCTS or small.observed.shape[1] != len(weight):
        return small
    each = len(weight) // groups
    some = max(4, each * _PRODUCTS // products)
    rows = np.concatenate([group * each + np.arange(min(some, each)) for group in range(groups)])
    cut = {
        f"{layer.name}.{role}": case.weights[f"{layer.name}.{role}"][rows]
        for role in ("weight", "bias")
        if f"{layer.name}.{role}" in case.weights
    }
    fewer = (
        replace(layer, out_channels=len(rows)) if isinstance(layer, Conv) else replace(layer, out_features=len(rows))
    )
    spec = case.spec.replace_layer(fewer)
    return replace(small, spec=spec, weights={**case.weights, **cut}, chain=(fewer,), observed=small.observed[:, rows])
