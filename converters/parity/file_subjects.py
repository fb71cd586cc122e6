"""Weights files as subjects: each is run by its own framework, with its own weights, in the network it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from converters.convert import OpenedFile, Reading, open_file, same_bits
from converters.faults.case import Own
from converters.faults.catalogue import own_layers, possible_forward
from converters.formats import GraphNetwork, format_name
from converters.parity.matching import match_layers
from converters.parity.segments import Segment, apart, loud, segments
from converters.parity.structure import structure_of_graph, structure_of_weights
from converters.parity.subjects import Alone, Declared, Feed, Ran, Subject
from converters.parity.tflite_subjects import TfliteForward
from converters.verdicts import Structure
from converters.weights import Array, Weights
from zoo import reference as oracle
from zoo import registry
from zoo.errors import FileFormatError, SpecError, WeightsError, ZooError, said
from zoo.layers import Dropout, ModelSpec, Softmax
from zoo.show import field_differences
from zoo.wire.checkpoint_files import saved_model_of

Runtime: TypeAlias = registry.RunsOnnx | registry.RunsTflite
# Of what is wrong with weights, so many letters are told.
_LONGEST = 300
Forward: TypeAlias = Callable[[ModelSpec, Mapping[str, Array], Mapping[str, Array]], Mapping[str, Array]]
Answers: TypeAlias = Callable[[ModelSpec, Mapping[str, Array]], tuple[Declared, ...]]


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
        preparation: how it prepares images otherwise than the first file; empty where it does not.
        as_read: its network is what its own graph was read as.
        graph: its own, where it is read as that.
        answers: its answer by a graph that it has, and that is none of the network's: the network, inputs -> outputs.
        structures: what it was held against, and what reading it said, by the identity of the first, which is kept
            so that nothing else gets it: every runtime asks again.
    """

    path: Path
    format: str
    weights: Weights | None
    parts: tuple[Path, ...]
    network: ModelSpec | None = None
    note: str = ""
    preparation: str = ""
    as_read: bool = False
    graph: GraphNetwork | None = None
    answers: Answers | None = None
    structures: dict[int, tuple[Weights, Structure]] = field(default_factory=dict[int, tuple[Weights, Structure]])

    def subject(self, right: Weights, runtime: str | None = None) -> Subject:
        """It, as a subject held against a network and its weights; in a runtime, if one is named."""

        @contextmanager
        def opened() -> Generator[Feed, None, None]:
            proved = runtime is None and self._is_read_as(right)
            run = self._runner(right, registry.runtime(runtime) if runtime else None, proved=proved)
            known = self._own(right.spec)

            def feed(inputs: Mapping[str, Array], reference: Mapping[str, Array]) -> Ran:
                ran = run(inputs, reference)
                seen = {
                    name: replace(own, parameters=known[name].parameters if name in known else {})
                    for name, own in ran.theirs.items()
                }
                notes = ((self.note,) if self.note else ()) + ran.notes
                ran = replace(ran, theirs={**known, **seen}, notes=notes, preparation=self.preparation)
                # Its layers by themselves would show no more than reading it has.
                return replace(ran, proved=True, alone=None) if proved else ran

            yield feed

        name = f"{self.path} in {runtime}" if runtime else str(self.path)
        return Subject(name=name, open=opened, read=self._reader(right))

    def _reader(self, right: Weights) -> Callable[[], Structure] | None:
        """Holds it against a network as one; not against what this very file was read as, which says nothing."""
        mine = self.weights
        if self.format == "onnx":
            said_nothing = self.as_read and mine is right
            return None if said_nothing else lambda: self._read(right, lambda: structure_of_graph(self.path, right))
        if mine is None or mine is right or self.network or self.answers:
            return None
        return lambda: self._read(right, lambda: structure_of_weights(mine, right))

    def _read(self, right: Weights, read: Callable[[], Structure]) -> Structure:
        if id(right) not in self.structures:
            self.structures[id(right)] = right, read()
        return self.structures[id(right)][1]

    def _is_read_as(self, right: Weights) -> bool:
        """Whether reading it, where that was done, found it to be a network."""
        return id(right) in self.structures and self.structures[id(right)][1].verdict == "identical"

    def _runner(self, right: Weights, runtime: Runtime | None, *, proved: bool) -> Feed:
        written = TfliteForward(runtime) if isinstance(runtime, registry.RunsTflite) else None
        if self.format == "onnx" and not isinstance(runtime, registry.RunsTflite):
            return graph_feed(self.path, right.spec, runtime=runtime, read_for_any=proved)
        if self.weights is None:
            raise ZooError(f"{self.path}: no weights to run")
        mine, note = self.weights, ("what was read from it was written as .tflite",) if written else ()

        def feed(inputs: Mapping[str, Array], reference: Mapping[str, Array]) -> Ran:
            ran = self._run_weights(mine, right, inputs, reference, written or self._forward())
            ran = replace(ran, notes=(*note, *ran.notes))
            return self._with_answers(ran, right.spec, inputs)

        return feed

    def _with_answers(self, ran: Ran, ours: ModelSpec, inputs: Mapping[str, Array]) -> Ran:
        if self.answers is None:
            return ran
        declared = self.answers(ours, inputs)
        return replace(ran, declared=declared, strange=ran.strange or not any(item.layer for item in declared))

    def _forward(self) -> Forward:
        """What runs its weights."""
        if self.network:
            return possible_forward
        return registry.framework(self.format).forward if self.format in registry.frameworks() else oracle.forward

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

    def _run_weights(
        self,
        mine: Weights,
        right: Weights,
        inputs: Mapping[str, Array],
        reference: Mapping[str, Array],
        forward: Forward,
    ) -> Ran:
        ours, theirs = right.spec, self.network or mine.spec
        fed = _renamed(ours, theirs, inputs, self.path)
        pairs, same = match_layers(ours, theirs), frozenset[str]()
        if forward is oracle.forward:
            same = _same_layers(right, mine, pairs)
            activations = oracle.forward(theirs, mine.tensors, fed, _known(ours, same, pairs, reference))
        else:
            activations = forward(theirs, mine.tensors, fed)
        pairs = {name: their for name, their in pairs.items() if their in activations}
        ran = _ran(ours, theirs, activations, pairs)
        if self.network:
            return ran
        return replace(ran, same=same, alone=layers_alone(forward, theirs, mine.tensors, ours, pairs))


