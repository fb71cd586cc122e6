"""Networks with their weights, written for deployment and held against the reference before they are put in place."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from converters import exporters
from converters.fold import fold_preprocessing
from converters.low_precision import split, write_float16, write_int8
from converters.parity.file_subjects import open_subject
from converters.parity.probes import image_inputs, images_in
from converters.parity.proof import Proof
from converters.parity.reduced import judge_reduced, reduced_lines
from converters.parity.runtime_subjects import tflite_feed
from converters.parity.subjects import Feed, Ran, Subject
from converters.parity.tflite_subjects import TfliteForward
from converters.verdicts import BUDGETS, SubjectVerdict
from converters.weights import Weights
from zoo import registry
from zoo.errors import CheckFailedError, UnknownNameError, UnsupportedError, ZooError
from zoo.frameworks import onnx
from zoo.shapes import check_cost
from zoo.wire.atomic import check_target, publish, publish_folder, staging
from zoo.wire.checkpoint_files import saved_model_of

_LOG = logging.getLogger(__name__)

PRECISIONS = ("fp32", "fp16", "int8")
_FEWEST = 8
# The first with a scale for each channel.
_INT8_OPSET = 13

_KINDS = {".onnx": "onnx", ".tflite": "tflite", ".pb": "frozen graph"}

# Whose exporter writes what is not ONNX, unless another is asked for.
_TENSORFLOW = "tf_slim"
# What of an exporter writes a kind.
_WRITERS = {
    "onnx": "export_onnx",
    "tflite": "export_tflite",
    "frozen graph": "export_frozen_graph",
    "SavedModel": "export_saved_model",
}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to export.

    Attributes:
        framework: whose own exporter writes it; None for our own graph in ONNX, and TF-slim's for anything else.
        opset: of an ONNX file; None for the one the project is tested with.
        fast_lrn: write LRN as the operations ONNX Runtime runs fastest.
        fold_preprocessing: a network that takes RGB 0..1.
        precision: ``fp32``, ``fp16`` or ``int8``, of an ONNX file.
        calibrate: the folder of pictures that int8 takes its ranges from; every fourth is held back, to judge by.
        verify: run what was written against the float64 reference.
        force: replace an existing target.
    """

    framework: str | None = None
    opset: int | None = None
    fast_lrn: bool = False
    fold_preprocessing: bool = False
    precision: str = "fp32"
    calibrate: Path | None = None
    verify: bool = True
    force: bool = False


def check_export(target: str, options: ExportOptions) -> None:
    """Refuse what cannot be done before the weights are read."""
    path = Path(target)
    check_target(path, force=options.force, folder=_kind(target) == "SavedModel")
    if path.is_dir() and any(path.iterdir()) and saved_model_of(path) is None:
        raise ZooError(f"{target}: is a folder of other things than a SavedModel, which is never replaced")
    if _kind(target) != "onnx" and (options.opset or options.fast_lrn or options.precision != "fp32"):
        raise ZooError(f"{target}: --opset, --fast-lrn and --precision are for .onnx targets")
    if options.framework is not None and options.framework not in exporters.names():
        raise UnknownNameError("framework", options.framework, exporters.names())
    if options.framework and (options.fast_lrn or options.precision != "fp32"):
        raise ZooError(f"{target}: --fast-lrn and --precision are of our own graph; leave out --framework")
    _check_precision(options)


def _check_precision(options: ExportOptions) -> None:
    if options.precision not in PRECISIONS:
        raise UnknownNameError("precision", options.precision, PRECISIONS)
    if options.calibrate and options.precision == "fp32":
        raise ZooError("--calibrate goes with --precision int8 or fp16; float32 needs no pictures")
    if options.precision != "int8":
        return
    if options.calibrate is None:
        raise ZooError("--precision int8 needs --calibrate DIR, a folder of pictures as the network will see them")
    if (options.opset or onnx.OPSET) < _INT8_OPSET:
        raise ZooError(f"--precision int8 needs operator set {_INT8_OPSET} or newer, not {options.opset}")
    found = len(images_in(options.calibrate))
    if found < _FEWEST:
        raise ZooError(
            f"{options.calibrate}: holds {found} pictures; --precision int8 needs at least {_FEWEST}, better hundreds:"
            " it is calibrated on three of four, and judged on the others"
        )


def _kind(target: str) -> str:
    """``onnx``, ``tflite``, ``frozen graph`` or ``SavedModel``, by what the target looks like."""
    suffix = Path(target).suffix
    if suffix in _KINDS and not target.endswith("/"):
        return _KINDS[suffix]
    if target.endswith("/") or not suffix or Path(target).is_dir():
        return "SavedModel"
    known = "FILE.onnx, FILE.tflite (LiteRT), FILE.pb (frozen graph), FOLDER/ (SavedModel)"
    raise ZooError(f"{target}: unknown kind of target; known: {known}")


