"""A reference computed once, and the subjects held against it, one after another."""

from __future__ import annotations

import gc
import hashlib
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import numpy as np

from converters.faults.catalogue import diagnose
from converters.faults.diagnosis import inherited
from converters.metric import compare, error, top1
from converters.parity.agreement import Pictures, Progress, rows_of
from converters.parity.file_subjects import Ran, Subject
from converters.parity.probes import given_inputs, image_inputs, probe_inputs
from converters.verdicts import BUDGETS, DEFAULT_BUDGET, Diagnosis, FileFact, LayerVerdict, Report, SubjectVerdict
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo.errors import ZooError
from zoo.layers import Softmax

_LOG = logging.getLogger(__name__)

Activations: TypeAlias = Mapping[str, Array]

# The packages whose versions a report gives, where they are installed.
_PACKAGES = (
    *("numpy", "torch", "tensorflow", "tf-slim", "tf2onnx", "caffe2onnx", "onnx", "onnxruntime", "onnxscript"),
    *("opencv-python-headless", "opencv-python", "alexnet-zoo"),
)


def silent(_: str) -> None:
    """Progress for nobody."""


class Proof:
    """A reference computed once, and the subjects held against it, one after another.

    Args:
        weights: the right network and its parameters.
        inputs: what to feed instead of the probes, input name -> batch.
        images, data, seed, budget, progress: as for `converters.parity.verify_model`.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        inputs: Mapping[str, Array] | None = None,
        images: Sequence[Path] = (),
        data: Path | None = None,
        seed: int = 0,
        budget: float = DEFAULT_BUDGET,
        progress: Progress = silent,
    ) -> None:
        if not 0 < budget < float("inf"):
            raise ZooError(f"the budget must be a positive number, got {budget}")
        self.weights, self.spec = weights, weights.spec
        self.seed, self.budget, self.progress = seed, budget, progress
        self._started = time.perf_counter()
        self.inputs, self.samples = given_inputs(self.spec, inputs) if inputs else probe_inputs(self.spec, seed)
        if images:
            pictures = image_inputs(self.spec, images)
            self.inputs = {name: np.concatenate([probes, pictures[name]]) for name, probes in self.inputs.items()}
            self.samples += tuple(str(image) for image in images)
        progress("reference, float64")
        self.reference = oracle.forward(self.spec, weights.tensors, self.inputs)
        self.pictures = Pictures(weights, data, progress) if data else None

    def judge(self, subject: Subject) -> SubjectVerdict:
        """Run a subject, and compare all of it."""
        self.progress(subject.name)
        started = time.perf_counter()
        try:
            with subject.open() as feed:
                ran = feed(self.inputs, rows_of(self.reference))
                agreement = self.pictures.agreement(feed, self.progress) if self.pictures else None
        except ZooError as trouble:
            return _unavailable(subject.name, str(trouble), started)
        except Exception as trouble:  # noqa: BLE001 - frameworks raise anything; the others must still be judged
            _LOG.debug("%s could not be run", subject.name, exc_info=True)
            told = " ".join(str(trouble).split())
            return _unavailable(subject.name, f"{type(trouble).__name__}: {told[:300]}", started)
        finally:
            gc.collect()
        verdict = self._compared(subject.name, ran)
        return replace(verdict, agreement=agreement, seconds=time.perf_counter() - started)

    def _compared(self, name: str, ran: Ran) -> SubjectVerdict:
        layers = compare(self.spec, ran.activations, self.reference, self.inputs, self.budget, ran.unmatched)
        layers = tuple(self._check_softmax(layer, ran.activations) for layer in layers)
        passed = all(layer.ok for layer in layers)
        first, *further = (None,) if passed else self._diagnose(ran, next(layer for layer in layers if not layer.ok))
        return SubjectVerdict(
            name=name,
            status="passed" if passed else "failed",
            layers=layers,
            diagnosis=first,
            further=tuple(item for item in further if item),
            top1=top1(self.spec, ran.activations, self.reference),
            notes=ran.notes,
        )

    def _diagnose(self, ran: Ran, failed: LayerVerdict) -> tuple[Diagnosis, ...]:
        """Why the first failure, and what else is wrong by itself."""
        self.progress(f"looking for the reason in {failed.name}")
        found = diagnose(
            self.spec, self.weights.tensors, self.inputs, ran.activations, budget=self.budget, theirs=ran.theirs
        )
        return found or (inherited(failed.name, failed.reason),)

    def _check_softmax(self, verdict: LayerVerdict, activations: Activations) -> LayerVerdict:
        """An ungated softmax must still be the softmax of what the subject itself fed it."""
        layer = self.spec.layer(verdict.name)
        if verdict.gated or not verdict.ok or verdict.error is None or not isinstance(layer, Softmax):
            return verdict
        logits = activations.get(self.spec.wiring()[layer.name][0])
        if logits is None or not np.isfinite(logits).all():
            return verdict
        own = oracle.apply(layer, [np.asarray(logits, np.float64)], {})
        if own.shape == activations[layer.name].shape and error(activations[layer.name], own)[0] <= self.budget:
            return verdict
        return replace(verdict, ok=False, reason="not the softmax of the subject's own logits")

    def report(self, subjects: Sequence[SubjectVerdict], files: Sequence[Path] = (), command: str = "") -> Report:
        """The whole proof as data."""
        floor = BUDGETS["float32 on the CPU"]
        return Report(
            model=self.spec.name,
            budget=self.budget,
            noise=(floor.floor_low, floor.floor_high),
            subjects=tuple(subjects),
            weights=self.weights.source,
            samples=self.samples,
            seed=self.seed,
            versions=versions(),
            files=tuple(FileFact(path=str(path), sha256=sha256(path)) for path in files),
            command=command,
            seconds=time.perf_counter() - self._started,
        )


def _unavailable(name: str, reason: str, started: float) -> SubjectVerdict:
    return SubjectVerdict(name=name, status="unavailable", reason=reason, seconds=time.perf_counter() - started)


def versions() -> dict[str, str]:
    """Package -> version of everything installed that takes part."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