def graph_feed(
    path: Path,
    ours: ModelSpec,
    asked_for: frozenset[str] = frozenset(),
    runtime: registry.RunsOnnx | None = None,
    *,
    read_for_any: bool = False,
) -> Feed:
    """An ONNX file, run as it is in ONNX Runtime or another.

    Of its outputs, some may only have been `asked_for`, to see inside. One that was `read_for_any` size of a batch is
    run for one.
    """
    with registry.optional():
        from converters.parity.onnx_graph import OnnxGraph
        from converters.parity.onnx_subject import GraphSubject
    return GraphSubject(graph=OnnxGraph(path, runtime), ours=ours, asked_for=asked_for, read_for_any=read_for_any)


def layers_alone(
    forward: Forward, theirs: ModelSpec, weights: Mapping[str, Array], ours: ModelSpec, pairs: Mapping[str, str]
) -> Alone:
    """Runs layers of a network by themselves, each with all that stands before it as far as what ours reads.

    Args:
        forward: a framework's.
        theirs: the network.
        weights: its parameters.
        ours: the network that asks.
        pairs: our layer -> theirs.
    """

    known, sizes = {**_inputs(ours, theirs), **pairs}, {source.name: source.shape for source in theirs.inputs}

    def run(wanted: Sequence[tuple[Segment, Mapping[str, Array]]]) -> dict[str, Array]:
        fed, rows = list[tuple[Segment, Mapping[str, Array]]](), dict[str, tuple[str, int]]()
        for segment, batches in wanted:
            read = {known[name]: batch for name, batch in batches.items() if name in known}
            if segment.target not in pairs or len(read) < len(batches):
                continue
            name, count = pairs[segment.target], len(next(iter(batches.values())))
            piece = next(one for one in segments(theirs, {name, *read}) if one.target == name)
            read |= {other: loud((count, *sizes[other])) for other in piece.reads if other not in read}
            fed.append((piece, {source: read[source] for source in piece.reads}))
            rows[name] = segment.target, count
        if not fed:
            return {}
        network = apart(theirs, weights, fed)
        found = forward(network.spec, network.weights, network.inputs)
        return {
            rows[name][0]: found[target][: rows[name][1]] for name, target in network.targets.items() if target in found
        }

    return run


