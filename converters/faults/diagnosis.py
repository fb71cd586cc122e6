"""Recognising a fault: the layer is recomputed, on what the subject fed it, under every fault that can be there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np

from converters.faults.types import Edit, Fault, Site, evaluate, parameters_of
from converters.metric import defect, error, log_error
from converters.verdicts import UNKNOWN, Diagnosis
from converters.weights import Array
from zoo.layers import LRN, Layer, ModelSpec, Softmax

# A fault that explains a difference must bring the error down by this factor at least, and be this much better than
# the next one to be named alone.
_CLEARLY = 4.0


@dataclass(frozen=True, kw_only=True)
class Own:
    """A layer as the subject itself has it.

    Attributes:
        layer: its description.
        parameters: ``weight`` -> array.
    """

    layer: Layer
    parameters: Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A layer that is wrong by itself.

    Attributes:
        chain: the layers between the last activations that the subject shows and the wrong one, itself included.
        known: every activation up to it: the subject's, or recomputed from the subject's.
        observed: what the subject gave.
        shown: everything else it gave.
        error: of the observed against the right answer to the subject's own input; infinite for another shape.
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

    @property
    def layer(self) -> Layer:
        return self.chain[-1]


@dataclass(frozen=True, kw_only=True)
class _Match:
    fault: Fault
    edit: Edit
    layer: str
    error: float


def diagnose_layers(
    faults: Sequence[Fault],
    spec: ModelSpec,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    activations: Mapping[str, Array],
    budget: float,
    theirs: Mapping[str, Own],
) -> Iterator[Diagnosis]:
    """See `converters.faults.diagnose`."""
    wiring, hidden, excused = spec.wiring(), set[str](), set[str]()
    known: dict[str, Array] = {name: np.asarray(x, np.float64) for name, x in inputs.items()}
    for layer in spec.layers:
        right = _recomputed(spec, weights, layer, known)
        observed = activations.get(layer.name)
        if observed is None or not np.isfinite(observed).all():
            if observed is not None:
                yield _not_finite(layer)
            if right is None:
                return
            known[layer.name] = right
            hidden.add(layer.name)
            continue
        known[layer.name] = np.asarray(observed, np.float64)
        wrong = (
            float("inf") if right is None or defect(observed, right) else _error(observed, right, known, layer, spec)
        )
        if wrong <= budget or layer.name in excused:
            continue
        chain = tuple(_upstream(spec, wiring, layer.name, hidden))
        case = _Case(
            spec=spec,
            weights=weights,
            chain=chain,
            known={name: value for name, value in known.items() if name != layer.name},
            observed=known[layer.name],
            shown=activations,
            error=wrong,
            budget=budget,
            theirs=theirs,
        )
        diagnosis = _explained(faults, case)
        excused |= _involved(faults, diagnosis, wiring)
        yield diagnosis


def _involved(faults: Sequence[Fault], diagnosis: Diagnosis, wiring: Mapping[str, tuple[str, ...]]) -> set[str]:
    """What else differs because two layers are run in the other order: the second, and whoever reads it."""
    if not any(fault.name == diagnosis.fault and fault.family == "order" for fault in faults):
        return set()
    second = {name for name, sources in wiring.items() if diagnosis.layer in sources}
    return second | {name for name, sources in wiring.items() if second & {*sources}}


def _recomputed(
    spec: ModelSpec, weights: Mapping[str, Array], layer: Layer, known: Mapping[str, Array]
) -> Array | None:
    """The right answer to what the subject fed the layer; None where that does not fit the layer."""
    reads = tuple(known[name] for name in spec.wiring()[layer.name])
    return evaluate(Site(spec=spec, weights=weights, layer=layer, inputs=reads), Edit(layers=(layer,)))


def _error(observed: Array, right: Array, known: Mapping[str, Array], layer: Layer, spec: ModelSpec) -> float:
    fallback = max(float(np.abs(known[name]).max(initial=0.0)) for name in spec.wiring()[layer.name])
    value = error(observed, right, fallback)[0]
    # Probabilities near 0 and 1 hide what happened to their logits; that must be explained as well.
    if isinstance(layer, Softmax) and (right >= 0).all() and (right <= 1).all():
        value = max(value, log_error(observed, right))
    return value


def _upstream(spec: ModelSpec, wiring: Mapping[str, tuple[str, ...]], name: str, hidden: set[str]) -> Iterator[Layer]:
    """A layer, after the hidden ones that lead to it, in the spec's order."""
    wanted, stack = {name}, [name]
    while stack:
        for source in wiring[stack.pop()]:
            if source in hidden and source not in wanted:
                wanted.add(source)
                stack.append(source)
    yield from (layer for layer in spec.layers if layer.name in wanted)


