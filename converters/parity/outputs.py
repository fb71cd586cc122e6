"""A subject is what it declares: each of its outputs, by name and order, shape and type, held to the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from converters.faults.of_outputs import IDENTICAL, explain_output
from converters.metric import OF_ONE, defect, error, finite_peak, log_error, peak_of
from converters.parity.segments import segments
from converters.parity.subjects import Declared, Ran
from converters.verdicts import Diagnosis, OutputVerdict
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.layers import ModelSpec, Sigmoid, Softmax
from zoo.parameters import parameters_of

Activations: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Gated:
    """The declared outputs, judged.

    Attributes:
        verdicts: one for each output of the network, then one for each other that is wrong.
        arrays: layer -> what the subject declares as it, canonical layout, where it is of the right shape and type.
        notes: what was let pass, and as what.
        diagnosis: what the first wrong one is, where it is a known function of the right answer.
    """

    verdicts: tuple[OutputVerdict, ...]
    arrays: Activations
    notes: tuple[str, ...]
    diagnosis: Diagnosis | None


@dataclass(frozen=True, kw_only=True)
class _Judged:
    verdict: OutputVerdict
    layer: str = ""
    array: Array | None = None
    note: str = ""
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, kw_only=True)
class _Gate:
    """What outputs are held to.

    Attributes:
        weights: the right network.
        known: its inputs, and its activations by the reference.
        shown: what the subject shows of its own, by layer, as far as it is right.
        budget: the largest error that passes.
        excused: whether a layer may be off by more all the same.
        strange: the subject's tensors have names of their own, its outputs' among them.
        typed: its outputs have a type of their own, which counts; what a function returns is only held in one.
    """

    weights: Weights
    known: Activations
    shown: Activations
    budget: float
    excused: Callable[[str, float], bool]
    strange: bool
    typed: bool

    @property
    def spec(self) -> ModelSpec:
        return self.weights.spec

    def logits(self, name: str) -> str | None:
        """What a layer reads, if it is a softmax."""
        return self.spec.wiring()[name][0] if isinstance(self.spec.layer(name), Softmax) else None

    def peak(self, name: str) -> float:
        return finite_peak(self.known[name])

    def view(self, item: Declared, name: str) -> tuple[Array, str | None]:
        """A declared array in canonical layout, and why it cannot be compared with a layer, if it cannot."""
        value = item.value
        if item.defect:
            return value, item.defect
        if value.dtype != np.float32 and (self.typed or value.dtype.kind != "f"):
            return value, f"is {value.dtype}, expected float32"
        if item.channels_last and value.ndim == 4:
            turned = value.transpose(0, 3, 1, 2)
            value = turned if turned.shape == self.known[name].shape else value
        return value, defect(value, self.known[name])

    def equals(self, item: Declared, name: str) -> bool:
        """Whether a declared array is a layer's activation, in every respect."""
        value, reason = self.view(item, name)
        return not reason and self.is_right(name, self.error(name, value))

    def is_right(self, name: str, error: float) -> bool:
        """Whether an output may be off by so much."""
        return error <= self.budget or self.excused(name, error)

    def error(self, name: str, value: Array) -> float:
        """Of a declared array of the right shape.

        A softmax magnifies honest noise of its logits, so it is held to the softmax of the subject's own; and to its
        logarithm, since a small probability says as much as a large one. Where the logits are not shown, or are not
        right, there is the logarithm alone.
        """
        logits = self.logits(name)
        if logits is None:
            reads = [self.known[source] for source in self.spec.wiring()[name]]
            off = error(value, self.known[name], max(map(finite_peak, reads), default=0.0))[0]
            rounded = isinstance(self.spec.layer(name), Sigmoid) and peak_of(value - self.known[name]) <= OF_ONE
            return min(off, OF_ONE) if rounded else off
        own = self._recomputed(name)
        exact = error(value, own)[0] if logits in self.shown or logits in self._inputs() else 0.0
        return max(exact, log_error(value, own))

    def _inputs(self) -> set[str]:
        return {source.name for source in self.spec.inputs}

    def _recomputed(self, name: str) -> Array:
        """A layer from the nearest activations that the subject shows and that are right."""
        shown = {source: value for source, value in self.shown.items() if source != name}
        segment = next(piece for piece in segments(self.spec, {*shown, name}) if piece.target == name)
        values = {read: np.asarray(shown.get(read, self.known[read]), np.float64) for read in segment.reads}
        for layer in segment.layers:
            reads = [values[source] for source in layer.inputs]
            values[layer.name] = oracle.apply(layer, reads, parameters_of(self.weights.tensors, layer.name))
        return values[name]


def gate(
    weights: Weights,
    known: Activations,
    ran: Ran,
    right: Activations,
    budget: float,
    excused: Callable[[str, float], bool],
) -> Gated:
    """Judge what a subject declares.

    Args:
        weights: the right network.
        known: its inputs, and its activations by the reference, float64.
        ran: what the subject gave.
        right: those of its activations that are within the budget.
        budget: the largest error that passes.
        excused: whether a layer may be off by more all the same.
    """
    declared = _declared(weights.spec, ran)
    held = _Gate(
        weights=weights,
        known=known,
        shown=right,
        budget=budget,
        excused=excused,
        strange=ran.strange and not any(item.layer for item in declared),
        typed=ran.graph,
    )
    pairs = _paired(held, declared)
    judged = [
        _judged(held, name, pairs[name]) if name in pairs else _missing(held, name, declared)
        for name in weights.spec.outputs
    ]
    used = [id(item) for item in pairs.values()]
    judged += [found for item in declared if id(item) not in used if (found := _extra(held, item))]
    order = [id(item) for item in declared if id(item) in used]
    if order != used:
        judged = _out_of_order(judged, [item.name for item in declared], len(weights.spec.outputs))
    return Gated(
        verdicts=tuple(item.verdict for item in judged if item.verdict.name),
        arrays={item.layer: item.array for item in judged if item.array is not None},
        notes=tuple(item.note for item in judged if item.note),
        diagnosis=next((item.diagnosis for item in judged if not item.verdict.ok and item.diagnosis), None),
    )


