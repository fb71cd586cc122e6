"""Weights files as subjects: each is run by its own framework, with its own weights, in the network it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from converters.convert import Reading, open_file, same_bits
from converters.faults.case import Own
from converters.faults.catalogue import own_layers, possible_forward
from converters.parity.matching import match_layers
from converters.parity.segments import Segment, apart
from converters.parity.subjects import Alone, Declared, Feed, Ran, Subject
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo import registry
from zoo.errors import SpecError, WeightsError, ZooError
from zoo.layers import Dropout, ModelSpec, Softmax

Forward: TypeAlias = Callable[[ModelSpec, Mapping[str, Array], Mapping[str, Array]], Mapping[str, Array]]


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

    def subject(self, right: Weights) -> Subject:
        """It, as a subject held against a network and its weights."""

        @contextmanager
        def opened() -> Generator[Feed, None, None]:
            run, known = self._runner(right), self._own(right.spec)

            def feed(inputs: Mapping[str, Array], reference: Mapping[str, Array]) -> Ran:
                ran = run(inputs, reference)
                seen = {
                    name: replace(own, parameters=known[name].parameters if name in known else {})
                    for name, own in ran.theirs.items()
                }
                return replace(ran, theirs={**known, **seen}, notes=((self.note,) if self.note else ()) + ran.notes)

            yield feed

        return Subject(name=str(self.path), open=opened)

    def _runner(self, right: Weights) -> Feed:
        if self.format == "onnx":
            return graph_feed(self.path, right.spec)
        if self.weights is None:
            raise ZooError(f"{self.path}: no weights to run")
        mine = self.weights
        return lambda inputs, _: self._run_weights(mine, right, inputs)

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

    def _run_weights(self, mine: Weights, right: Weights, inputs: Mapping[str, Array]) -> Ran:
        ours, theirs = right.spec, self.network or mine.spec
        fed = _renamed(ours, theirs, inputs, self.path)
        forward: Forward = oracle.forward
        if self.network:
            forward = possible_forward
        elif self.format in registry.frameworks():
            forward = registry.framework(self.format).forward
        activations = forward(theirs, mine.tensors, fed)
        pairs = {name: their for name, their in match_layers(ours, theirs).items() if their in activations}
        ran = _ran(ours, theirs, activations, pairs)
        if self.network:
            return ran
        same = _same_layers(right, mine, pairs) if forward is oracle.forward else frozenset[str]()
        return replace(ran, same=same, alone=layers_alone(forward, theirs, mine.tensors, pairs))


def graph_feed(path: Path, ours: ModelSpec, asked_for: frozenset[str] = frozenset()) -> Feed:
    """An ONNX file, run as it is; of its outputs, some may only have been asked for, to see inside."""
    graphs, made = (
        cast(Any, registry.imported(f"converters.parity.{name}")) for name in ("onnx_graph", "onnx_subject")
    )
    return cast(Feed, made.GraphSubject(graph=graphs.OnnxGraph(path), ours=ours, asked_for=asked_for))


def layers_alone(
    forward: Forward, theirs: ModelSpec, weights: Mapping[str, Array], pairs: Mapping[str, str] | None = None
) -> Alone:
    """Runs layers of a network by themselves, in whatever runs the network.

    Args:
        forward: a framework's.
        theirs: the network.
        weights: its parameters.
        pairs: our layer -> theirs; left out, both are one network.
    """

    def run(wanted: Sequence[tuple[Segment, Mapping[str, Array]]]) -> dict[str, Array]:
        fed, names = list[tuple[Segment, Mapping[str, Array]]](), dict[str, str]()
        wiring = theirs.wiring()
        for segment, batches in wanted:
            name = segment.target if pairs is None else pairs.get(segment.target)
            inputs = segment.layers[-1].inputs
            if len(segment.layers) == 1 and name and len(wiring[name]) == len(inputs):
                layer = replace(theirs.layer(name), inputs=inputs)
                fed.append((Segment(layers=(layer,), reads=segment.reads), batches))
                names[name] = segment.target
        network = apart(theirs, weights, fed)
        found = forward(network.spec, network.weights, network.inputs)
        return {names[name]: found[target] for name, target in network.targets.items() if target in found}

    return run


def _same_layers(right: Weights, mine: Weights, pairs: Mapping[str, str]) -> frozenset[str]:
    """Layers that are one in definition and in every bit of their parameters."""
    ours, theirs = own_layers(right), own_layers(mine)

    def same(name: str, other: str) -> bool:
        a, b = ours[name], theirs[other]
        one_kind = replace(a.layer, name="", inputs=()) == replace(b.layer, name="", inputs=())
        return one_kind and all(same_bits(a.parameters[key], b.parameters[key]) for key in a.parameters)

    return frozenset(name for name, other in pairs.items() if same(name, other))


def _ran(ours: ModelSpec, theirs: ModelSpec, activations: Mapping[str, Array], pairs: Mapping[str, str]) -> Ran:
    """Layers without a counterpart are faults of a network that shares our names, and unknown in one that does not."""
    found, back = {name: activations[their] for name, their in pairs.items()}, {b: a for a, b in pairs.items()}
    declared = tuple(
        Declared(name=name, value=activations[name], layer=back.get(name))
        for name in theirs.outputs
        if name in activations
    )
    lost = {layer.name: layer for layer in ours.layers if layer.name not in found}
    # Whether a network that stops at its logits has an answer is settled where the answer is.
    closing = {name for name in ours.outputs if name in lost and isinstance(lost[name], Softmax)}
    if all(a == b for a, b in pairs.items()):
        return Ran(activations=found, declared=declared, unmatched=frozenset(closing))
    notes = ["its layers have other names; matched by graph order, kind and shape"]
    told = [name for name, layer in lost.items() if not isinstance(layer, Dropout)]
    if told:
        notes.append(f"no layer of it could be told to be {', '.join(told)}; held against the layers after them alone")
    return Ran(activations=found, declared=declared, strange=True, unmatched=frozenset(lost), notes=tuple(notes))


def open_subject(path: Path, spec: ModelSpec | None, first: Weights | None, how: Reading | None = None) -> FileSubject:
    """Open a file of `verify_files`.

    Args:
        path: the file.
        spec: the network the user named.
        first: the first file; its network is the others' where they do not say another.
        how: how it is read, where its path alone does not say it.

    Raises:
        ZooError: it cannot be read, or does not fit its network.
    """
    file = open_file(path, how)
    opened = FileSubject(path=path, format=file.format, weights=None, parts=_parts(path, file.format))
    if first is None:
        return replace(opened, weights=file.fitted(spec))
    said = file.described
    try:
        return replace(opened, weights=file.fitted(said or first.spec))
    except (WeightsError, SpecError) as misfit:
        # Not yet bad: the network may be impossible with these weights, or described otherwise than the first file's.
        # The first layer where that shows is what the user wants to know.
        if file.format == "onnx":
            note = f"its weights are not read as those of {first.spec.name} ({misfit}); it is run as it is"
            return replace(opened, note=note)
        if said is None or said == first.spec:
            raise
        note = f"the network it describes does not fit its weights ({misfit}); run by the reference as far as it goes"
        return replace(opened, weights=file.as_network(first.spec), network=said, note=note)


def _parts(path: Path, form: str) -> tuple[Path, ...]:
    if form == "tf_slim":
        prefix = path.with_suffix("") if path.suffix == ".index" else path
        return tuple(sorted(prefix.parent.glob(f"{prefix.name}.index"))) + tuple(
            sorted(prefix.parent.glob(f"{prefix.name}.data-*"))
        )
    beside = path.with_suffix(".prototxt")
    return (path, beside) if form == "caffe" and beside.is_file() else (path,)


def _renamed(ours: ModelSpec, theirs: ModelSpec, inputs: Mapping[str, Array], path: Path) -> dict[str, Array]:
    """Our inputs under their names: by name where the names are the same, else by position."""
    given = {source.name: source.shape for source in ours.inputs}
    by_name = {*given} == {source.name for source in theirs.inputs}
    names = list(given) if not by_name else [source.name for source in theirs.inputs]
    if [given[name] for name in names] != [source.shape for source in theirs.inputs]:
        wanted = [source.shape for source in theirs.inputs]
        raise ZooError(f"{path} reads {wanted}, the first file {list(given.values())}; they are no one function")
    return {their.name: inputs[our] for our, their in zip(names, theirs.inputs, strict=True)}