def export(weights: Weights, target: str, options: ExportOptions) -> list[Path]:
    """Write `target`: ``FILE.onnx``, ``FILE.tflite``, ``FILE.pb`` (a frozen graph) or ``FOLDER/`` (a SavedModel).

    Raises:
        ZooError: the target exists, its kind is unknown, or the preprocessing cannot be folded.
        CheckFailedError: the written network differs from the reference, or misses the budget of its precision; the
            target is untouched.
    """
    check_export(target, options)
    if options.fold_preprocessing:
        weights = fold_preprocessing(weights)
    check_cost(weights.spec, items=1)
    path, kind = Path(target), _kind(target)
    with staging(path) as folder:
        written = folder / path.name
        if options.precision != "fp32":
            _write_reduced(weights, written, target, options)
        elif kind == "onnx" and options.framework is None:
            _write_onnx(weights, written, options)
        else:
            _write_by_exporter(weights, written, kind, options)
        if options.verify and options.precision == "fp32":
            _check(weights, written, target, kind, options)
        if written.is_dir():
            publish_folder(written, path, force=options.force)
            return [path]
        return publish(folder, path, force=options.force)


def _write_onnx(weights: Weights, path: Path, options: ExportOptions) -> None:
    form = onnx.graph(weights.spec, opset=options.opset or onnx.OPSET, fast_lrn=options.fast_lrn)
    onnx.write(path, form, weights.tensors)


def _write_by_exporter(weights: Weights, written: Path, kind: str, options: ExportOptions) -> None:
    exporter = exporters.exporter(options.framework or _TENSORFLOW)
    write = getattr(exporter, _WRITERS[kind], None)
    if write is None:
        kinds = ", ".join(known for known, writer in _WRITERS.items() if hasattr(exporter, writer))
        raise UnsupportedError(f"{written.name}: {options.framework} writes no {kind}; it writes: {kinds}")
    write(weights, written, **({"every_activation": False, "opset": options.opset} if kind == "onnx" else {}))


def _write_reduced(weights: Weights, written: Path, target: str, options: ExportOptions) -> None:
    """Write less than float32, and judge it by its own budget."""
    calibration, held = split(images_in(options.calibrate)) if options.calibrate else ([], [])
    with TemporaryDirectory(dir=written.parent) as folder:
        plain = Path(folder) / "float32.onnx"
        _write_onnx(weights, plain, options)
        if options.precision == "int8":
            write_int8(plain, written, (image_inputs(weights.spec, [path]) for path in calibration))
        else:
            write_float16(plain, written, weights.spec)
    if not options.verify:
        return
    name = {"fp16": "float16", "int8": "int8"}[options.precision]
    found = judge_reduced(weights, written, BUDGETS[name], held, probes=name == "float16")
    for line in reduced_lines(found):
        _LOG.info("%s: %s", target, line)
    if found.problem:
        raise CheckFailedError(f"{target}: {name} misses its budget at {found.problem}; nothing was written")


def _check(weights: Weights, written: Path, target: str, kind: str, options: ExportOptions) -> None:
    proof = Proof(weights)
    if kind == "onnx":
        subject = open_subject(written, None, weights).subject(weights)
    else:
        exporter = exporters.exporter(options.framework or _TENSORFLOW)
        subject = Subject(name=target, open=lambda: nullcontext(_tensorflow_feed(weights, written, kind, exporter)))
    _report(proof.judge(subject), target, proof)


def _tensorflow_feed(weights: Weights, written: Path, kind: str, exporter: Any) -> Feed:
    if kind == "tflite":
        runtime = cast(registry.RunsTflite, registry.runtime("litert"))
        return tflite_feed(TfliteForward(runtime, exporter), weights, written.read_bytes())
    run = exporter.run_frozen_graph if kind == "frozen graph" else exporter.run_saved_model
    return lambda inputs, _: Ran(activations=run(written, weights, inputs))


def _report(verdict: SubjectVerdict, target: str, proof: Proof) -> None:
    if verdict.status == "unavailable":
        raise ZooError(f"{target}: cannot be verified: {verdict.reason}; --no-verify writes it all the same")
    if verdict.status == "failed":
        wrong = next(item for item in (*verdict.layers, *verdict.outputs) if not item.ok)
        told = wrong.reason or f"error {wrong.error:.1e}, budget {proof.budget:.0e}"
        raise CheckFailedError(f"{target}: differs from the reference at {wrong.name}: {told}; nothing was written")
    if proof.vacuity.unproved:
        _LOG.warning("%s: written, and NOT PROVED: %s", target, "; ".join(proof.vacuity.unproved))
    else:
        _LOG.info("%s: verified against the reference, largest error %.1e", target, verdict.max_error or 0.0)
