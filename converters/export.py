"""Networks with their weights, written for deployment and held against the reference before they are put in place."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from converters.fold import fold_preprocessing
from converters.parity.file_subjects import open_subject
from converters.parity.proof import Proof
from converters.parity.runtime_subjects import tflite_feed
from converters.parity.subjects import Feed, Ran, Subject
from converters.parity.tflite_subjects import TfliteForward
from converters.verdicts import SubjectVerdict
from converters.weights import Weights
from zoo.errors import CheckFailedError, ZooError
from zoo.frameworks import onnx
from zoo.registry import RunsTflite, optional, runtime
from zoo.wire.atomic import check_target, publish, publish_folder, staging

_LOG = logging.getLogger(__name__)

_KINDS = {".onnx": "onnx", ".tflite": "tflite", ".pb": "frozen graph"}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to export.

    Attributes:
        opset: of an ONNX file; None for the one the project is tested with.
        fast_lrn: write LRN as the operations ONNX Runtime runs fastest.
        fold_preprocessing: a network that takes RGB 0..1.
        verify: run what was written against the float64 reference.
        force: replace an existing target.
    """

    opset: int | None = None
    fast_lrn: bool = False
    fold_preprocessing: bool = False
    verify: bool = True
    force: bool = False


def check_export(target: str, options: ExportOptions) -> None:
    """Refuse what cannot be done before the weights are read."""
    path = Path(target)
    check_target(path, force=options.force, folder=_kind(target) == "SavedModel")
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").is_file():
        raise ZooError(f"{target}: is a folder of other things than a SavedModel, which is never replaced")
    if _kind(target) != "onnx" and (options.opset or options.fast_lrn):
        raise ZooError(f"{target}: --opset and --fast-lrn are for .onnx targets")


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
        CheckFailedError: the written network differs from the reference; the target is untouched.
    """
    check_export(target, options)
    if options.fold_preprocessing:
        weights = fold_preprocessing(weights)
    path, kind = Path(target), _kind(target)
    with staging(path) as folder:
        written = folder / path.name
        if kind == "onnx":
            form = onnx.graph(weights.spec, opset=options.opset or onnx.OPSET, fast_lrn=options.fast_lrn)
            onnx.write(written, form, weights.tensors)
        else:
            with optional("tf_slim"):
                from converters.exporters import tf_slim
            writers = {"frozen graph": tf_slim.export_frozen_graph, "tflite": tf_slim.export_tflite}
            writers.get(kind, tf_slim.export_saved_model)(weights, written)
        if options.verify:
            _check(weights, written, target, kind)
        if written.is_dir():
            publish_folder(written, path)
            return [path]
        return publish(folder, path, force=options.force)


def _check(weights: Weights, written: Path, target: str, kind: str) -> None:
    proof = Proof(weights)
    if kind == "onnx":
        subject = open_subject(written, None, weights).subject(weights)
    else:
        subject = Subject(name=target, open=lambda: nullcontext(_tensorflow_feed(weights, written, kind)))
    _report(proof.judge(subject), target, proof)


def _tensorflow_feed(weights: Weights, written: Path, kind: str) -> Feed:
    if kind == "tflite":
        return tflite_feed(TfliteForward(cast(RunsTflite, runtime("litert"))), weights, written.read_bytes())
    with optional("tf_slim"):
        from converters.exporters import tf_slim
    run = tf_slim.run_frozen_graph if kind == "frozen graph" else tf_slim.run_saved_model
    return lambda inputs, _: Ran(activations=run(written, weights.spec, inputs))


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
