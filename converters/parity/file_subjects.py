"""Weights files as subjects: each is run by its own framework, with its own weights, in the network it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from converters.convert import described, load, load_as
from converters.faults.catalogue import own_layers, possible_forward
from converters.faults.diagnosis import Own
from converters.formats import format_name
from converters.parity.matching import NodeResult, answer, match_layers, match_tensors
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo import registry
from zoo.errors import SpecError, WeightsError, ZooError
from zoo.layers import Dropout, ModelSpec, Softmax


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
        weights: what it holds, in the network it belongs to; None where an ONNX graph computes what no weights of the
            network could be found in.
        parts: every file that belongs to it.
        network: the network it describes, where its weights do not fit that one but the first file's.
        note: what the reader must know.
    """

    path: Path
    format: str
    weights: Weights | None
    parts: tuple[Path, ...]
    network: ModelSpec | None = None
    note: str = ""

    def subject(self, ours: ModelSpec) -> Subject:
        """It, as a subject held against the network `ours`."""

        @contextmanager
        def opened() -> Generator[Feed, None, None]:
            yield lambda inputs, rows: self._run(ours, inputs, rows)

        return Subject(name=str(self.path), open=opened)

    def _run(self, ours: ModelSpec, inputs: Mapping[str, Array], rows: Mapping[str, int]) -> Ran:
        ran = _run_onnx(self.path, ours, inputs, rows) if self.format == "onnx" else self._run_weights(ours, inputs)
        known = self._own(ours)
        return replace(ran, theirs=known, notes=((self.note,) if self.note else ()) + ran.notes)

    def _own(self, ours: ModelSpec) -> dict[str, Own]:
        """Its own layers and parameters, under our names."""
        if self.weights is None:
            return {}
        pairs, owned = match_layers(ours, self.weights.spec), own_layers(self.weights)
        known = {name: owned[their] for name, their in pairs.items()}
        if self.format == "onnx":
            # What the file describes of itself may be wrong; its weights are what they are.
            known = {name: replace(own, layer=ours.layer(name)) for name, own in known.items()}
        return known

    def _run_weights(self, ours: ModelSpec, inputs: Mapping[str, Array]) -> Ran:
        if self.weights is None:
            raise ZooError(f"{self.path}: no weights to run")
        theirs = self.network or self.weights.spec
        fed = _renamed(ours, theirs, inputs, self.path)
        if self.network:
            activations = possible_forward(theirs, self.weights.tensors, fed)
        elif self.format in registry.frameworks():
            activations = registry.framework(self.format).forward(theirs, self.weights.tensors, fed)
        else:
            activations = oracle.forward(theirs, self.weights.tensors, fed)
        pairs = {name: their for name, their in match_layers(ours, theirs).items() if their in activations}
        by_order = any(ours_name != theirs_name for ours_name, theirs_name in pairs.items())
        return _ran(ours, {name: activations[their] for name, their in pairs.items()}, by_order)


def _ran(ours: ModelSpec, activations: Mapping[str, Array], by_order: bool) -> Ran:
    """Layers without a counterpart are faults of a network that shares our names, and unknown in one that does not."""
    lost, wiring = {layer.name: layer for layer in ours.layers if layer.name not in activations}, ours.wiring()
    # An answer must be there, but a network may stop at its logits: they are what is gated.
    closing = {
        name
        for name in ours.outputs
        if name in lost and isinstance(lost[name], Softmax) and wiring[name][0] not in lost
    }
    if not by_order:
        notes = [
            f"it stops at {wiring[name][0]}: {name}, the softmax of that, is not in it" for name in sorted(closing)
        ]
        return Ran(activations=activations, unmatched=frozenset(closing), notes=tuple(notes))
    notes = ["its layers have other names; matched by graph order, kind and shape"]
    told = [name for name, layer in lost.items() if not isinstance(layer, Dropout)]
    if told:
        notes.append(f"no tensor of it could be told to be {', '.join(told)}; held against the layers after them alone")
    return Ran(
        activations=activations, unmatched=frozenset(lost) - {*ours.outputs} | frozenset(closing), notes=tuple(notes)
    )


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
    if first is None:
        return FileSubject(path=path, format=name, weights=load(path, spec=spec), parts=_parts(path, name))
    said, opened = described(path), FileSubject(path=path, format=name, weights=None, parts=_parts(path, name))
    try:
        return replace(opened, weights=load(path, spec=said or first.spec))
    except (WeightsError, SpecError) as misfit:
        # Not yet bad: the network may be impossible with these weights, or described otherwise than the first file's.
        # The first layer where that shows is what the user wants to know.
        if name == "onnx":
            return replace(opened, note=f"its weights are not those of {first.spec.name} ({misfit}); run as it is")
        if said is None or said == first.spec:
            raise
        weights = load_as(path, first.spec)
        note = f"the network it describes does not fit its weights ({misfit}); run by the reference as far as it goes"
        return replace(opened, weights=weights, network=said, note=note)


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
    model = cast(Any, registry.imported("converters.parity.onnx_trace")).Traced(path)
    run = cast(Any, registry.framework("onnx")).run
    batches = model.feed([inputs[source.name] for source in ours.inputs])
    size, notes = len(inputs[ours.inputs[0].name]), tuple[str, ...]()

    def results(source: Path | bytes) -> dict[str, Array]:
        return _joined([run(source, batch, None) for batch in batches], batches, size)

    try:
        # The file as it is decides about its outputs; the copy that shows every node's result, about the rest.
        values = {**results(model.every_result()), **results(path)}
    except ZooError as trouble:
        values = _as_far_as_it_goes(model, results)
        if not values:
            raise
        notes = (f"it cannot be run to its end ({trouble}); compared as far as it goes",)
    nodes = [
        NodeResult(name=name, operator=operator, reads=reads, value=values.get(name))
        for name, operator, reads in model.nodes
    ]
    names = {layer.name for layer in ours.layers}
    by_order = not any(node.name in names and node.value is not None for node in nodes)
    matched = match_tensors(ours, nodes, rows)
    if not matched and len(model.outputs) == len(ours.outputs) == 1 and model.outputs[0] in values:
        # Operators nobody knows: the answer alone can be compared.
        matched = {answer(ours, values[model.outputs[0]]): values[model.outputs[0]]}
    ran = _ran(ours, matched, by_order)
    return replace(ran, unmatched=frozenset() if notes else ran.unmatched, notes=(*notes, *ran.notes))


def _as_far_as_it_goes(model: Any, results: Callable[[bytes], dict[str, Array]]) -> dict[str, Array]:
    """The results of the longest run of nodes, from the first on, that can be run; empty where not even one can."""
    good, bad, values = 0, len(model.nodes), dict[str, Array]()
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            values, good = results(model.every_result(middle)), middle
        except ZooError:
            bad = middle
    return values


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
