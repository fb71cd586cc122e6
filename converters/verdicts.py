"""What a proof found, as pure data: it can be stored, compared and rendered where no framework is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["passed", "failed", "unavailable"]

# The fault of a difference that no known mistake explains.
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What an error may be, beside what it is when nothing is wrong.

    Attributes:
        limit: the largest error that passes.
        floor_low: the smallest noise measured in any layer of a right model.
        floor_high: the largest.
    """

    limit: float
    floor_low: float
    floor_high: float


# Errors are relative to the layer's peak. Floors: PyTorch, TensorFlow, ONNX Runtime, OpenCV and real Caffe against the
# float64 reference, every layer of AlexNet up to the logits. A budget is not widened by the change that breaks it.
BUDGETS = {
    "float32 on the CPU": Budget(limit=1e-5, floor_low=2e-7, floor_high=2.5e-6),
    # Of the family: on the probes in float16; on pictures held back from the calibration in int8.
    "float16": Budget(limit=3e-3, floor_low=3e-4, floor_high=1e-3),
    "int8": Budget(limit=0.15, floor_low=5e-3, floor_high=0.1),
}
# The share of held-back pictures in which less than float32 must see what the reference sees.
LEAST_AGREEMENT = 0.99
DEFAULT_BUDGET = BUDGETS["float32 on the CPU"].limit


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerVerdict:
    """One layer of one subject.

    Attributes:
        name: the layer.
        error: max|y - ref| / max|ref| of the worst sample; None where no number can be given (see `reason`).
        peak: max|ref| of that sample.
        ok: within the budget, or not gated and sound.
        gated: whether its error decides; a softmax at the end is judged as an output.
        reason: why it failed, where a number does not say it.
        local: the error of the layer by itself, on dense inputs of its own, each number against a bound of its own;
            None where the subject could not be asked.
        exercised: the share of its inputs and parameters that something other than zero went through, 0 to 1; None
            where the layer's activation could not be compared.
    """

    name: str
    error: float | None
    peak: float
    ok: bool
    gated: bool = True
    reason: str | None = None
    local: float | None = None
    exercised: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        shown = {"name": self.name, "error": self.error, "peak": self.peak, "ok": self.ok}
        shown |= {"local": self.local, "exercised": self.exercised}
        return shown | ({} if self.gated else {"gated": False}) | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputVerdict:
    """One declared output of one subject: what its user gets.

    Attributes:
        name: the layer of the network that it is held to, or its own name where no layer could be found.
        declared: what the subject calls it; None where it declares no such output.
        error: against the reference; of a softmax, against the softmax of the subject's own logits, or by logarithm.
        peak: max|ref| of the worst sample.
        ok: whether it is right.
        reason: why it is wrong, where a number does not say it; or as what it was let pass.
    """

    name: str
    declared: str | None
    error: float | None
    peak: float
    ok: bool
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        told: dict[str, Any] = {"name": self.name, "declared": self.declared, "error": self.error, "peak": self.peak}
        return told | {"ok": self.ok} | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """Why a subject differs: a fault of the catalogue (`converters.faults`), or "unknown".

    Attributes:
        fault: its name.
        layer: where it is.
        message: what is wrong, in one plain sentence that starts with the layer.
        remedy: what to do.
        error: what is left unexplained, as an error of the layer; None where the fault is unknown.
        rivals: other faults that give the very same numbers here, so that nobody could tell which it is.
    """

    fault: str
    layer: str
    message: str
    remedy: str
    error: float | None = None
    rivals: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        told: dict[str, Any] = {"fault": self.fault, "layer": self.layer, "message": self.message}
        return told | {"remedy": self.remedy} | ({"or": list(self.rivals)} if self.rivals else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How often two networks name the same class; shown, never a gate.

    Attributes:
        images: how many were looked at.
        top1: the share of those whose best class is the same.
        top5: the share of those whose best class by the one is among the five best of the other.
        otherwise: the first images whose best class differs, in words, where the weights name their classes.
    """

    images: int
    top1: float
    top5: float | None = None
    otherwise: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"images": self.images, "top1": self.top1} | ({} if self.top5 is None else {"top5": self.top5})


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """What reading a subject says, before a number of it is run.

    Attributes:
        verdict: ``identical``: the same network in every bit, and so the same function of every input. ``rounded``: the
            same structure, with numbers that were computed from the others' and agree as far as float32 rounds them.
            ``differs``: another network. ``unread``: it cannot be read as a network, which says nothing.
        differences: in what it differs, one fact each.
        reason: why it cannot be read; or what is rounded.
        terms: our layer -> what is added a channel there in several steps, all of it taken positive, where we add one
            number: so large are the numbers that it rounds.
    """

    verdict: Literal["identical", "rounded", "differs", "unread"]
    differences: tuple[str, ...] = ()
    reason: str = ""
    terms: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, "tuple[float, ...]"], repr=False)

    @property
    def sentence(self) -> str:
        """In words; empty where there is nothing to say."""
        match self.verdict:
            case "identical":
                return "identical by structure"
            case "rounded":
                return f"same structure, {self.reason}"
            case "differs":
                return f"another structure: {'; '.join(self.differences)}"
            case "unread":
                return ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        told: dict[str, Any] = {"verdict": self.verdict, "differences": list(self.differences)}
        return told | ({"reason": self.reason} if self.reason else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectVerdict:
    """One way to run the network, against the reference.

    Attributes:
        name: the subject.
        status: ``unavailable`` means that it could not be run, and so proves nothing.
        reason: why it is unavailable.
        outputs: what it declares, in the order of the network's outputs.
        layers: in the order of the spec.
        diagnosis: of the first failure.
        further: diagnoses of later layers that are wrong by themselves, not by what they were fed.
        top1: share of the probes and images with the same best class; None without logits.
        agreement: the same over a folder of images.
        preparation: how it prepares images otherwise than the reference's network, so that one picture is another input
            to it; None where it does not.
        notes: what the reader must know, such as layers that could not be compared.
        seconds: how long the subject took to build and run.
        structure: what reading it says; None where there is nothing to read, or it is the reference's own file.
    """

    name: str
    status: Status
    reason: str | None = None
    outputs: tuple[OutputVerdict, ...] = ()
    layers: tuple[LayerVerdict, ...] = ()
    diagnosis: Diagnosis | None = None
    further: tuple[Diagnosis, ...] = ()
    top1: float | None = None
    agreement: Agreement | None = None
    preparation: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    structure: Structure | None = None

    @property
    def first_failure(self) -> str | None:
        """The first layer that is not in order, or else the first output."""
        return next((item.name for item in (*self.layers, *self.outputs) if not item.ok), None)

    @property
    def max_error(self) -> float | None:
        """The worst error of the outputs and gated layers, which is also the budget that would have passed.

        None where one of them has no error to give: nothing would have passed.
        """
        errors = [item.error for item in (*self.outputs, *(layer for layer in self.layers if layer.gated))]
        errors += [layer.local for layer in self.layers if layer.local is not None]
        known = [error for error in errors if error is not None]
        return max(known) if known and len(known) == len(errors) else None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        told: dict[str, Any] = {
            "name": self.name,
            "status": self.status,
            "max_error": self.max_error,
            "first_failure": self.first_failure,
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis else None,
            "outputs": [output.to_dict() for output in self.outputs],
            "layers": [layer.to_dict() for layer in self.layers],
            "top1": self.top1,
            "preparation": self.preparation,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }
        told |= {"reason": self.reason} if self.reason else {}
        told |= {"further": [item.to_dict() for item in self.further]} if self.further else {}
        told |= {"structure": self.structure.to_dict()} if self.structure else {}
        return told | ({"agreement": self.agreement.to_dict()} if self.agreement else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFact:
    """A file that took part, by its content."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A whole proof.

    Attributes:
        model: the spec's name.
        class_names: of its outputs, where they are known.
        budget: the largest error that passes.
        noise: the noise of a right model, lowest and highest.
        subjects: in the order they were run.
        weights: where the reference's weights came from.
        samples: what was fed, one description a sample of the batch.
        seed: of the probes.
        versions: package -> version.
        files: every file that took part.
        command: what reproduces the report.
        seconds: wall time of the whole.
        limits: what the proof does not show, one sentence each.
        unproved: why it proves nothing, whatever the subjects' numbers are; empty where it does.
    """

    model: str
    budget: float
    noise: tuple[float, float]
    subjects: tuple[SubjectVerdict, ...]
    weights: str = ""
    samples: tuple[str, ...] = ()
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict[str, str])
    files: tuple[FileFact, ...] = ()
    command: str = ""
    seconds: float = 0.0
    limits: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every subject could be run and is within the budget, and that proves something."""
        agree = bool(self.subjects) and all(subject.status == "passed" for subject in self.subjects)
        return agree and not self.unproved

    @property
    def exit_status(self) -> int:
        """0 passed, 1 a subject failed, 2 none failed but one could not be run, or nothing was proved."""
        if any(subject.status == "failed" for subject in self.subjects):
            return 1
        return 0 if self.passed else 2

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, schema 1."""
        return {
            "schema": 1,
            "model": self.model,
            "class_names": list(self.class_names),
            "passed": self.passed,
            "budget": self.budget,
            "unproved": list(self.unproved),
            "limits": list(self.limits),
            "subjects": [subject.to_dict() for subject in self.subjects],
            "noise_floor": list(self.noise),
            "weights": self.weights,
            "samples": list(self.samples),
            "seed": self.seed,
            "versions": self.versions,
            "files": [{"path": fact.path, "sha256": fact.sha256} for fact in self.files],
            "command": self.command,
            "seconds": round(self.seconds, 3),
        }