def _explained(faults: Sequence[Fault], case: _Case) -> Diagnosis:
    matches = sorted(_matches(faults, case), key=lambda match: match.error)
    if matches:
        best = matches[0]
        if not best.edit.layers and len(case.chain) > 1:
            later = _run_later(faults, case, best)
            if later:
                return later
        rivals = [match for match in matches[1:] if match.error <= _CLEARLY * best.error]
        return _named(best, rivals)
    return _by_pair(faults, case) or _by_definition(case) or _by_wiring(case) or _unknown(case)


def _run_later(faults: Sequence[Fault], case: _Case, missing: _Match) -> Diagnosis | None:
    """A hidden layer that seems to be missing may only be run later: then it is in what the next layer reads."""
    place = case.spec.layer(missing.layer)
    known = {**case.known, case.layer.name: case.observed}
    site = Site(spec=case.spec, weights=case.weights, layer=place, inputs=(case.observed,))
    moved = evaluate(site, Edit(layers=(place,)))
    orders = [fault for fault in faults if fault.family == "order" and any(True for _ in fault.edits(site))]
    for reader in case.spec.layers:
        shown = case.shown.get(reader.name)
        if moved is None or shown is None or case.layer.name not in case.spec.wiring()[reader.name]:
            continue
        expected = _recomputed(case.spec, case.weights, reader, {**known, case.layer.name: moved})
        if expected is None or defect(shown, expected) or not orders:
            continue
        left = error(shown, expected)[0]
        if left <= case.budget:
            return _named(_Match(fault=orders[0], edit=Edit(layers=(place,)), layer=place.name, error=left), ())
    return None


def _matches(faults: Sequence[Fault], case: _Case) -> Iterator[_Match]:
    for place in case.chain:
        reads = tuple(case.known[name] for name in case.spec.wiring()[place.name])
        own = case.theirs.get(place.name)
        site = Site(
            spec=case.spec,
            weights=case.weights,
            layer=place,
            inputs=reads,
            observed=case.observed if place is case.layer else None,
            theirs=own.parameters if own else {},
        )
        for fault in faults:
            if fault.needs_output and site.observed is None:
                continue
            left = [(value, edit) for edit in fault.edits(site) if (value := _left(case, site, edit)) is not None]
            if left:
                value, edit = min(left, key=lambda pair: pair[0])
                yield _Match(fault=fault, edit=edit, layer=place.name, error=value)


def _left(case: _Case, site: Site, edit: Edit) -> float | None:
    """The error that an edit leaves unexplained; None where it does not explain the output."""
    y = evaluate(site, edit)
    if y is None:
        return None
    known = {**case.known, site.layer.name: y}
    for later in case.chain[case.chain.index(site.layer) + 1 :]:
        y = _recomputed(case.spec, case.weights, later, known)
        if y is None:
            return None
        known[later.name] = y
    if defect(case.observed, y):
        return None
    value = _error(case.observed, y, known, case.layer, case.spec)
    return value if value <= case.budget and value * _CLEARLY <= case.error else None


def _named(best: _Match, rivals: Sequence[_Match]) -> Diagnosis:
    also = f" ({best.edit.also})" if best.edit.also else ""
    places = ["" if rival.layer == best.layer else f"in {rival.layer} " for rival in rivals]
    told = [place + rival.fault.sentence for place, rival in zip(places, rivals, strict=True)]
    other = "".join(f"; or, with the same numbers here, {sentence}" for sentence in told)
    return Diagnosis(
        fault=best.fault.name,
        layer=best.layer,
        message=f"{best.layer}: {best.fault.sentence}{also}{other}",
        remedy=best.fault.remedy,
        error=best.error,
        rivals=tuple(rival.fault.name for rival in rivals),
    )


def _by_pair(faults: Sequence[Fault], case: _Case) -> Diagnosis | None:
    """Two mistakes in the attributes of one normalisation, as when both alpha and k are left to a default."""
    layer = case.layer
    if not isinstance(layer, LRN) or len(case.chain) > 1:
        return None
    reads = tuple(case.known[name] for name in case.spec.wiring()[layer.name])
    site = Site(spec=case.spec, weights=case.weights, layer=layer, inputs=reads)
    changes = list[tuple[Fault, dict[str, Any]]]()
    for fault in faults:
        for edit in fault.edits(site):
            if len(edit.layers) == 1 and isinstance(edit.layers[0], LRN) and edit.fits_a_file:
                changes.append((fault, _attributes(layer, edit.layers[0])))
    for (first, one), (second, other) in combinations(changes, 2):
        if one.keys() & other.keys():
            continue
        left = _left(case, site, Edit(layers=(replace(layer, **one, **other),)))
        if left is not None:
            return Diagnosis(
                fault=f"{first.name}+{second.name}",
                layer=layer.name,
                message=f"{layer.name}: {first.sentence}, and {second.sentence}",
                remedy=f"{first.remedy}; {second.remedy}",
                error=left,
            )
    return None


