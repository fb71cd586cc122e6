"""What `zoo verify` calls: a network or a file in every framework, or files that ought to hold one function."""

from __future__ import annotations

import gc
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Protocol, cast

from converters import exporters
from converters.convert import Reading
from converters.parity.file_subjects import FileSubject, graph_feed, layers_alone, open_subject
from converters.parity.probes import probe_weights
from converters.parity.proof import Progress, Proof, silent
from converters.parity.provenance import hashing
from converters.parity.runtime_subjects import check_runtimes, runtime_subjects
from converters.parity.subjects import Feed, Ran, Subject
from converters.verdicts import (
    DEFAULT_BUDGET,
    Report,
)
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import UnknownNameError, UnsupportedError, WeightsError, ZooError
from zoo.layers import ModelSpec
from zoo.wire.folders import scratch_folder


class Exporter(Protocol):
    """What every file of ``converters/exporters`` offers: the framework's own road to ONNX."""

    def export_onnx(self, weights: Weights, path: Path, *, every_activation: bool, opset: int | None = None) -> None:
        """Write `path`; inputs and outputs carry the spec's names, canonical layout, any batch size."""
        ...


def subject_names() -> list[str]:
    """Every way to run a network: each framework natively, and through its own ONNX exporter."""
    return sorted([*registry.ways(), *(f"{name}-onnx" for name in exporters.names())])


def subject(name: str, weights: Weights) -> Subject:
    """A way to run a network; raises `UnknownNameError` now, `MissingDependencyError` when it is opened."""
    if name not in subject_names():
        raise UnknownNameError("subject", name, subject_names())
    ready = _native if name in registry.ways() else _exported
    return Subject(name=name, open=lambda: ready(name, weights))


@contextmanager
def _native(way: str, weights: Weights) -> Generator[Feed, None, None]:
    forward, spec = registry.forward(way), weights.spec
    alone = layers_alone(forward, spec, weights.tensors, spec, {layer.name: layer.name for layer in spec.layers})
    yield lambda inputs, _: Ran(activations=forward(weights.spec, weights.tensors, inputs), alone=alone)


@contextmanager
def _as_described(framework: str, weights: Weights, description: Path, model: Path) -> Generator[Feed, None, None]:
    """A network as its user describes it; where that cannot be run as it is, as it is written from what was read."""
    adapter = registry.framework(framework)
    with _native(framework, weights) as written:

        def feed(inputs: Mapping[str, Array], reference: Mapping[str, Array]) -> Ran:
            ran = written(inputs, reference)
            try:
                if not isinstance(adapter, registry.RunsFiles):
                    raise UnsupportedError(f"{framework} runs no description of others")
                found = adapter.forward_file(description, model, weights.spec, inputs)
            except UnsupportedError as reason:
                note = f"{description} was not run itself ({reason}); the one written from its network was"
                return replace(ran, notes=(note,))
            return replace(ran, activations=found, notes=(f"{description} was run as it is",))

        yield feed


@contextmanager
def _exported(name: str, weights: Weights) -> Generator[Feed, None, None]:
    framework = name.removesuffix("-onnx")
    exporter = cast(Exporter, exporters.exporter(framework))
    with scratch_folder() as folder:  # the graph is mapped for as long as it is asked
        path = folder / "model.onnx"
        exporter.export_onnx(weights, path, every_activation=True)
        gc.collect()  # the exporter's copies go before the runtime makes its own
        inner = frozenset(layer.name for layer in weights.spec.layers) - {*weights.spec.outputs}
        yield graph_feed(path, weights.spec, inner)


def verify_model(
    spec: ModelSpec,
    weights: Weights | None = None,
    frameworks: Sequence[str] | None = None,
    *,
    runtimes: Sequence[str] = (),
    images: Sequence[str | PathLike[str]] = (),
    data: str | PathLike[str] | None = None,
    seed: int = 0,
    budget: float = DEFAULT_BUDGET,
    progress: Progress = silent,
    command: str = "",
) -> Report:
    """Prove that a network computes the same function in every framework.

    Args:
        spec: the network.
        weights: its parameters; left out, seeded probe weights.
        frameworks: subjects by name (`subject_names`); left out, all of them, or none where there are `runtimes`.
        runtimes: what the network is deployed on, by name (`zoo.registry.runtimes`).
        images: pictures to feed beside the two probes.
        data: a folder of images; top-1 and top-5 agreement over it are shown, never gated.
        seed: of the probes.
        budget: the largest error that passes.
        progress: told what is about to run, for what takes longer than a second.
        command: what reproduces the report, for the reader.

    Returns:
        The report; a subject that cannot be run is ``unavailable`` in it, with the reason.

    Raises:
        UnknownNameError: no subject or runtime of that name.
        ZooError: a picture cannot be read, or the budget is not a positive number.
    """
    names = _checked(frameworks, runtimes)
    weights = weights.with_spec(spec) if weights else probe_weights(spec, seed)
    proof = Proof(weights, images=images, data=data, seed=seed, budget=budget, progress=progress)
    subjects = [*(subject(name, weights) for name in names), *runtime_subjects(runtimes, weights)]
    return proof.report([proof.judge(item) for item in subjects], command=command)