def _same_layers(right: Weights, mine: Weights, pairs: Mapping[str, str]) -> frozenset[str]:
    """Layers that are one in definition, in what they read and in every bit of their parameters."""
    ours, theirs, reads, read = own_layers(right), own_layers(mine), right.spec.wiring(), mine.spec.wiring()
    known = {**_inputs(right.spec, mine.spec), **pairs}

    def same(name: str, other: str) -> bool:
        a, b = ours[name], theirs[other]
        one_kind = replace(a.layer, name="", inputs=()) == replace(b.layer, name="", inputs=())
        wired = [known.get(source) for source in reads[name]] == [*read[other]]
        return one_kind and wired and all(same_bits(a.parameters[key], b.parameters[key]) for key in a.parameters)

    return frozenset(name for name, other in pairs.items() if same(name, other))


def _known(
    ours: ModelSpec, same: Collection[str], pairs: Mapping[str, str], reference: Mapping[str, Array]
) -> dict[str, Array]:
    """What the reference has run already of a network: the layers that are its own, as are all that lead to them."""
    wiring, found = ours.wiring(), {source.name for source in ours.inputs}
    for layer in ours.layers:
        if layer.name in same and layer.name in reference and found.issuperset(wiring[layer.name]):
            found.add(layer.name)
    return {their: reference[name] for name, their in pairs.items() if name in found}


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
    others = [f"{b} for {a}" for a, b in pairs.items() if a != b]
    if 2 * len(others) <= len(pairs):
        notes = (f"layers under other names: {', '.join(others)}",) if others else ()
        return Ran(activations=found, declared=declared, unmatched=frozenset(closing), notes=notes)
    notes = ["its layers have other names; matched by graph order, kind and shape"]
    told = [name for name, layer in lost.items() if not isinstance(layer, Dropout)]
    if told:
        notes.append(f"no layer of it could be told to be {', '.join(told)}; held against the layers after them alone")
    return Ran(activations=found, declared=declared, strange=True, unmatched=frozenset(lost), notes=tuple(notes))


def open_subject(
    path: Path,
    spec: ModelSpec | None,
    first: Weights | None,
    how: Reading | None = None,
    graph: GraphNetwork | None = None,
) -> FileSubject:
    """Open a file of `verify_files`.

    Args:
        path: the file.
        spec: the network the user named.
        first: the first file; its network is the others' where they do not say another.
        how: how it is read, where its path alone does not say it.
        graph: what the first file is, whose names of tensors those of the state dict are that it was exported from.

    Raises:
        ZooError: it cannot be read, or does not fit its network.
    """
    try:
        file = open_file(path, how)
    except FileFormatError as trouble:
        if first is None or not path.is_file() or format_name(path) != "onnx":
            raise
        graph_feed(path, first.spec)  # what is no ONNX model at all is refused here
        note = f"its weights are not read ({trouble}); it is run as it is"
        return FileSubject(path=path, format="onnx", weights=None, parts=(path,), note=note)
    if file.native.unread and (spec is None or first is not None):
        raise FileFormatError(path, f"the network it describes cannot be read: {file.native.unread}")
    parts, answers = _parts(path, file.format), _answers(path, file)
    opened = FileSubject(path=path, format=file.format, weights=None, parts=parts, answers=answers)
    if first is None:
        weights, own = file.fitted(spec), file.native.graph
        as_read = own is not None and own.spec is not None and weights.spec.layers is own.spec.layers
        return replace(opened, weights=weights, as_read=as_read, graph=own if as_read else None)
    return _beside(opened, file, first, graph)


