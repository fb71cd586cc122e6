"""The proof: every way to run a network against the float64 reference, layer by layer, as a `Report`.

error(layer) = max|y - ref| / max|ref|, the worst sample's; the budget and the noise it leaves room for stand in
`BUDGETS`. Every activation and the logits are gated; a final softmax is shown, not gated, but must be the softmax of
the subject's own logits. What cannot be run or compared is said, never skipped.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeAlias, cast

import numpy as np

from converters._metric import compare, error, top1
from converters._probes import image_inputs, probe_inputs, probe_weights
from converters._verdicts import (
    BUDGETS,
    DEFAULT_BUDGET,
    Agreement,
    Budget,
    Diagnosis,
    FileFact,
    LayerVerdict,
    Report,
    SubjectVerdict,
)
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import UnknownNameError, ZooError
from zoo.frameworks import reference as oracle
from zoo.layers import ModelSpec, Softmax

__all__ = [
    "BUDGETS",
    "DEFAULT_BUDGET",
    "Agreement",
    "Budget",
    "Diagnosis",
    "FileFact",
    "LayerVerdict",
    "Report",
    "SubjectVerdict",
    "compare",
    "error",
    "probe_inputs",
    "probe_weights",
    "subject_names",
    "verify_model",
]

_LOG = logging.getLogger(__name__)

Activations: TypeAlias = Mapping[str, Array]

# Runs a network on a batch: every layer's activation under its name, canonical layout.
Run: TypeAlias = Callable[[Weights, Mapping[str, Array]], Activations]

Progress: TypeAlias = Callable[[str], None]

# The packages whose versions a report gives, where they are installed.
_PACKAGES = (
    *("numpy", "torch", "tensorflow", "tf-slim", "tf2onnx", "caffe2onnx", "onnx", "onnxruntime", "onnxscript"),
    *("opencv-python-headless", "opencv-python", "alexnet-zoo"),
)


class Exporter(Protocol):
    """What every file of ``converters/exporters`` offers: the framework's own road to ONNX."""

    def export_onnx(self, weights: Weights, path: Path, *, every_activation: bool, opset: int | None = None) -> None:
        """Write `path`; inputs and outputs carry the spec's names, canonical layout, any batch size."""
        ...


def _silent(_: str) -> None:
    """Progress for nobody."""


def subject_names() -> list[str]:
    """Every way to run a network: each framework natively, and through its own ONNX exporter."""
    natives = [name for name in registry.names("zoo.frameworks") if name != "reference"]
    return sorted([*natives, *(f"{name}-onnx" for name in registry.names("converters.exporters"))])


def subject(name: str) -> Run:
    """The function that runs a subject; raises `UnknownNameError`, or `MissingDependencyError` when it is run."""
    if name not in subject_names():
        raise UnknownNameError("subject", name, subject_names())
    framework = name.removesuffix("-onnx")
    return _native(framework) if framework == name else _exported(framework)


def _native(framework: str) -> Run:
    def run(weights: Weights, inputs: Mapping[str, Array]) -> Activations:
        return registry.framework(framework).forward(weights.spec, weights.tensors, inputs)

    return run


def _exported(framework: str) -> Run:
    def run(weights: Weights, inputs: Mapping[str, Array]) -> Activations:
        runtime = cast(Any, registry.framework("onnx"))
        exporter = cast(Exporter, registry.load("converters.exporters", framework, "exporter"))
        with TemporaryDirectory(prefix="zoo-verify-") as folder:
            path = Path(folder) / "model.onnx"
            exporter.export_onnx(weights, path, every_activation=True)
            gc.collect()  # the exporter's copies go before the runtime makes its own
            return runtime.run(path, inputs, None)

    return run


def verify_model(
    spec: ModelSpec,
    weights: Weights | None = None,
    frameworks: Sequence[str] | None = None,
    *,
    images: Sequence[Path] = (),
    data: Path | None = None,
    seed: int = 0,
    budget: float = DEFAULT_BUDGET,
    progress: Progress = _silent,
    command: str = "",
) -> Report:
    """Prove that a network computes the same function in every framework.

    Args:
        spec: the network.
        weights: its parameters; left out, seeded probe weights.
        frameworks: subjects by name (`subject_names`); left out, all of them.
        images: pictures to feed beside the two probes.
        data: a folder of images; top-1 and top-5 agreement over it are shown, never gated.
        seed: of the probes.
        budget: the largest error that passes.
        progress: told what is about to run, for what takes longer than a second.
        command: what reproduces the report, for the reader.

    Returns:
        The report; a subject that cannot be run is ``unavailable`` in it, with the reason.

    Raises:
        UnknownNameError: no subject of that name.
        ZooError: a picture cannot be read, or the budget is not a positive number.
    """
    runs = {name: subject(name) for name in (subject_names() if frameworks is None else frameworks)}
    if not runs:
        raise ZooError("no subject to verify; name one with --frameworks")
    weights = weights.with_spec(spec) if weights else probe_weights(spec, seed)
    proof = Proof(weights, images=images, data=data, seed=seed, budget=budget, progress=progress)
    verdicts = tuple(proof.judge(name, run) for name, run in runs.items())
    return proof.report(verdicts, command=command)


