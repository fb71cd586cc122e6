"""An ONNX graph as a subject: run as it is, its layers found among its tensors, and cut apart there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np

from converters.faults.case import Own
from converters.metric import OF_ONE, one_run
from converters.parity.matching import Matched, NodeResult, match_tensors, roots_of
from converters.parity.onnx_graph import OnnxGraph, Piece, Runs, rows_of
from converters.parity.segments import Segment
from converters.parity.subjects import Declared, Ran
from converters.parity.views import canonical_view, native_view
from converters.weights import Array
from zoo.batches import keeps_items
from zoo.errors import ZooError
from zoo.layers import LRN, Conv, Dense, Dropout, ModelSpec, Shape, Softmax
from zoo.shapes import activation_shapes

# What is wrong with an output that NumPy has no numbers for.
_NO_NUMBERS = "is no tensor of numbers that can be compared (a sequence, an optional one, text, bfloat16)"


@dataclass(kw_only=True)
class GraphSubject:
    """A graph held against a network; which tensor is which layer is settled by the first batch it is fed.

    Attributes:
        graph: whoever made it.
        ours: the network.
        asked_for: outputs that are no part of what it declares: they were asked for, to see inside.
        read_for_any: reading it has shown what it makes of batches of any size.
    """

    graph: OnnxGraph
    ours: ModelSpec
    asked_for: frozenset[str] = frozenset()
    read_for_any: bool = False
    _matched: Matched | None = None
    _defects: dict[str, str] = field(default_factory=dict[str, str])

    def __call__(self, inputs: Mapping[str, Array], right: Mapping[str, Array]) -> Ran:
        """Run a batch.

        Args:
            inputs: our input name -> batch.
            right: our layer -> activation by the reference; layers may be missing after the first batch.

        Raises:
            ZooError: the graph reads something else, or not even its first node can be run.
        """
        batches, rows, notes = self.graph.feed(inputs), rows_of(inputs), list[str]()
        stopped, is_first, ended = None, self._matched is None, ""
        try:
            # The file as it is decides about its outputs; the copy that shows every node's result, about the rest.
            # An export made to see inside is nothing that anybody deploys, and what was read is run once.
            run = self.graph.opened(lean=bool(self.asked_for) or self.read_for_any)
            outputs, told = run(batches, rows), list[str]()
            defects = self._by_size(run, inputs, rows, outputs, told, (1, rows + 1)) if is_first else {}
            del run  # and its copies of the weights
            values = self.graph.every_result(batches, rows)
            if is_first and not defects:
                defects = self._by_telling_sizes(inputs, rows, outputs, {**batches[0], **values}, told)
            if random := [name for name, y in outputs.items() if not self._is_one_run(name, y, values.get(name, y))]:
                notes.append(f"two runs give {', '.join(random)} otherwise: something in it is drawn by chance")
                outputs = {name: values.get(name, value) for name, value in outputs.items()}  # one run is explained
                self._defects = dict.fromkeys(random, "is another one in every run")
            elif is_first:
                self._defects = defects | {name: why for name in outputs if (why := self.graph.unsettled(name))}
                notes += told
            # Of one run, as far as it goes: copies are told by their bits.
            values = {name: value for name, value in outputs.items() if value.dtype != object} | values
        except ZooError as trouble:
            outputs, (values, stopped) = dict[str, Array](), self._as_far_as_it_goes(batches, rows)
            if not values:
                raise
            notes.append(f"it cannot be run to its end ({trouble}); compared as far as it goes")
            if not self.graph.batch and self._runs_alone(inputs, rows):
                notes.append("it runs at a batch of 1 alone, though it declares any")
            else:
                ended = str(trouble)
        if self._matched is None:
            self._matched = match_tensors(self.ours, self._results(values), right)
        else:
            held = {layer: values[tensor] for layer, tensor in self._matched.tensors.items() if tensor in values}
            self._matched = replace(self._matched, activations=held)
        ran = self._ran(self._matched, values, outputs, batches[0], right, notes)
        return replace(ran, theirs=self._seen(self._matched, values, stopped), ended=ended)

    def _results(self, values: Mapping[str, Array]) -> list[NodeResult]:
        """What the nodes made, in graph order; what else they made after it, where it may be an activation."""
        first = [NodeResult(name=n, operator=op, reads=reads, value=values.get(n)) for n, op, reads in self.graph.nodes]
        more = [
            NodeResult(name=name, operator="", reads=reads, value=values[name])
            for name, (_, reads) in self.graph.further.items()
            if name in values and values[name].dtype == np.float32
        ]
        return [*first, *more]

    def _seen(self, matched: Matched, values: Mapping[str, Array], stopped: int | None) -> dict[str, Own]:
        """What layers with weights really read, and how the graph describes the normalisation it stops at."""
        nodes = {name: (operator, reads) for name, operator, reads in self.graph.nodes}
        seen = dict[str, Own]()
        for layer in self.ours.layers:
            operator, reads = nodes.get(matched.tensors.get(layer.name, ""), ("", ()))
            while operator == "Add":  # a bias by itself
                operator, reads = next((nodes[name] for name in reads if name in nodes), ("", ()))
            if isinstance(layer, Conv | Dense) and reads and reads[0] in values:
                seen[layer.name] = Own(layer=layer, parameters={}, read=values[reads[0]])
        norms, roots = self.graph.normalisations(), roots_of(self.graph.nodes)
        for layer in (layer for layer in self.ours.layers if isinstance(layer, LRN)):
            tensor = matched.tensors.get(layer.name, "")
            if said := norms.get(roots.get(tensor, tensor)):
                seen[layer.name] = Own(layer=replace(layer, **said), parameters={})
        missing = next((layer for layer in self.ours.layers if layer.name not in matched.tensors), None)
        ended = stopped is not None and stopped < len(self.graph.nodes)
        if isinstance(missing, LRN) and ended and (said := norms.get(self.graph.nodes[stopped or 0][0])):
            seen[missing.name] = Own(layer=replace(missing, **said), parameters={})
        return seen

    def _as_far_as_it_goes(
        self, batches: Sequence[Mapping[str, Array]], rows: int
    ) -> tuple[dict[str, Array], int | None]:
        """The results of the longest run of nodes that can be run, and the node after it; empty where none can."""
        good, bad, values = 0, len(self.graph.nodes) + 1, dict[str, Array]()
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                values, good = self.graph.every_result(batches, rows, middle), middle
            except ZooError:
                bad = middle
        return values, good

    def _ran(
        self,
        matched: Matched,
        values: Mapping[str, Array],
        outputs: Mapping[str, Array],
        fed: Mapping[str, Array],
        right: Mapping[str, Array],
        notes: list[str],
    ) -> Ran:
        lost = {layer.name: layer for layer in self.ours.layers if layer.name not in matched.tensors}
        idle = {name for name, layer in lost.items() if isinstance(layer, Dropout)}
        unknown = [name for name in lost if name not in idle]
        if matched.strange:
            notes.append("its tensors have other names; its layers are told by graph order, kind, shape and numbers")
            if unknown:
                notes.append(f"no tensor of it could be told to be {', '.join(unknown)}; held against what comes after")
        declared = self._declared(matched, outputs)
        # A stranger's layers may be there and not be told apart; who has our names has lost what is not there. Whether
        # a network that stops at its logits has an answer is settled where the answer is.
        closing = {name for name in self.ours.outputs if isinstance(lost.get(name), Softmax)}
        excused = {*lost} if matched.strange and outputs else matched.hidden | idle | (closing if outputs else set())
        tensors = dict(matched.tensors) | _stood_for(self.ours, matched, declared, right)
        own = self.graph.input_names([source.name for source in self.ours.inputs])
        known = {**values, **fed}
        cut = _Cut(
            graph=self.graph,
            tensors=tensors,
            values=known,
            fed=fed,
            aliases=_aliases(self.graph, self.ours, {**own, **tensors}, known),
            shapes=activation_shapes(self.ours),
        )
        return Ran(
            activations=matched.activations,
            declared=declared,
            strange=matched.strange,
            unmatched=frozenset(excused),
            notes=tuple(notes),
            graph=True,
            alone=cut,
            reads_more=cut.reads_more,
        )

    def _declared(self, matched: Matched, outputs: Mapping[str, Array]) -> tuple[Declared, ...]:
        """Its outputs; of a stranger's names, only those of our own outputs mean anything."""
        named = {*self.ours.outputs} if matched.strange else {layer.name for layer in self.ours.layers}
        channels_last = self.graph.channels_last({source.name: source.shape for source in self.ours.inputs})
        return tuple(
            Declared(
                name=name,
                value=outputs[name],
                layer=name if name in named else None,
                channels_last=channels_last,
                defect=self._defect(name, outputs[name]),
            )
            for name in self.graph.outputs
            if name in outputs and name not in self.asked_for
        )

    def _defect(self, name: str, value: Array) -> str | None:
        if value.dtype == object:
            return _NO_NUMBERS
        return self._defects.get(name) or self.graph.misdeclared(name, value.shape)

    def _runs_alone(self, inputs: Mapping[str, Array], rows: int) -> bool:
        """Whether it refuses the batch, but not one sample of it."""
        try:
            run = self.graph.opened(lean=True)
        except ZooError:
            return False
        return isinstance(self._of_size(run, rows, inputs), str) and not isinstance(self._of_size(run, 1, inputs), str)

    def _of_size(self, run: Runs, size: int, inputs: Mapping[str, Array]) -> dict[str, Array] | str:
        """Its outputs for a batch of so many samples; or why there are none."""
        fed = {name: array[-1:] if size == 1 else array for name, array in inputs.items()}  # the last one is quiet
        resized = {name: np.resize(array, (size, *array.shape[1:])) for name, array in fed.items()}
        try:
            return run(self.graph.feed(resized), size)
        except ZooError as trouble:
            return str(trouble)

    def _is_one_run(self, output: str, a: Array, b: Array) -> bool:
        """Whether two runs of an output agree; a Sigmoid of large numbers below 0 is what rounding leaves of one."""
        bends = any(name == output and operator == "Sigmoid" for name, operator, _ in self.graph.nodes)
        return one_run(a, b, OF_ONE if bends else 0.0)

    @cached_property
    def _takes_any(self) -> bool:
        """Whether it takes batches of any size, and ours makes of an item what it makes of it in any batch.

        Where reading it has shown that, nothing is left to be run.
        """
        open_to_doubt = not self.read_for_any and not self.graph.batch
        return open_to_doubt and keeps_items(self.ours, activation_shapes(self.ours))

    def _by_telling_sizes(
        self,
        inputs: Mapping[str, Array],
        rows: int,
        outputs: Mapping[str, Array],
        values: Mapping[str, Array],
        notes: list[str],
    ) -> dict[str, str]:
        """As `_by_size`, for the sizes at which the graph's own arithmetic of sizes, or of items, might turn."""
        sizes, untold = self.graph.telling_sizes(values, rows) if self._takes_any else ((), "")
        if not sizes:
            return {}
        defects = self._by_size(self.graph.opened(lean=True), inputs, rows, outputs, notes, sizes)
        if not defects and (inside := self._inside_by_size(inputs, rows, values, sizes)):
            defects = dict.fromkeys(outputs, f"{inside}, though it declares any")
        notes += [untold] if untold and not defects else []
        return defects

    def _inside_by_size(
        self, inputs: Mapping[str, Array], rows: int, values: Mapping[str, Array], sizes: Sequence[int]
    ) -> str:
        """The first tensor that holds other numbers in a batch of another size; an answer may hardly show it."""
        for size in sizes:
            resized = {name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()}
            found = self.graph.every_result(self.graph.feed(resized), size)
            for name, y in found.items():
                known = values.get(name, y)
                is_number = known.ndim > 1 and len(known) == rows and known.dtype == np.float32
                if is_number and not one_run(_of_batch(known, size, rows), y):
                    return f"is made of another {name} in a batch of {size}"
        return ""

    def _by_size(
        self,
        run: Runs,
        inputs: Mapping[str, Array],
        rows: int,
        outputs: Mapping[str, Array],
        notes: list[str],
        sizes: Sequence[int],
    ) -> dict[str, str]:
        """Output -> what is wrong with it for batches of other sizes, where the file takes any."""
        for size in sizes if self._takes_any else ():
            found = self._of_size(run, size, inputs)
            if isinstance(found, str):
                notes.append(f"a batch of {size}: {found}")
                return dict.fromkeys(outputs, f"cannot be run for a batch of {size}, though it declares any")
            wrong = [n for n, y in outputs.items() if not self._is_one_run(n, _of_batch(y, size, rows), found[n])]
            if wrong:
                return dict.fromkeys(wrong, f"is another one in a batch of {size}, though it declares any")
        return {}