def _attributes(ours: Layer, theirs: Layer) -> dict[str, Any]:
    """The attributes that differ, as they are in `theirs`; both of one kind."""
    return {
        item.name: getattr(theirs, item.name)
        for item in fields(ours)
        if getattr(ours, item.name) != getattr(theirs, item.name)
    }


def _by_definition(case: _Case) -> Diagnosis | None:
    """The subject describes the layer otherwise, and what it describes is what it computes."""
    for place in case.chain:
        own = case.theirs.get(place.name)
        if own is None:
            continue
        alike = replace(own.layer, name=place.name, inputs=place.inputs)
        reads = tuple(case.known[name] for name in case.spec.wiring()[place.name])
        site = Site(spec=case.spec, weights=case.weights, layer=place, inputs=reads)
        left = _left(case, site, Edit(layers=(alike,), parameters=own.parameters)) if alike != place else None
        if left is not None:
            return Diagnosis(
                fault="definition_differs",
                layer=place.name,
                message=f"{place.name}: the two networks define it differently: {'; '.join(_changes(place, alike))}",
                remedy="take the definition that the weights were trained with",
                error=left,
            )
    return None


def _changes(ours: Layer, theirs: Layer) -> Iterator[str]:
    if type(ours) is not type(theirs):
        yield f"{type(theirs).__name__} instead of {type(ours).__name__}"
        return
    for name, wrong in _attributes(ours, theirs).items():
        yield f"{name} is {wrong}, not {getattr(ours, name)}"


def _by_wiring(case: _Case) -> Diagnosis | None:
    """The layer reads another activation than it should."""
    if len(case.chain) > 1:
        return None
    (source, *others), layer = case.spec.wiring()[case.layer.name], case.layer
    for name, value in case.known.items():
        if name == source or value.shape[1:] != case.known[source].shape[1:]:
            continue
        reads = (value, *(case.known[other] for other in others))
        site = Site(spec=case.spec, weights=case.weights, layer=layer, inputs=reads)
        left = _left(case, site, Edit(layers=(layer,)))
        if left is not None:
            return Diagnosis(
                fault="wrong_input",
                layer=layer.name,
                message=f"{layer.name}: it reads {name} instead of {source}",
                remedy="connect it as the network says",
                error=left,
            )
    return None


def _unknown(case: _Case) -> Diagnosis:
    size = "its output has another shape" if case.error == float("inf") else f"error {case.error:.1e} by itself"
    names = " or ".join(place.name for place in case.chain)
    clues = list(_clues(case))
    told = f"; {'; '.join(clues)}" if clues else ""
    return Diagnosis(
        fault=UNKNOWN,
        layer=case.layer.name,
        message=f"{names}: nothing known explains the difference ({size}){told}",
        remedy="compare this layer's weights and attributes by hand; everything before it is in order",
    )


def _clues(case: _Case) -> Iterable[str]:
    for place in case.chain:
        own = case.theirs.get(place.name)
        for name, right in parameters_of(case.weights, place.name).items():
            wrong = own.parameters.get(name) if own else None
            if wrong is not None and wrong.shape == right.shape and not np.array_equal(wrong, right):
                count, peak = int(np.count_nonzero(wrong != right)), float(np.abs(right).max(initial=0.0))
                worst = float(np.abs(wrong - right).max()) / peak if peak else float("inf")
                yield (
                    f"{place.name}.{name} itself differs, in {count:,} of {right.size:,} numbers, "
                    f"by up to {worst:.1e} of its peak"
                )


def inherited(layer: str, reason: str | None) -> Diagnosis:
    """No layer is wrong by itself: small errors add up, or the layer is not there."""
    told = reason or "no layer is wrong by itself; small errors add up to more than the budget"
    return Diagnosis(
        fault=UNKNOWN,
        layer=layer,
        message=f"{layer}: {told}",
        remedy="look at how the error grows by depth: a lower precision (TF32, half) in one framework grows so",
    )


def _not_finite(layer: Layer) -> Diagnosis:
    return Diagnosis(
        fault=UNKNOWN,
        layer=layer.name,
        message=f"{layer.name}: it gives NaN or Inf",
        remedy="look for a division by zero, an overflow in half precision, or uninitialised memory in this layer",
    )
