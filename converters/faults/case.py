"""A layer that is wrong by itself, and how much of that a change of it explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from converters.faults.types import Edit, Site, evaluate
from converters.metric import defect, error, log_error
from converters.weights import Array
from zoo.layers import Layer, ModelSpec, Softmax

# A fault that explains a difference must bring the error down by this factor at least, and be this much better than
# the next one to be named alone.
CLEARLY = 4.0


@dataclass(frozen=True, kw_only=True)
class Own:
    """A layer as the subject itself has it.

    Attributes:
        layer: its description.
        parameters: ``weight`` -> array.
        read: what it was really fed, in any layout of the same order of numbers, where the subject shows that beside
            the activations of its layers (an ONNX node reads a tensor, whatever that is).
    """

    layer: Layer
    parameters: Mapping[str, Array]
    read: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer that is wrong by itself.

    Attributes:
        chain: the layers between the last activations that the subject shows and the wrong one, itself included.
        known: every activation up to it: the subject's, or recomputed from the subject's.
        observed: what the subject gave.
        shown: everything else it gave.
        error: of the observed against the right answer to the subject's own input; infinite for another shape.
        first: whether nothing before it was found wrong.
    """

    spec: ModelSpec
    weights: Mapping[str, Array]
    chain: tuple[Layer, ...]
    known: Mapping[str, Array]
    observed: Array
    shown: Mapping[str, Array]
    error: float
    budget: float
    theirs: Mapping[str, Own]
    first: bool = True

    @property
    def layer(self) -> Layer:
        """The wrong one."""
        return self.chain[-1]

    def site(self, place: Layer) -> Site:
        """A layer of the chain, as a place where a fault may be."""
        own = self.theirs.get(place.name)
        return Site(
            spec=self.spec,
            weights=self.weights,
            layer=place,
            inputs=tuple(self.known[name] for name in self.spec.wiring()[place.name]),
            observed=self.observed if place is self.layer else None,
            theirs=own.parameters if own else {},
        )


def recomputed(spec: ModelSpec, weights: Mapping[str, Array], layer: Layer, known: Mapping[str, Array]) -> Array | None:
    """The right answer to what the subject fed the layer; None where that is not known, or does not fit the layer."""
    names = spec.wiring()[layer.name]
    if not known.keys() >= {*names}:
        return None
    reads = tuple(known[name] for name in names)
    return evaluate(Site(spec=spec, weights=weights, layer=layer, inputs=reads), Edit(layers=(layer,)))


def error_of(observed: Array, right: Array, known: Mapping[str, Array], layer: Layer, spec: ModelSpec) -> float:
    """The error of a layer, given what it read."""
    fallback = max(float(np.abs(known[name]).max(initial=0.0)) for name in spec.wiring()[layer.name])
    value = error(observed, right, fallback)[0]
    # Probabilities near 0 and 1 hide what happened to their logits; that must be explained as well.
    if isinstance(layer, Softmax) and (right >= 0).all() and (right <= 1).all():
        value = max(value, log_error(observed, right))
    return value


def left_by(case: Case, place: Layer, y: Array | None) -> float | None:
    """The error that remains if a layer of the chain gave `y`; None where that does not explain the output."""
    if y is None:
        return None
    known = {**case.known, place.name: y}
    for later in case.chain[case.chain.index(place) + 1 :]:
        y = recomputed(case.spec, case.weights, later, known)
        if y is None:
            return None
        known[later.name] = y
    if defect(case.observed, y):
        return None
    value = error_of(case.observed, y, known, case.layer, case.spec)
    return value if value <= case.budget and value * CLEARLY <= case.error else None


def attributes(ours: Layer, theirs: Layer) -> dict[str, Any]:
    """The attributes that differ, as they are in `theirs`; both of one kind."""
    return {
        item.name: getattr(theirs, item.name)
        for item in fields(ours)
        if getattr(ours, item.name) != getattr(theirs, item.name)
    }