def _of_batch(value: Array, size: int, rows: int) -> Array:
    """What an output of so many rows is in a batch of another size: the last one alone, or all of them in turn."""
    if not value.ndim or len(value) != rows:
        return value
    return value[-1:] if size == 1 else np.resize(value, (size, *value.shape[1:]))


def _stood_for(
    ours: ModelSpec, matched: Matched, declared: Sequence[Declared], right: Mapping[str, Array]
) -> dict[str, str]:
    """Layer -> the output that is declared as it: a layer is what is declared, whatever else it may be found in.

    An output under a name of its own is the output of ours, or the logits of one, whose numbers it holds.
    """
    found = {item.layer: item.name for item in declared if item.layer and item.layer in matched.tensors}
    wiring, answers = ours.wiring(), list[str]()
    for name in ours.outputs:
        answers += [name, *([wiring[name][0]] if isinstance(ours.layer(name), Softmax) else [])]
    for item in (item for item in declared if item.layer is None and item.value.dtype.kind == "f"):
        free = [name for name in answers if name not in found and name in right and name in matched.tensors]
        views = {name: canonical_view(item.value, right[name].shape) for name in free}
        held = (name for name, view in views.items() if view is not None and one_run(view, right[name]))
        if name := next(held, None):
            found[name] = item.name
    return found


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """Cuts a graph at the tensors that are layers; see `converters.parity.subjects.Alone`."""

    graph: OnnxGraph
    tensors: Mapping[str, str]
    values: Mapping[str, Array]
    fed: Mapping[str, Array]
    aliases: Mapping[str, Sequence[str]]
    shapes: Mapping[str, Shape]

    def __call__(self, wanted: Sequence[tuple[Segment, Mapping[str, Array]]]) -> dict[str, Array]:
        # Where the graph has one tensor for a layer and what it reads, the layer does nothing in it.
        idle = {
            segment.target: one for segment, batches in wanted if (one := self._handed_on(segment, batches)) is not None
        }
        return idle | self._run([item for item in wanted if item[0].target not in idle and self._fits(item[1])])

    def reads_more(self, segment: Segment) -> bool:
        """See `converters.parity.subjects.Ran`."""
        return self.graph.reads_more(
            [t for name in segment.reads for t in self.aliases[name]], self.tensors[segment.target]
        )

    def _fits(self, batches: Mapping[str, Array]) -> bool:
        """Whether the tensors in whose place a segment is fed have the shapes that they should have."""
        found = ((self.values[self.aliases[name][0]], batch.shape[1:]) for name, batch in batches.items())
        return all(canonical_view(value, _of_items(value, shape)) is not None for value, shape in found)

    def _run(self, wanted: Sequence[tuple[Segment, Mapping[str, Array]]]) -> dict[str, Array]:
        pieces = [
            Piece(
                reads=self._fed(batches, self.tensors[segment.target]),
                target=self.tensors[segment.target],
                rows=len(next(iter(batches.values()))),
            )
            for segment, batches in wanted
        ]
        try:
            results = self.graph.apart(pieces, self.fed) if pieces else []
        except ZooError:
            if len(wanted) == 1:
                return {}
            return {name: value for one in wanted for name, value in self._run([one]).items()}
        found = dict[str, Array]()
        for (segment, batches), value in zip(wanted, results, strict=True):
            rows = len(next(iter(batches.values())))
            view = canonical_view(value, (rows, *self.shapes[segment.target]))
            found[segment.target] = value if view is None else view
        return found

    def _handed_on(self, segment: Segment, batches: Mapping[str, Array]) -> Array | None:
        (name, batch), *others = batches.items()
        same = not others and self.tensors[segment.target] in self.aliases[name]
        return batch if same and batch.shape[1:] == self.shapes[segment.target] else None

    def _fed(self, batches: Mapping[str, Array], target: str) -> dict[str, Array]:
        """Activations and inputs of ours in the graph's names and layouts, under every name that they go by."""
        return {
            tensor: native_view(batch, self.values[tensor])
            for name, batch in batches.items()
            for tensor in self.aliases[name]
            if tensor != target
        }


