"""Weights files as subjects: each is run by its own framework, with its own weights, in the network it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from converters._diagnosis import Own
from converters._matching import match_layers, match_tensors
from converters.convert import described, load
from converters.faults import own_layers
from converters.formats import format_name
from converters.weights import Array, Weights
from zoo import registry
from zoo.errors import ZooError
from zoo.frameworks import reference as oracle
from zoo.layers import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a subject gave.

    Attributes:
        activations: under the names of the reference's layers, canonical layout.
        unmatched: layers whose activation the subject may have, but nobody can say which it is.
        notes: what the reader must know.
        theirs: its own layers and parameters, under the names of the reference's layers, where they are known.
    """

    activations: Mapping[str, Array]
    unmatched: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    theirs: Mapping[str, Own] = field(default_factory=dict[str, Own])


# Runs a batch: the reference's input name -> array, and layer -> how many rows its activation has.
Feed: TypeAlias = Callable[[Mapping[str, Array], Mapping[str, int]], Ran]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One way to run a network.

    Attributes:
        name: in reports.
        open: gets it ready (exports it, say) for as many batches as are wanted.
    """

    name: str
    open: Callable[[], AbstractContextManager[Feed]]


@dataclass(frozen=True, kw_only=True)
class FileSubject:
    """A file, opened.

    Attributes:
        path: as the user gave it.
        format: its format's name.
        weights: what it holds, in the network it belongs to.
        parts: every file that belongs to it.
    """

    path: Path
    format: str
    weights: Weights
    parts: tuple[Path, ...]

    def subject(self, ours: ModelSpec) -> Subject:
        """It, as a subject held against the network `ours`."""

        @contextmanager
        def opened() -> Generator[Feed, None, None]:
            yield lambda inputs, rows: self._run(ours, inputs, rows)

        return Subject(name=str(self.path), open=opened)

    def _run(self, ours: ModelSpec, inputs: Mapping[str, Array], rows: Mapping[str, int]) -> Ran:
        theirs = self.weights.spec
        pairs, owned = match_layers(ours, theirs), own_layers(self.weights)
        known = {name: owned[their] for name, their in pairs.items()}
        if self.format == "onnx":
            # What the file describes of itself may be wrong; its weights are what they are.
            known = {name: replace(own, layer=ours.layer(name)) for name, own in known.items()}
            return replace(_run_onnx(self.path, ours, inputs, rows), theirs=known)
        fed = _renamed(ours, theirs, inputs, self.path)
        if self.format in registry.frameworks():
            activations = registry.framework(self.format).forward(theirs, self.weights.tensors, fed)
        else:
            activations = oracle.forward(theirs, self.weights.tensors, fed)
        by_order = any(ours_name != theirs_name for ours_name, theirs_name in pairs.items())
        ran = _ran(ours, {name: activations[their] for name, their in pairs.items()}, by_order)
        return replace(ran, theirs=known)


def _ran(ours: ModelSpec, activations: Mapping[str, Array], by_order: bool) -> Ran:
    """Layers without a counterpart are faults of a network that shares our names, and unknown in one that does not."""
    if not by_order:
        return Ran(activations=activations)
    lost = [layer.name for layer in ours.layers if layer.name not in activations]
    notes = ["its layers have other names; matched by graph order, kind and shape"]
    if lost:
        notes.append(f"no tensor of it could be told to be {', '.join(lost)}; proved by the layers after them alone")
    return Ran(activations=activations, unmatched=frozenset(lost) - {*ours.outputs}, notes=tuple(notes))


def open_file(path: Path, spec: ModelSpec | None, first: Weights | None) -> FileSubject:
    """Open a file of `verify_files`.

    Args:
        path: the file.
        spec: the network the user named.
        first: the first file; its network is the others' where they do not say another.

    Raises:
        ZooError: it cannot be read, or does not fit its network.
    """
    name = format_name(path)
    weights = load(path, spec=spec) if first is None else load(path, spec=described(path) or first.spec)
    return FileSubject(path=path, format=name, weights=weights, parts=_parts(path, name))


def _parts(path: Path, form: str) -> tuple[Path, ...]:
    if form == "tf_slim":
        prefix = path.with_suffix("") if path.suffix == ".index" else path
        return tuple(sorted(prefix.parent.glob(f"{prefix.name}.index"))) + tuple(
            sorted(prefix.parent.glob(f"{prefix.name}.data-*"))
        )
    beside = path.with_suffix(".prototxt")
    return (path, beside) if form == "caffe" and beside.is_file() else (path,)


def _renamed(ours: ModelSpec, theirs: ModelSpec, inputs: Mapping[str, Array], path: Path) -> dict[str, Array]:
    """Our inputs under their names, by position."""
    wanted, given = [source.shape for source in theirs.inputs], [source.shape for source in ours.inputs]
    if wanted != given:
        raise ZooError(f"{path} reads {wanted}, the first file {given}; they are no one function")
    return {their.name: inputs[our.name] for our, their in zip(ours.inputs, theirs.inputs, strict=True)}


def _run_onnx(path: Path, ours: ModelSpec, inputs: Mapping[str, Array], rows: Mapping[str, int]) -> Ran:
    runtime = cast(Any, registry.framework("onnx"))
    model = cast(Any, registry.imported("converters._onnx_trace")).Traced(path)
    batches = model.feed([inputs[source.name] for source in ours.inputs])
    size = len(inputs[ours.inputs[0].name])
    # The file as it is decides about its outputs; the copy that shows every node's result, about the rest.
    plain = _joined([runtime.run(path, batch, None) for batch in batches], batches, size)
    shown = _joined([runtime.run(model.every_result, batch, None) for batch in batches], batches, size)
    values = {**shown, **plain}
    tensors = [(name, op, values[name]) for name, op in model.results if name in values]
    activations = match_tensors(ours, tensors, rows)
    names = {name for name, _, _ in tensors}
    return _ran(ours, activations, by_order=not any(layer.name in names for layer in ours.layers))


def _joined(parts: Sequence[Mapping[str, Array]], fed: Sequence[Mapping[str, Array]], size: int) -> dict[str, Array]:
    """The results of several batches as one of `size` samples, less what the last batch was filled up with."""
    each, joined = len(next(iter(fed[0].values()))), dict[str, Array]()
    for name, value in parts[0].items():
        if value.ndim and len(value) and len(value) % each == 0:
            whole = np.concatenate([part[name] for part in parts])
            joined[name] = whole[: len(whole) * size // (each * len(parts))]
        else:
            joined[name] = value  # no batch axis: a constant of the graph
    return joined