def verify_file(
    file: str | PathLike[str],
    spec: ModelSpec | None = None,
    frameworks: Sequence[str] | None = None,
    *,
    runtimes: Sequence[str] = (),
    prototxt: str | PathLike[str] | None = None,
    how: Reading | None = None,
    images: Sequence[str | PathLike[str]] = (),
    data: str | PathLike[str] | None = None,
    seed: int = 0,
    budget: float = DEFAULT_BUDGET,
    progress: Progress = silent,
    command: str = "",
    hashes: bool = True,
) -> Report:
    """Prove that the network and weights of one file compute the same function in every framework.

    Args:
        file: any format of `converters.formats`. An ONNX graph and a SavedModel are subjects themselves, run as they
            are.
        spec, images, data, seed, budget, progress, command: as for `verify_files`.
        frameworks: as for `verify_model`.
        runtimes: likewise; an ONNX graph is run there as it is.
        prototxt: where `spec` was read from; the ``caffe`` subject of a caffemodel runs it as it is.
        how: how the file is read, where its path alone does not say it.
        hashes: the report is to say which files these were, by their SHA-256.

    Raises:
        UnknownNameError: no subject or runtime of that name.
        ZooError: the file cannot be read, or does not fit the network.
    """
    names = _checked(frameworks, runtimes)
    progress(f"reading {file}")
    opened = open_subject(Path(file), spec, None, how)
    weights, facts = _weights_of(opened), hashing(opened.parts if hashes else ())
    proof = Proof(weights, images=images, data=data, seed=seed, budget=budget, progress=progress)
    by_itself = opened.format == "onnx" or opened.answers is not None
    subjects = [opened.subject(weights)] if by_itself and names else []
    subjects += [subject(name, weights) for name in names]
    beside = next((part for part in opened.parts if part != opened.path and part.suffix == ".prototxt"), None)
    own = Path(prototxt) if prototxt else beside
    if own:
        described = Subject(name=opened.format, open=lambda: _as_described(opened.format, weights, own, opened.path))
        subjects = [described if item.name == described.name else item for item in subjects]
    subjects += runtime_subjects(runtimes, weights, [opened])
    return proof.report([proof.judge(item) for item in subjects], files=facts(), command=command)


def _checked(frameworks: Sequence[str] | None, runtimes: Sequence[str]) -> Sequence[str]:
    check_runtimes(runtimes)
    everywhere = [] if runtimes else subject_names()
    names = everywhere if frameworks is None else frameworks
    if not names and not runtimes:
        raise ZooError("no subject to verify; name one with --frameworks")
    unknown = [name for name in names if name not in subject_names()]
    if unknown:
        raise UnknownNameError("subject", unknown[0], subject_names())
    return names


def _weights_of(opened: FileSubject) -> Weights:
    if opened.weights is None:
        raise WeightsError(opened.path, ["no weights of the network could be found in it"])
    return opened.weights


def verify_files(
    files: Sequence[str | PathLike[str]],
    spec: ModelSpec | None = None,
    *,
    runtimes: Sequence[str] = (),
    how: Reading | None = None,
    images: Sequence[str | PathLike[str]] = (),
    data: str | PathLike[str] | None = None,
    seed: int = 0,
    budget: float = DEFAULT_BUDGET,
    progress: Progress = silent,
    command: str = "",
    hashes: bool = True,
) -> Report:
    """Prove that weights files hold one function.

    The reference computes in float64 with the first file's network and weights. Every file, the first among them, is
    run by its own framework with its own weights: an ONNX file is run as it is, a checkpoint, caffemodel or state dict
    in the network it belongs to; formats without a framework (safetensors, NumPy) by the reference itself.

    Args:
        files: any format of `converters.formats`.
        spec: the network; left out, it is what the first file says, or the one family member that fits.
        runtimes: what every ONNX file among them is run in besides; where there is none, the first file's network.
        how: how the first file is read, where its path alone does not say it; the others say themselves what they are.
        hashes: as for `verify_file`.
        images, data, seed, budget, progress, command: as for `verify_model`.

    Raises:
        ZooError: a file cannot be read, or does not fit the network.
    """
    if not files:
        raise ZooError("no file to verify")
    check_runtimes(runtimes)
    opened = list[FileSubject]()
    for path in map(Path, files):
        progress(f"reading {path}")
        if opened:
            opened.append(open_subject(path, spec, opened[0].weights, graph=opened[0].graph))
        else:
            opened.append(open_subject(path, spec, None, how))
    first = _weights_of(opened[0])
    facts = hashing([part for file in opened for part in file.parts] if hashes else ())
    proof = Proof(first, images=images, data=data, seed=seed, budget=budget, progress=progress)
    subjects = [*(file.subject(first) for file in opened), *runtime_subjects(runtimes, first, opened)]
    verdicts = [proof.judge(item) for item in subjects]
    return proof.report(verdicts, files=facts(), command=command)