def _of_items(value: Array, shape: Shape) -> Shape:
    """The shape of so many items, of `shape` each, as a tensor holds, however its axes are laid out."""
    return (value.size // max(prod(shape), 1), *shape)


def _aliases(
    graph: OnnxGraph, ours: ModelSpec, tensors: Mapping[str, str], values: Mapping[str, Array]
) -> dict[str, tuple[str, ...]]:
    """Activation or input of ours -> all tensors that hold its numbers, moved about and nothing else.

    The tensor that is called a layer may be a copy beside the road: what reads the layer reads another. A node that
    happens to change nothing on these inputs (a clip, say) makes no copy.
    """
    shapes = {source.name: source.shape for source in ours.inputs} | activation_shapes(ours)
    roots = roots_of(graph.nodes)
    found = dict[str, tuple[str, ...]]()
    for name, tensor in tensors.items():
        wanted, root = _of_items(values[tensor], shapes[name]), roots.get(tensor, tensor)
        own = canonical_view(values[tensor], wanted)
        copies = [other for other in values if other != tensor and roots.get(other, other) == root]
        views = {other: canonical_view(values[other], wanted) for other in copies}
        same = (other for other, view in views.items() if own is not None and _equal(own, view))
        found[name] = (tensor, *same)
    return found


def _equal(own: Array, view: Array | None) -> bool:
    return view is not None and np.array_equal(own, view)
