"""Recognising a fault: the layer is recomputed, on what the subject fed it, under every fault that can be there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converters.faults.case import CLEARLY, Case, Own, error_of, left_by, recomputed
from converters.faults.merging import Found
from converters.faults.of_outputs import IDENTICAL, explain_output
from converters.faults.of_pairs import explained_by_two
from converters.faults.of_reading import (
    described_otherwise,
    not_run,
    operands_exchanged,
    reads_altered,
    reads_another,
)
from converters.faults.of_rounding import denormals_flushed, float32_alone
from converters.faults.types import Edit, Fault, Site, evaluate
from converters.metric import defect, error
from converters.verdicts import UNKNOWN, Diagnosis
from converters.weights import Array
from zoo.layers import Dropout, Layer, ModelSpec, Softmax
from zoo.parameters import parameters_of
from zoo.shapes import activation_shapes


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
) -> Iterator[Found]:
    """Every layer that is wrong by itself; see `converters.faults.diagnose`."""
    wiring, hidden, excused, first = spec.wiring(), set[str](), set[str](), True
    shapes = activation_shapes(spec) | {source.name: source.shape for source in spec.inputs}

    def resized(name: str) -> bool:
        """Whether an earlier fault has changed the size of what a layer reads: it is then not the network's layer."""
        return any(known[source].shape[1:] != shapes[source] for source in wiring[name])

    known: dict[str, Array] = {name: np.asarray(x, np.float64) for name, x in inputs.items()}
    for layer in spec.layers:
        right = recomputed(spec, weights, layer, known)
        observed = activations.get(layer.name)
        if observed is None or (not np.isfinite(observed).all() and (right is None or defect(observed, right))):
            if observed is not None:
                yield Found(diagnosis=_not_finite(layer), layers=frozenset([layer.name]))
                first = False
            if right is None:
                return
            known[layer.name] = right
            hidden.add(layer.name)
            continue
        known[layer.name] = np.asarray(observed, np.float64)
        wrong = (
            float("inf") if right is None or defect(observed, right) else error_of(observed, right, known, layer, spec)
        )
        if wrong <= budget or layer.name in excused or (not first and resized(layer.name)):
            continue
        case = Case(
            spec=spec,
            weights=weights,
            chain=tuple(_upstream(spec, wiring, layer.name, hidden)),
            known={name: value for name, value in known.items() if name != layer.name},
            observed=known[layer.name],
            shown=activations,
            error=wrong,
            budget=budget,
            theirs=theirs,
            first=first,
        )
        diagnosis, other = _explained(faults, case)
        also = _involved(faults, diagnosis, wiring)
        excused, first = excused | also, False
        yield Found(diagnosis=diagnosis, layers=frozenset(place.name for place in case.chain) | also, other=other)


def without_result(spec: ModelSpec, activations: Mapping[str, Array], theirs: Mapping[str, Own]) -> tuple[Found, ...]:
    """Where a subject could not be run to its end: the layer it stopped at, if it describes that otherwise."""
    shown = [i for i, layer in enumerate(spec.layers) if layer.name in activations]
    for layer in spec.layers[shown[-1] + 1 if shown else 0 :]:
        own = theirs.get(layer.name)
        found = not_run(layer, own.layer) if own else None
        if found:
            return (Found(diagnosis=found, layers=frozenset([layer.name])),)
    return ()


def _involved(faults: Sequence[Fault], diagnosis: Diagnosis, wiring: Mapping[str, tuple[str, ...]]) -> set[str]:
    """What else differs because two layers are run in the other order: the second, and whoever reads it."""
    names = diagnosis.fault.split("+")
    if not any(fault.name in names and fault.family == "order" for fault in faults):
        return set()
    second = {name for name, sources in wiring.items() if diagnosis.layer in sources}
    return second | {name for name, sources in wiring.items() if second & {*sources}}


def _upstream(spec: ModelSpec, wiring: Mapping[str, tuple[str, ...]], name: str, hidden: set[str]) -> Iterator[Layer]:
    """A layer, after the hidden ones that lead to it, in the spec's order."""
    wanted, stack = {name}, [name]
    while stack:
        for source in wiring[stack.pop()]:
            if source in hidden and source not in wanted:
                wanted.add(source)
                stack.append(source)
    yield from (layer for layer in spec.layers if layer.name in wanted)