def _answers(path: Path, file: OpenedFile) -> Answers | None:
    """Those of a SavedModel, whose graph is its own."""
    folder = saved_model_of(path)
    if folder is None:
        return None
    with registry.optional("tf_slim"):
        from converters.parity.saved_model import SavedGraph
    return SavedGraph(folder, file.native.tensors).declared


def _beside(opened: FileSubject, file: OpenedFile, first: Weights, graph: GraphNetwork | None) -> FileSubject:
    """A file after the first, its weights taken for that one's network where it does not describe another."""
    described = file.described
    try:
        # That a graph is another network is what is to be found out, not a reason to refuse it.
        own = described is None and file.format == "onnx"
        weights = file.as_network(first.spec) if own else _fitted(file, first.spec, graph)
        return replace(opened, weights=weights, preparation=_other_images(first.spec, weights.spec))
    except (WeightsError, SpecError) as misfit:
        # Not yet bad: the network may be impossible with these weights, or described otherwise than the first file's.
        # The first layer where that shows is what the user wants to know.
        if file.format == "onnx":
            note = (
                f"its weights are not read as those of {first.spec.name} ({said(misfit, _LONGEST)}); it is run as it is"
            )
            return replace(opened, note=note)
        if described is None or described == first.spec:
            raise
        note = f"the network it describes does not fit its weights ({misfit}); run by the reference as far as it goes"
        return replace(opened, weights=file.as_network(first.spec), network=described, note=note)


def _fitted(file: OpenedFile, spec: ModelSpec, graph: GraphNetwork | None) -> Weights:
    """Its weights, in the network that it describes or else the first file's; by that one's names if it has them."""
    file = replace(file, how=replace(file.how, graph=graph))
    return file.fitted(file.described or spec)


def _other_images(ours: ModelSpec, theirs: ModelSpec) -> str:
    """How a network prepares images, where both state it, and not alike; else nothing."""
    if not ours.preprocessing or not theirs.preprocessing or ours.preprocessing == theirs.preprocessing:
        return ""
    found = field_differences("images", ours.preprocessing, theirs.preprocessing)
    return ", ".join(f"{fact.what} {fact.right}, not {fact.left}" for fact in found)


def _parts(path: Path, form: str) -> tuple[Path, ...]:
    if form == "tf_slim":
        prefix = path.with_suffix("") if path.suffix == ".index" else path
        return tuple(sorted(prefix.parent.glob(f"{prefix.name}.index"))) + tuple(
            sorted(prefix.parent.glob(f"{prefix.name}.data-*"))
        )
    beside = {"caffe": path.with_suffix(".prototxt"), "onnx": path.with_name(f"{path.name}.data")}.get(form)
    return (path, beside) if beside and beside.is_file() else (path,)


def _renamed(ours: ModelSpec, theirs: ModelSpec, inputs: Mapping[str, Array], path: Path) -> dict[str, Array]:
    """Our inputs under their names: by name where the names are the same, else by position."""
    given, names = {source.name: source.shape for source in ours.inputs}, _inputs(ours, theirs)
    wanted = {source.name: source.shape for source in theirs.inputs}
    if {names[name]: shape for name, shape in given.items() if name in names} != wanted or len(names) < len(given):
        told = list(wanted.values()), list(given.values())
        raise ZooError(f"{path} reads {told[0]}, the first file {told[1]}; they are no one function")
    return {their: inputs[our] for our, their in names.items()}


def _inputs(ours: ModelSpec, theirs: ModelSpec) -> dict[str, str]:
    """Our input -> theirs, by name where the names are the same, else by position."""
    names, others = [source.name for source in ours.inputs], [source.name for source in theirs.inputs]
    return {name: name for name in names} if {*names} == {*others} else dict(zip(names, others, strict=False))
