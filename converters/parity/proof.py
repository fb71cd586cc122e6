"""A reference computed once, and the subjects held against it, one after another."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np

from converters.faults.case import Own
from converters.faults.catalogue import diagnose, findings
from converters.faults.diagnosis import inherited
from converters.faults.merging import Found
from converters.faults.of_rounding import float32_alone
from converters.metric import compare, error, top1
from converters.parity.agreement import Pictures, Progress
from converters.parity.benches import Benches, ByThemselves, Wrong, in_one_line
from converters.parity.depth import OWN_NOISE, Depth
from converters.parity.garbage import swept
from converters.parity.local import exercised
from converters.parity.outputs import gate
from converters.parity.probes import given_inputs, image_inputs, probe_deviations, probe_inputs
from converters.parity.provenance import versions
from converters.parity.segments import alone
from converters.parity.subjects import Ran, Subject
from converters.parity.vacuity import vacuity
from converters.verdicts import (
    BUDGETS,
    DEFAULT_BUDGET,
    UNKNOWN,
    Diagnosis,
    FileFact,
    LayerVerdict,
    Report,
    Structure,
    SubjectVerdict,
)
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.errors import ZooError
from zoo.layers import Concat, DetectionOutput, Flatten, Layer, Permute, Reshape, Sigmoid, Slice, Softmax
from zoo.parameters import parameters_of
from zoo.shapes import activation_shapes, check_cost
from zoo.wire.cores import map_on_cores

_LOG = logging.getLogger(__name__)

Activations: TypeAlias = Mapping[str, Array]

# A layer of whose inputs and parameters a smaller share took part is said.
_ENOUGH = 0.99


def silent(_: str) -> None:
    """Progress for nobody."""


def checked_budget(budget: float) -> None:
    """Raises `ZooError` where it is no largest error that could pass."""
    if not 0 < budget < float("inf"):
        raise ZooError(f"the budget must be a positive number, got {budget}")


class Proof:
    """A reference computed once, and the subjects held against it, one after another.

    Args:
        weights: the right network and its parameters.
        inputs: what to feed instead of the probes, input name -> batch.
        samples: what each of these is; left out, they are numbered.
        images, data, seed, budget, progress: as for `converters.parity.verify_model`.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        inputs: Mapping[str, Array] | None = None,
        samples: Sequence[str] = (),
        images: Sequence[str | PathLike[str]] = (),
        data: str | PathLike[str] | None = None,
        seed: int = 0,
        budget: float = DEFAULT_BUDGET,
        progress: Progress = silent,
    ) -> None:
        checked_budget(budget)
        self.weights, self.spec, self._wiring = weights, weights.spec, weights.spec.wiring()
        self.seed, self.budget, self.progress = seed, budget, progress
        self._started = time.perf_counter()
        probes = max(map(len, inputs.values())) if inputs else len(probe_deviations(self.spec))
        check_cost(self.spec, items=probes + len(images), width=8, lays_out=True)
        self.inputs, self.samples = given_inputs(self.spec, inputs) if inputs else probe_inputs(self.spec, seed)
        self.samples = tuple(samples) or self.samples
        if images:
            pictures = image_inputs(self.spec, [Path(image) for image in images])
            self.inputs = {name: np.concatenate([probes, pictures[name]]) for name, probes in self.inputs.items()}
            self.samples += tuple(str(image) for image in images)
        progress("reference, float64")
        self.reference = oracle.forward(self.spec, weights.tensors, self.inputs)
        self.known: Activations = {**{name: x.astype(np.float64) for name, x in self.inputs.items()}, **self.reference}
        self.pictures = Pictures(weights, Path(data), progress) if data else None
        self.vacuity = vacuity(weights, self.inputs, self.reference, budget)
        self._shapes = activation_shapes(self.spec)
        self._exercised = dict(zip(self.reference, map_on_cores(self._exercised_by, self.spec.layers), strict=True))
        self._depth = Depth(weights, self.inputs, self.reference, progress)
        self._benches = Benches(weights, self.known, self._shapes, seed=seed, budget=budget)

    def _exercised_by(self, layer: Layer) -> float:
        """The share of a layer that takes part along the network; by itself, a layer is asked all of it."""
        reads = [self.known[source] for source in self._wiring[layer.name]]
        return exercised(layer, reads, parameters_of(self.weights.tensors, layer.name))

    @np.errstate(all="ignore")  # what is not finite is judged and told, not warned of
    def judge(self, subject: Subject) -> SubjectVerdict:
        """Read a subject, run it, and compare all of it."""
        self.progress(subject.name)
        started = time.perf_counter()
        structure = subject.read() if subject.read else None
        if structure and structure.sentence:
            self.progress(f"{subject.name}: {structure.sentence}")
        elif structure:
            _LOG.debug("%s cannot be read as a network, only run: %s", subject.name, structure.reason)
        return replace(self._run(subject, started, structure or Structure(verdict="unread")), structure=structure)

    def _run(self, subject: Subject, started: float, structure: Structure) -> SubjectVerdict:
        same = structure.verdict == "identical"
        try:
            with swept(), subject.open() as feed:
                ran = feed(self.inputs, self.reference)
                lone = self._benches.judge(ran, structure.terms)
                agreement = self.pictures.agreement(feed, self.progress) if self.pictures else None
        except ZooError as trouble:
            return _unavailable(subject.name, str(trouble), started)
        except Exception as trouble:  # noqa: BLE001 - frameworks raise anything; the others must still be judged
            _LOG.debug("%s could not be run", subject.name, exc_info=True)
            return _unavailable(subject.name, in_one_line(trouble), started)
        if ran.ended and same:  # no layer of it is wrong: that it does not run is all there is to say
            return _unavailable(subject.name, ran.ended, started)
        verdict = self._compared(subject.name, ran, lone, same)
        return replace(verdict, agreement=agreement, seconds=time.perf_counter() - started)

    def _compared(self, name: str, ran: Ran, lone: ByThemselves, same: bool) -> SubjectVerdict:
        wrong_alone = {layer for layer, judged in lone.judged.items() if judged.wrong}
        trusted = self._depth.trusted({*self._asked(ran, lone)} - wrong_alone)
        along, reference, sums = self._along(ran, trusted)
        sound = {layer.name for layer in along if layer.ok and layer.error is not None and layer.gated}
        right, held = {layer: ran.activations[layer] for layer in sound}, {**self.known, **reference}
        gated = gate(self.weights, held, ran, right, self.budget, partial(self._depth.excuses, trusted))
        if any(ran.activations.get(layer) is not array for layer, array in gated.arrays.items()):
            ran = replace(ran, activations={**ran.activations, **gated.arrays})
            along, _, sums = self._along(ran, trusted)
        wrong = {output.name: output.reason for output in gated.verdicts if not output.ok}
        layers, notes = tuple(self._by_itself(layer, ran, lone) for layer in along), tuple[str, ...]()
        if not same:  # or else every weight was compared already, bit for bit
            layers, notes = self._weighed(layers, ran, lone)
        layers = tuple(
            replace(layer, ok=False, reason=wrong[layer.name] or "its declared output differs")
            if layer.name in wrong and layer.ok
            else layer
            for layer in layers
        )
        passed = all(item.ok for item in (*layers, *gated.verdicts))
        verdict = SubjectVerdict(
            name=name,
            status="passed" if passed else "failed",
            outputs=gated.verdicts,
            layers=layers,
            top1=top1(self.spec, ran.activations, self.reference),
            preparation=ran.preparation or None,
            notes=(
                *ran.notes,
                *sums,
                *gated.notes,
                *lone.notes,
                *notes,
                *(unexercised(layers) if passed else ()),
            ),
        )
        if passed:
            return verdict
        first, *further = self._diagnose(verdict, ran, lone, gated.diagnosis)
        return replace(verdict, diagnosis=first, further=tuple(further))

    def _asked(self, ran: Ran, lone: ByThemselves) -> Iterator[str]:
        """The layers that took part by themselves, as a whole."""
        names = (layer.name for layer in self.spec.layers)
        return (n for n in names if ran.proved or n in ran.same or lone.asked(n) >= _ENOUGH)

    def _along(
        self, ran: Ran, trusted: Collection[str]
    ) -> tuple[tuple[LayerVerdict, ...], Activations, tuple[str, ...]]:
        """The layers along the network, what they were held to, and what to say of it.

        Those that float32 alone puts past the budget, and what comes after them, are held to the subject's own numbers.
        """
        reference, notes = self._float32_alone(ran.activations, {})
        along = compare(self.spec, ran.activations, reference, self.inputs, self.budget, ran.unmatched)
        deep = {
            layer.name: (
                f"{layer.name}: float32's own error: {layer.error:.1e} after all that comes before, where float32 "
                f"itself is off by {self._depth.errors[layer.name]:.1e}; by itself, no layer is wrong"
            )
            for layer in along
            if not layer.ok and layer.error is not None and self._depth.excuses(trusted, layer.name, layer.error)
        }
        if deep:
            own, notes = self._float32_alone(ran.activations, deep)
            again = compare(self.spec, ran.activations, own, self.inputs, self.budget, ran.unmatched)
            along = tuple(first if first.ok else second for first, second in zip(along, again, strict=True))
        return along, reference, notes

    def _float32_alone(self, activations: Activations, deep: Mapping[str, str]) -> tuple[Activations, tuple[str, ...]]:
        """The reference, from a layer on that is off by float32's own error alone; and what to say of it.

        That is no fault of the subject, and what comes after is held to what it was fed. In `deep` are layers that are
        so by their depth, with what to say.
        """
        wiring, notes, right = self._wiring, list[str](), dict(self.reference)
        moved, shown = set[str](), {**self.inputs, **activations}
        for layer in self.spec.layers:
            reads = [right.get(name, self.known[name]) for name in wiring[layer.name]]
            if moved.intersection(wiring[layer.name]):
                right[layer.name] = oracle.apply(layer, reads, parameters_of(self.weights.tensors, layer.name))
                moved.add(layer.name)
            fed, observed = shown.get(next(iter(wiring[layer.name]), "")), activations.get(layer.name)
            if self._decides(layer) and (own := self._all_own(wiring[layer.name], shown)):
                # It magnifies honest noise: held to what it makes of the subject's own numbers.
                right[layer.name], fed = oracle.apply(layer, own, {}), own[0]
                moved.add(layer.name)
            if fed is None or observed is None:
                continue
            told = float32_alone(layer, fed, observed, budget=self.budget)
            message = told.message if told and (told.error or 0.0) <= OWN_NOISE else None
            if message is None and layer.name in deep:
                is_off = error(observed, right[layer.name])[0] > self.budget
                message = deep[layer.name] if is_off else None
            if message:
                right[layer.name] = np.asarray(observed, np.float64)
                moved.add(layer.name)
                notes.append(message)
        return right, tuple(notes)

    def _all_own(self, names: Sequence[str], shown: Activations) -> list[Array]:
        """The subject's own numbers of activations; none at all where it hides one that is not others, moved about."""
        found = list[Array]()
        for name in names:
            layer = None if name in shown else self.spec.layer(name)
            if layer is None:
                found.append(np.asarray(shown[name], np.float64))
            elif isinstance(layer, Slice | Concat | Reshape | Flatten | Permute) and (
                reads := self._all_own(self._wiring[name], shown)
            ):
                found.append(oracle.apply(layer, reads, {}))
        return found if len(found) == len(names) else []

    def _decides(self, layer: Layer) -> bool:
        """Whether an answer turns on the last bits of what is read; a softmax that is an output is judged as one.

        Where all that a Sigmoid gives is next to nothing, an honest error of its logits is as large as what it gives.
        """
        inner = isinstance(layer, Softmax) and layer.name not in self.spec.outputs
        return inner or isinstance(layer, Sigmoid | DetectionOutput)

    def _by_itself(self, layer: LayerVerdict, ran: Ran, lone: ByThemselves) -> LayerVerdict:
        """A layer's verdict with what it does on inputs of its own."""
        if layer.name in ran.same:
            return replace(layer, local=0.0, exercised=1.0)
        share = 1.0 if ran.proved else max(self._exercised[layer.name], lone.asked(layer.name))
        if layer.name not in lone.judged:
            return replace(layer, exercised=share)
        judged = lone.judged[layer.name]
        if judged.wrong is None:
            return replace(layer, local=judged.error, exercised=share)
        told = judged.reason or f"by itself, on dense inputs of its own, error {judged.error:.1e}"
        return replace(layer, local=judged.error, exercised=share, ok=False, reason=told if layer.ok else layer.reason)

    def _weighed(
        self, layers: Sequence[LayerVerdict], ran: Ran, lone: ByThemselves
    ) -> tuple[tuple[LayerVerdict, ...], tuple[str, ...]]:
        """Layers whose parameters differ where both sides hold them, and what to say of those that pass."""
        judged, notes = list[LayerVerdict](), list[str]()
        for layer in layers:
            told, worst = weights_differ(self.weights.tensors, ran.theirs, layer.name)
            # A graph may spell a layer otherwise and still be it; that all of it was asked alone settles it.
            settled = ran.graph and lone.asked(layer.name) >= _ENOUGH
            if told and worst > self.budget and layer.ok and not settled:
                layer = replace(layer, ok=False, reason=told)
            elif told and layer.ok:
                notes.append(told)
            judged.append(layer)
        return tuple(judged), tuple(notes)

    def _diagnose(
        self, verdict: SubjectVerdict, ran: Ran, lone: ByThemselves, output: Diagnosis | None
    ) -> tuple[Diagnosis, ...]:
        """Why the first failure, and what else is wrong by itself."""
        failed = verdict.first_failure or ""
        self.progress(f"looking for the reason in {failed}")
        along = findings(
            self.spec, self.weights.tensors, self.inputs, ran.activations, budget=self.budget, theirs=ran.theirs
        )
        found = [item.diagnosis for item in along]
        if output and along and self._right_by_itself(output.layer, ran, along):
            output = None  # what it makes of a mistake before it
        if output and not any(item.layer == output.layer and item.fault != UNKNOWN for item in found):
            found = [item for item in found if item.layer != output.layer] + [output]
        told = {item.layer for item in found} | {layer for item in along for layer in item.layers}
        for layer in verdict.layers:
            alone_wrong = lone.judged[layer.name].wrong if layer.name in lone.judged else None
            if alone_wrong and layer.name not in told:
                found += self._diagnose_alone(layer, ran, alone_wrong)
        order = {layer.name: i for i, layer in enumerate(self.spec.layers)}
        found.sort(key=lambda item: order.get(item.layer, len(order)))
        reasons = {item.name: item.reason for item in (*verdict.outputs, *verdict.layers) if not item.ok}
        return tuple(found) or (inherited(failed, reasons.get(failed)),)

    def _right_by_itself(self, layer: str, ran: Ran, along: Sequence[Found]) -> bool:
        """Whether a layer was held to what the subject fed it, and nothing was found."""
        shown = {*self.inputs, *ran.activations}
        was_held = layer in ran.activations and all(name in shown for name in self._wiring[layer])
        return was_held and not any(layer == item.diagnosis.layer or layer in item.layers for item in along)

    def _diagnose_alone(self, layer: LayerVerdict, ran: Ran, wrong: Wrong) -> tuple[Diagnosis, ...]:
        """Why a layer that is right along the network is wrong by itself."""
        found = diagnose(
            alone(wrong.piece, self.spec, self._shapes),
            self.weights.tensors,
            wrong.inputs,
            {layer.name: wrong.y},
            budget=self.budget,
            theirs=ran.theirs,
        )
        return found or (inherited(layer.name, layer.reason),)

    def report(self, subjects: Sequence[SubjectVerdict], files: Sequence[FileFact] = (), command: str = "") -> Report:
        """The whole proof as data."""
        floor = BUDGETS["float32 on the CPU"]
        return Report(
            model=self.spec.name,
            class_names=self.spec.classes,
            budget=self.budget,
            noise=(floor.floor_low, floor.floor_high),
            subjects=tuple(subjects),
            weights=self.weights.source,
            samples=self.samples,
            seed=self.seed,
            versions=versions(),
            files=tuple(files),
            command=command,
            seconds=time.perf_counter() - self._started,
            limits=self.vacuity.limits,
            unproved=self.vacuity.unproved,
        )