def _declared(spec: ModelSpec, ran: Ran) -> Sequence[Declared]:
    if ran.declared is not None:
        return ran.declared
    return [
        Declared(name=name, value=ran.activations[name], layer=name) for name in spec.outputs if name in ran.activations
    ]


def _paired(held: _Gate, declared: Sequence[Declared]) -> dict[str, Declared]:
    """Output of the network -> the declared one that stands for it: by name where there are names, else by order."""
    named = {item.layer: item for item in reversed(declared) if item.layer}
    pairs = dict[str, Declared]()
    for name in held.spec.outputs:
        item = named.get(name) or named.get(held.logits(name) or "")
        if item:
            pairs[name] = item
    nameless = [item for item in declared if item.layer is None]
    for name in held.spec.outputs:
        if name not in pairs and nameless:
            fitting = [item for item in nameless if held.equals(item, name)]
            # A stranger may declare more than the answer, in any place; one that is nothing known is held to its place.
            surplus = len(nameless) > len(held.spec.outputs) - len(pairs)
            pairs[name] = fitting[0] if surplus and fitting else nameless[0]
            nameless.remove(pairs[name])
    return {name: pairs[name] for name in held.spec.outputs if name in pairs}


def _judged(held: _Gate, name: str, item: Declared) -> _Judged:
    """A declared output against the layer it stands for."""
    value, reason = held.view(item, name)
    wrong = None if reason else held.error(name, value)
    logits = held.logits(name)
    is_right = wrong is not None and held.is_right(name, wrong)
    if not is_right and logits and item.layer != name and held.equals(item, logits):
        return _stops_early(held, name, logits, item)
    renamed = is_right and item.layer is None and not held.strange
    if renamed:
        reason = f"is called {item.name!r}, where others have their layer's name"
    if wrong is not None and not np.isfinite(wrong):
        wrong, reason = None, "not zero, where the reference is"
    verdict = OutputVerdict(
        name=name,
        declared=item.name,
        error=wrong,
        peak=held.peak(name),
        ok=is_right and not renamed,
        reason=reason,
    )
    # What is not the same every time is no function of anything.
    diagnosis = None if is_right or item.defect else _explained(held, name, item)
    note = f"its output {item.name} is held to {name}" if item.layer is None and held.strange else ""
    return _Judged(verdict=verdict, layer=name, array=None if wrong is None else value, note=note, diagnosis=diagnosis)


def _stops_early(held: _Gate, name: str, logits: str, item: Declared) -> _Judged:
    value, _ = held.view(item, logits)
    verdict = OutputVerdict(
        name=name,
        declared=item.name,
        error=held.error(logits, value),
        peak=held.peak(logits),
        ok=True,
        reason=f"these are the logits, {logits}",
    )
    note = f"it stops at its logits, {logits}: {name}, the softmax of them, is not in it"
    return _Judged(verdict=verdict, layer=logits, array=value, note=note)


def _missing(held: _Gate, name: str, declared: Sequence[Declared]) -> _Judged:
    told = f"its outputs are {', '.join(item.name for item in declared)}" if declared else "it declares no output"
    return _Judged(
        verdict=OutputVerdict(
            name=name, declared=None, error=None, peak=held.peak(name), ok=False, reason=f"not declared: {told}"
        )
    )


def _extra(held: _Gate, item: Declared) -> _Judged | None:
    """An output beside the network's own: it must be some layer, the one it is called after if it is."""
    layers = [item.layer] if item.layer else [layer.name for layer in reversed(held.spec.layers)]
    equal = next((name for name in layers if held.equals(item, name)), None)
    if equal:
        verdict = OutputVerdict(name="", declared=item.name, error=None, peak=0.0, ok=True)
        told = item.name if item.name == equal else f"{item.name}, which is {equal}"
        return _Judged(verdict=verdict, note=f"it also declares {told}")
    if item.layer:
        return _judged(held, item.layer, item)
    reason = "declared beside the network's outputs, and equal to none of its layers"
    verdict = OutputVerdict(name=item.name, declared=item.name, error=None, peak=0.0, ok=False, reason=reason)
    return _Judged(verdict=verdict)


def _out_of_order(judged: Sequence[_Judged], names: Sequence[str], count: int) -> list[_Judged]:
    """The outputs that are right by themselves, and wrong by their places."""
    reason = f"in another place: it declares {', '.join(names)}, in this order"
    found = list[_Judged]()
    for i, item in enumerate(judged):
        wrong = i < count and item.verdict.ok
        found.append(replace(item, verdict=replace(item.verdict, ok=False, reason=reason)) if wrong else item)
    return found


def _explained(held: _Gate, name: str, item: Declared) -> Diagnosis | None:
    """What a wrong output is, as a function of the right one: of the subject's own logits, where they are shown."""
    if item.value.dtype.kind not in "fiub":
        return None  # text, say
    source = held.logits(name) or name
    values = held.shown.get(source, held.known[source])
    found = explain_output(held.spec.layer(name), values, item.value, budget=held.budget)
    return None if found and found.fault == IDENTICAL else found  # wrong in its name, its place or its type alone