def _explained(faults: Sequence[Fault], case: Case) -> tuple[Diagnosis, str]:
    """Why a layer is wrong, and the layer whose part it plays, if it does."""
    if flushed := denormals_flushed(case):
        return flushed, ""
    matches = sorted(_matches(faults, case), key=lambda match: match.error)
    if matches:
        best = matches[0]
        if not best.edit.layers and len(case.chain) > 1:
            later = _run_later(faults, case, best)
            if later:
                return later, ""
        rivals = [match for match in matches[1:] if match.error <= CLEARLY * best.error]
        return _named(best, rivals), best.edit.other
    diagnosis = (
        _float32_alone(case)
        or operands_exchanged(case)
        or _as_answer(case)
        or reads_altered(case)
        or reads_another(case)
        or explained_by_two(faults, case)
        or described_otherwise(case)
        or _unknown(case)
    )
    return diagnosis, ""


def _float32_alone(case: Case) -> Diagnosis | None:
    """A layer that float32 itself has got wrong, though the file is right."""
    if len(case.chain) > 1:
        return None
    return float32_alone(case.layer, case.site(case.layer).inputs[0], case.observed, budget=case.budget)


def _as_answer(case: Case) -> Diagnosis | None:
    """The network's answer, as a function of the right one."""
    if case.layer.name not in case.spec.outputs:
        return None
    layer, reads = case.layer, case.site(case.layer).inputs
    values = reads[0] if isinstance(layer, Softmax) else evaluate(case.site(layer), Edit(layers=(layer,)))
    found = None if values is None else explain_output(layer, values, case.observed, budget=case.budget)
    return None if found is None or found.fault == IDENTICAL else found


def _run_later(faults: Sequence[Fault], case: Case, missing: _Match) -> Diagnosis | None:
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
        expected = recomputed(case.spec, case.weights, reader, {**known, case.layer.name: moved})
        if expected is None or defect(shown, expected) or not orders:
            continue
        left = error(shown, expected)[0]
        if left <= case.budget:
            return _named(_Match(fault=orders[0], edit=Edit(layers=(place,)), layer=place.name, error=left), ())
    return None


def _matches(faults: Sequence[Fault], case: Case) -> Iterator[_Match]:
    for place in case.chain:
        site = case.site(place)
        for fault in faults:
            if fault.needs_output and site.observed is None:
                continue
            left = [(value, edit) for edit in fault.forms(site) if (value := _left(case, site, edit)) is not None]
            if left:
                value, edit = min(left, key=lambda pair: pair[0])
                yield _Match(fault=fault, edit=edit, layer=place.name, error=value)


def _left(case: Case, site: Site, edit: Edit) -> float | None:
    """The error that an edit leaves unexplained; None where it does not explain the output."""
    return left_by(case, site.layer, evaluate(site, edit))


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


def _unknown(case: Case) -> Diagnosis:
    size = "its output has another shape" if case.error == float("inf") else f"error {case.error:.1e} by itself"
    names = " or ".join(place.name for place in case.chain)
    clues = list(_clues(case))
    told = f"; {'; '.join(clues)}" if clues else ""
    before = "; what is shown before it is in order" if case.first else ""
    return Diagnosis(
        fault=UNKNOWN,
        layer=case.layer.name,
        message=f"{names}: nothing known explains the difference ({size}){told}",
        remedy=f"compare this layer's weights and attributes by hand{before}",
    )


def _clues(case: Case) -> Iterable[str]:
    for place in case.chain:
        if isinstance(place, Dropout) and place is not case.layer:
            yield f"{place.name} is not shown: run the subject twice, dropout that was left on gives something else"
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
    depth = "look at how the error grows by depth: a lower precision (TF32, half) in one framework grows so"
    remedy = "find out why it is not there, or cannot be compared; what is shown before it is in order"
    return Diagnosis(fault=UNKNOWN, layer=layer, message=f"{layer}: {told}", remedy=remedy if reason else depth)


def _not_finite(layer: Layer) -> Diagnosis:
    return Diagnosis(
        fault=UNKNOWN,
        layer=layer.name,
        message=f"{layer.name}: it gives NaN or Inf",
        remedy="look for a division by zero, an overflow in half precision, or uninitialised memory in this layer",
    )