def weights_differ(right: Mapping[str, Array], theirs: Mapping[str, Own], layer: str) -> tuple[str, float]:
    """What to say of a layer's parameters that are not the same, and by how much of their row's peak they differ."""
    if layer not in theirs:
        return "", 0.0
    told, worst = list[str](), 0.0
    for name, tensor in parameters_of(right, layer).items():
        other = theirs[layer].parameters.get(name)
        if other is None or other is tensor or other.shape != tensor.shape or np.array_equal(other, tensor):
            continue
        rows = np.abs(np.subtract(other, tensor, dtype=np.float64)).reshape(len(np.atleast_1d(tensor)), -1).max(axis=1)
        peaks = np.abs(tensor).reshape(len(rows), -1).max(axis=1)
        if tensor.ndim < 2:
            peaks = np.full_like(peaks, peaks.max(initial=0.0))
        with np.errstate(divide="ignore"):
            by = float(np.divide(rows, peaks, out=np.where(rows > 0, np.inf, 0.0), where=peaks > 0).max(initial=0.0))
        count = int(np.count_nonzero(other != tensor))
        told.append(
            f"{layer}.{name} differs in {count:,} of {tensor.size:,} numbers, by up to {by:.1e} of their row's peak"
        )
        worst = max(worst, by)
    return "; ".join(told), worst


def unexercised(layers: Collection[LayerVerdict]) -> tuple[str, ...]:
    """A warning of layers that were hardly asked."""
    few = [f"{layer.name} {layer.exercised:.0%}" for layer in layers if (layer.exercised or 1.0) < _ENOUGH]
    return (f"exercised in part only: {', '.join(few)} of inputs and parameters",) if few else ()


def _unavailable(name: str, reason: str, started: float) -> SubjectVerdict:
    return SubjectVerdict(name=name, status="unavailable", reason=reason, seconds=time.perf_counter() - started)