class Proof:
    """A reference computed once, and the subjects held against it, one after another."""

    def __init__(
        self,
        weights: Weights,
        *,
        images: Sequence[Path] = (),
        data: Path | None = None,
        seed: int = 0,
        budget: float = DEFAULT_BUDGET,
        progress: Progress = _silent,
    ) -> None:
        if not 0 < budget < float("inf"):
            raise ZooError(f"the budget must be a positive number, got {budget}")
        self.weights, self.spec = weights, weights.spec
        self.seed, self.budget, self.progress, self.data = seed, budget, progress, data
        self._started = time.perf_counter()
        self.inputs, self.samples = probe_inputs(self.spec, seed)
        if images:
            pictures = image_inputs(self.spec, images)
            self.inputs = {name: np.concatenate([probes, pictures[name]]) for name, probes in self.inputs.items()}
            self.samples += tuple(str(image) for image in images)
        progress("reference, float64")
        self.reference = oracle.forward(self.spec, weights.tensors, self.inputs)

    def judge(self, name: str, run: Run, weights: Weights | None = None, notes: tuple[str, ...] = ()) -> SubjectVerdict:
        """Run a subject, with its own `weights` where it has any, and compare all of it."""
        self.progress(name)
        started = time.perf_counter()
        activations, reason = _attempt(name, run, weights or self.weights, self.inputs)
        seconds = time.perf_counter() - started
        gc.collect()
        if activations is None:
            return SubjectVerdict(name=name, status="unavailable", reason=reason, seconds=seconds)
        layers = compare(self.spec, activations, self.reference, self.inputs, self.budget)
        layers = tuple(self._check_softmax(layer, activations) for layer in layers)
        return SubjectVerdict(
            name=name,
            status="passed" if all(layer.ok for layer in layers) else "failed",
            layers=layers,
            top1=top1(self.spec, activations, self.reference),
            notes=notes,
            seconds=seconds,
        )

    def _check_softmax(self, verdict: LayerVerdict, activations: Activations) -> LayerVerdict:
        """An ungated softmax must still be the softmax of what the subject itself fed it."""
        layer = self.spec.layer(verdict.name)
        if verdict.gated or not verdict.ok or not isinstance(layer, Softmax):
            return verdict
        logits = activations.get(self.spec.wiring()[layer.name][0])
        if logits is None or not np.isfinite(logits).all():
            return verdict
        own = oracle.apply(layer, [np.asarray(logits, np.float64)], {})
        if own.shape == activations[layer.name].shape and error(activations[layer.name], own)[0] <= self.budget:
            return verdict
        return LayerVerdict(
            name=verdict.name,
            error=verdict.error,
            peak=verdict.peak,
            ok=False,
            gated=False,
            reason="not the softmax of the subject's own logits",
        )

    def report(self, subjects: tuple[SubjectVerdict, ...], files: Sequence[Path] = (), command: str = "") -> Report:
        """The whole proof as data."""
        floor = BUDGETS["float32 on the CPU"]
        return Report(
            model=self.spec.name,
            budget=self.budget,
            noise=(floor.floor_low, floor.floor_high),
            subjects=subjects,
            weights=self.weights.source,
            samples=self.samples,
            seed=self.seed,
            versions=versions(),
            files=tuple(FileFact(path=str(path), sha256=sha256(path)) for path in files),
            command=command,
            seconds=time.perf_counter() - self._started,
        )


def _attempt(
    name: str, run: Run, weights: Weights, inputs: Mapping[str, Array]
) -> tuple[Activations | None, str | None]:
    """The activations, or why there are none."""
    try:
        return run(weights, inputs), None
    except ZooError as trouble:
        return None, str(trouble)
    except Exception as trouble:  # noqa: BLE001 - frameworks raise anything; the other subjects must still be judged
        _LOG.debug("%s could not be run", name, exc_info=True)
        told = " ".join(str(trouble).split())
        return None, f"{name} could not be run: {type(trouble).__name__}: {told[:300]}"


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
