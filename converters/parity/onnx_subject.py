"""An ONNX graph as a subject: run as it is, its layers found among its tensors, and cut apart there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from converters.parity.matching import Matched, NodeResult, canonical_view, match_tensors, native_view
from converters.parity.onnx_graph import OnnxGraph, Piece
from converters.parity.segments import Segment
from converters.parity.subjects import Declared, Ran
from converters.weights import Array
from zoo.errors import ZooError
from zoo.layers import Dropout, ModelSpec, Shape, Softmax
from zoo.shapes import activation_shapes


@dataclass(kw_only=True)
class GraphSubject:
    """A graph held against a network; which tensor is which layer is settled by the first batch it is fed.

    Attributes:
        graph: whoever made it.
        ours: the network.
    """

    graph: OnnxGraph
    ours: ModelSpec
    _matched: Matched | None = None

    def __call__(self, inputs: Mapping[str, Array], right: Mapping[str, Array]) -> Ran:
        """Run a batch.

        Args:
            inputs: our input name -> batch.
            right: our layer -> activation by the reference; layers may be missing after the first batch.

        Raises:
            ZooError: the graph reads something else, or not even its first node can be run.
        """
        batches, rows, notes = self.graph.feed(inputs), len(next(iter(inputs.values()))), list[str]()
        try:
            # The file as it is decides about its outputs; the copy that shows every node's result, about the rest.
            outputs = self.graph.run(batches, rows)
            values = {**self.graph.every_result(batches, rows), **outputs}
        except ZooError as trouble:
            outputs, values = dict[str, Array](), self._as_far_as_it_goes(batches, rows)
            if not values:
                raise
            notes.append(f"it cannot be run to its end ({trouble}); compared as far as it goes")
        if self._matched is None:
            nodes = [
                NodeResult(name=name, operator=operator, reads=reads, value=values.get(name))
                for name, operator, reads in self.graph.nodes
            ]
            self._matched = match_tensors(self.ours, nodes, right)
        else:
            held = {layer: values[tensor] for layer, tensor in self._matched.tensors.items() if tensor in values}
            self._matched = replace(self._matched, activations=held)
        return self._ran(self._matched, values, outputs, batches[0], notes)

    def _as_far_as_it_goes(self, batches: Sequence[Mapping[str, Array]], rows: int) -> dict[str, Array]:
        """The results of the longest run of nodes that can be run; empty where not even the first can."""
        good, bad, values = 0, len(self.graph.nodes) + 1, dict[str, Array]()
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                values, good = self.graph.every_result(batches, rows, middle), middle
            except ZooError:
                bad = middle
        return values

    def _ran(
        self,
        matched: Matched,
        values: Mapping[str, Array],
        outputs: Mapping[str, Array],
        fed: Mapping[str, Array],
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
        cut = _Cut(
            graph=self.graph,
            tensors=_tensors(matched, declared),
            values=values,
            fed=fed,
            inputs=self.graph.input_names([source.name for source in self.ours.inputs]),
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
        )

    def _declared(self, matched: Matched, outputs: Mapping[str, Array]) -> tuple[Declared, ...]:
        """Its outputs; of a stranger's names, only those of our own outputs mean anything."""
        named = {*self.ours.outputs} if matched.strange else {layer.name for layer in self.ours.layers}
        return tuple(
            Declared(
                name=name,
                value=outputs[name],
                layer=name if name in named else None,
                channels_last=self.graph.channels_last,
            )
            for name in self.graph.outputs
            if name in outputs
        )


def _tensors(matched: Matched, declared: Sequence[Declared]) -> dict[str, str]:
    """Layer -> tensor; an output is what is declared as it, whatever else it may be found in."""
    return dict(matched.tensors) | {
        item.layer: item.name for item in declared if item.layer and item.layer in matched.tensors
    }


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """Cuts a graph at the tensors that are layers; see `converters.parity.subjects.Alone`."""

    graph: OnnxGraph
    tensors: Mapping[str, str]
    values: Mapping[str, Array]
    fed: Mapping[str, Array]
    inputs: Mapping[str, str]
    shapes: Mapping[str, Shape]

    def __call__(self, wanted: Sequence[tuple[Segment, Mapping[str, Array]]]) -> dict[str, Array]:
        pieces = [
            Piece(
                reads=dict(self._fed(name, batch) for name, batch in batches.items()),
                target=self.tensors[segment.target],
            )
            for segment, batches in wanted
        ]
        try:
            results = self.graph.apart(pieces, self.fed)
        except ZooError:
            if len(wanted) == 1:
                return {}
            return {name: value for one in wanted for name, value in self([one]).items()}
        found = dict[str, Array]()
        for (segment, batches), value in zip(wanted, results, strict=True):
            rows = len(next(iter(batches.values())))
            view = canonical_view(value, (rows, *self.shapes[segment.target]))
            found[segment.target] = value if view is None else view
        return found

    def _fed(self, name: str, batch: Array) -> tuple[str, Array]:
        """An activation or input of ours, in the graph's name and layout."""
        if name in self.tensors:
            tensor = self.tensors[name]
            return tensor, native_view(batch, self.values[tensor])
        return self.inputs[name], native_view(batch, self.fed[self.inputs[name]])
