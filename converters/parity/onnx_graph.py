"""Somebody's ONNX file as it is, with every node's result made visible, and in pieces that run by themselves.

The file is parsed once. Its weights stay where they lie, in the file, and are lent to ONNX Runtime; the graphs made of
it hold none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_model

from converters.parity.batch_sizes import made_of, telling_sizes
from converters.parity.onnx_nodes import (
    all_nodes,
    bodies,
    chosen,
    copied,
    draws,
    operator_of,
    reads_of,
    renamed,
    stored_in,
    written_out,
)
from converters.parity.segments import loud
from converters.weights import Array
from zoo.errors import FileFormatError, ZooError, said
from zoo.frameworks import onnx as onnxruntime
from zoo.frameworks.onnx import turned_inputs
from zoo.layers import Shape
from zoo.registry import RunsOnnx
from zoo.wire.mapped import mapped
from zoo.wire.onnx import parse, without_weights

# Constants smaller than this stay in the graph: shapes and axes, which ONNX Runtime wants to see.
_LENT = 1024


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a graph to be run by itself.

    Attributes:
        reads: tensor -> what is fed in its place.
        target: the tensor wanted.
        rows: the samples; a tensor may hold a whole number of rows for each.
    """

    reads: Mapping[str, Array]
    target: str
    rows: int


# Batches, as `OnnxGraph.feed` makes them, and how many samples they hold -> the graph's outputs.
Runs: TypeAlias = Callable[[Sequence[Mapping[str, Array]], int], dict[str, Array]]


class OnnxGraph:
    """An ONNX file, parsed.

    Attributes:
        path: the file.
        inputs: names of what it is fed.
        outputs: names of the graph's own outputs.
        nodes: name of the first result, operator and inputs of each node, in graph order.
        further: what else nodes make (the parts of a Split, say), by name: the same two of the node.

    Args:
        path: the file.
        runtime: what runs it; left out, ONNX Runtime.

    Raises:
        FileFormatError: it is no ONNX model, or one that ONNX Runtime does not survive.
    """

    def __init__(self, path: Path, runtime: RunsOnnx | None = None) -> None:
        try:
            data, self._lent = without_weights(mapped(path), path.parent, _LENT)
            model = onnx.load_model_from_string(data)
            load_external_data_for_model(model, str(path.parent))
        except Exception as error:
            raise FileFormatError(path, f"no ONNX model: {said(error, 200)}") from error
        self.path, self._runtime = path, runtime
        _say_lent(model, self._lent)
        # What runs is the file as it is; what is looked into has its functions written out.
        self._model, self._inside = model, written_out(model) if model.functions else model
        graph = self._inside.graph
        stored = {tensor.name for tensor in graph.initializer}
        self._inputs = [value for value in graph.input if value.name not in stored]
        self.inputs = [value.name for value in self._inputs]
        self.outputs = [value.name for value in graph.output]
        made = [node for node in graph.node if node.output and node.output[0]]
        self.nodes = [(node.output[0], operator_of(node), tuple(node.input)) for node in made]
        self.further = {
            name: (operator_of(node), tuple(node.input)) for node in made for name in node.output[1:] if name
        }
        nameless = next((node for node in graph.node if node.op_type == "Split" and "" in node.output), None)
        if nameless:
            raise FileFormatError(
                path, f"Split {nameless.name!r}: one of its outputs has no name; ONNX wants all of them"
            )
        names = {*stored, *self.inputs, *(name for node in all_nodes(graph) for name in node.output)}
        self._copied = copied(self._inside)
        self._mark = "piece"
        while any(name.startswith(self._mark) for name in names):
            self._mark += "_"

    def misdeclared(self, output: str, shape: Sequence[int]) -> str | None:
        """What sizes the file declares of an output, in words, where it has others; open ones fit any."""
        dims = next(_dims(value) for value in self._model.graph.output if value.name == output)
        if _fits(dims, shape):
            return None
        told = " x ".join(["N", *(str(size or "?") for size in dims[1:])])
        return f"is declared {told}, and has {' x '.join(['N', *map(str, shape[1:])])}"

    def unsettled(self, output: str) -> str | None:
        """Why an output is not what a few runs make of it, whatever they are fed; None where nothing speaks for it."""
        nodes, _ = self._between(Piece(reads={}, target=output, rows=1))
        inner = (one for node in nodes for graph in bodies(node) for one in all_nodes(graph))
        stored = stored_in(self._inside.graph)
        drawn = next((node.op_type for node in (*nodes, *inner) if draws(node, stored)), None)
        if drawn:
            return f"depends on chance: {drawn}"
        decides = chosen(nodes, {*self.inputs})
        return f"goes one way or another by the numbers that are fed: {decides}" if decides else None

    def telling_sizes(self, values: Mapping[str, Array], rows: int) -> tuple[tuple[int, ...], str]:
        """The sizes of a batch for which it may be another function, and what these do not show."""
        return telling_sizes(self._inside, self.inputs, self._lent, values, rows)

    def normalisations(self) -> dict[str, dict[str, Any]]:
        """The result of each LRN node -> its numbers, as our `LRN` calls them."""
        found = dict[str, dict[str, Any]]()
        for node in self._inside.graph.node:
            if operator_of(node) == "LRN":
                said = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
                found[node.output[0]] = {
                    "size": int(said.get("size", 0)),
                    "alpha": float(said.get("alpha", 1e-4)),
                    "beta": float(said.get("beta", 0.75)),
                    "k": float(said.get("bias", 1.0)),
                }
        return found

    def opened(self, *, lean: bool = False) -> Runs:
        """What runs the graph as it is, for as many batches as are wanted: its own outputs.

        The results of several batches are one of all samples. An output that NumPy has no numbers for (a sequence,
        text, bfloat16) is an empty array of objects.

        Args:
            lean: without ONNX Runtime's copies of the weights, which pay where a graph runs often.

        Raises:
            ZooError: ONNX Runtime refuses it, now or when it is run.
        """
        session = self._session(self._model, lean=lean)

        def run(batches: Sequence[Mapping[str, Array]], rows: int) -> dict[str, Array]:
            found = _joined([session(batch) for batch in batches], batches, rows)
            return {name: found.get(name, np.empty(0, object)) for name in self.outputs}

        return run

    def every_result(
        self, batches: Sequence[Mapping[str, Array]], rows: int, count: int | None = None
    ) -> dict[str, Array]:
        """Every result of the nodes; of the first `count` nodes alone, if given."""
        model = self._emptied()
        model.graph.node.extend(self._inside.graph.node[:count])
        model.graph.input.extend(self._inputs)
        made = [name for node in model.graph.node for name in node.output if name]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
        session = self._session(model, lean=True)
        return _joined([session(batch) for batch in batches], batches, rows)

    def apart(self, pieces: Sequence[Piece], fed: Mapping[str, Array]) -> list[Array]:
        """What the targets of pieces are, each computed from what it is fed alone.

        Args:
            pieces: their batches may differ in size.
            fed: a batch of the graph's own inputs, for what a piece reads of them besides: their size may matter, their
                numbers must not. So they are loud.

        Raises:
            ZooError: ONNX Runtime refuses one of them.
        """
        model, inputs = self._emptied(), dict[str, Array]()
        rows = max(piece.rows for piece in pieces)
        rows += -rows % (self.batch or rows)
        for i, piece in enumerate(pieces):
            inputs |= self._put(model, piece, fed, f"{self._mark}{i}/", rows)
        model.graph.input.extend(onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in inputs)
        count = rows // (self.batch or rows)
        split = {name: np.split(np.ascontiguousarray(array), count) for name, array in inputs.items()}
        session = self._session(model, lean=True)
        runs = [session({name: parts[i] for name, parts in split.items()}) for i in range(count)]
        if any(len(run) < len(pieces) for run in runs):
            raise ZooError(f"{self.path}: the runtime does not show every piece of it")
        found = zip(*(run.values() for run in runs), strict=True)
        results = [np.concatenate(parts) if parts[0].ndim and count > 1 else parts[0] for parts in found]
        return [
            result[: len(result) * piece.rows // rows] if result.ndim else result
            for result, piece in zip(results, pieces, strict=True)
        ]

    def reads_more(self, fed: Collection[str], target: str) -> bool:
        """Whether a tensor is made of the graph's inputs besides what is `fed`; it may depend on their sizes."""
        nodes, sources = self._between(Piece(reads=dict.fromkeys(fed, np.empty(0)), target=target, rows=1))
        return target in made_of(nodes, sources)

    def _put(self, model: Any, piece: Piece, fed: Mapping[str, Array], prefix: str, rows: int) -> dict[str, Array]:
        """Add a piece to a model, all its names prefixed; returns its inputs, repeated to make so many samples."""
        nodes, sources = self._between(piece)
        stands_for = self._stands_for(piece)
        used = {stands_for(name) for node in nodes for name in reads_of(node)}
        read = {name: loud((piece.rows, *fed[name].shape[1:])) for name in sources}
        read |= {name: array for name, array in piece.reads.items() if name in used}
        made = (name for node in nodes for name in node.output if name)
        names = {name: f"{prefix}{name}" for name in (*made, *read)}
        copies = {name for node in nodes for name in reads_of(node)} - names.keys()
        names |= {name: names[stands_for(name)] for name in copies if stands_for(name) in read}
        model.graph.node.extend(renamed(node, names, f"{prefix}{k}") for k, node in enumerate(nodes))
        model.graph.output.append(onnx.ValueInfoProto(name=names.get(piece.target, piece.target)))
        return {
            names[name]: array
            if rows == piece.rows
            else np.resize(array, (len(array) * rows // piece.rows, *array.shape[1:]))
            for name, array in read.items()
        }

    def _between(self, piece: Piece) -> tuple[list[Any], set[str]]:
        """The nodes that make a piece's target from what it reads, and the graph's own inputs among their sources."""
        stack, found, sources, stands_for = (
            [*{piece.target} - {*piece.reads}],
            set[int](),
            set[str](),
            self._stands_for(piece),
        )
        while stack:
            name = stack.pop()
            at = self._makers.get(name)
            if at is None:
                sources.add(name)
            elif at not in found:
                found.add(at)
                reads = reads_of(self._inside.graph.node[at])
                stack += [name for name in reads if stands_for(name) not in piece.reads]
        return [self._inside.graph.node[at] for at in sorted(found)], sources & {*self.inputs}

    @cached_property
    def _makers(self) -> dict[str, int]:
        """Tensor -> the place of the node that makes it."""
        return {name: at for at, node in enumerate(self._inside.graph.node) for name in node.output}

    def _stands_for(self, piece: Piece) -> Callable[[str], str]:
        """A tensor, or what a piece reads in its place: an exporter may hand a layer one copy, and show another."""
        origins = {self._copied.get(name, name): name for name in reversed([*piece.reads])}
        return lambda name: name if name in piece.reads else origins.get(self._copied.get(name, name), name)

    def _emptied(self) -> Any:
        """The model without nodes, inputs and outputs."""
        model = onnx.ModelProto()
        model.CopyFrom(self._inside)
        del model.graph.node[:], model.graph.input[:], model.graph.output[:], model.graph.value_info[:]
        return model

    def _session(self, model: Any, *, lean: bool) -> onnxruntime.Session:
        read = {name for node in all_nodes(model.graph) for name in node.input}
        read |= {value.name for value in model.graph.output}
        lean = lean and self._runtime is None
        # ONNX Runtime takes no loan of a weight that nothing reads. One that is fed stays where it lies; any other it
        # copies, which pays where a graph runs often.
        lent = {name: array for name, array in self._lent.items() if name in read}
        kept = [
            tensor
            for tensor in self._model.graph.initializer
            if tensor.name in read and not (lean and tensor.name in lent)
        ]
        runnable = onnx.ModelProto()
        runnable.CopyFrom(model)
        del runnable.graph.initializer[:], runnable.graph.input[:]
        runnable.graph.initializer.extend(kept)
        # Old exporters list weights as inputs, too, and those that nothing reads.
        stored = {tensor.name for tensor in self._model.graph.initializer}
        runnable.graph.input.extend(value for value in model.graph.input if value.name not in stored)
        if self._runtime:
            return self._runtime.open_onnx(runnable.SerializeToString(), lent)
        if not lean:
            return onnxruntime.opened(runnable.SerializeToString(), lent)
        infos = (onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n, x in lent.items())
        runnable.graph.input.extend(infos)
        session = onnxruntime.opened(runnable.SerializeToString(), {}, lean=True)
        return lambda batch: session({**batch, **lent})

    def feed(self, arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
        """Canonical batches as the file wants them: its names (see `input_names`), its layout, its batch size.

        The last batch of a fixed size is filled up by repeating its last sample.

        Raises:
            ZooError: another number of inputs, or another shape.
        """
        declared = {value.name: value for value in self._inputs}
        fed = {
            own: self._laid_out(own, _dims(declared[own]), arrays[name])
            for name, own in self.input_names(list(arrays)).items()
        }
        return cut(fed, rows_of(arrays), self.batch)

    def input_names(self, ours: Sequence[str]) -> dict[str, str]:
        """Our input -> the graph's: by name where the names are the same, else by position.

        Raises:
            ZooError: another number of inputs.
        """
        if len(ours) != len(self.inputs):
            raise ZooError(
                f"{self.path} reads {len(self.inputs)} inputs ({', '.join(self.inputs)}), "
                f"the network {len(ours)} ({', '.join(ours)})"
            )
        return {name: name for name in ours} if {*ours} == {*self.inputs} else dict(zip(ours, self.inputs, strict=True))

    def channels_last(self, ours: Mapping[str, Shape]) -> bool:
        """Whether an input is declared N, H, W, C; `ours` are our inputs, C, H, W each."""
        declared = {value.name: _dims(value) for value in self._inputs}
        names = self.input_names(list(ours)).items()
        return any(self._is_last(own, declared[own], (0, *ours[name])) for name, own in names)

    @property
    def batch(self) -> int:
        """The batch size that the file is written for; 0 where it takes any."""
        return max((dims[0] for value in self._inputs if (dims := _dims(value))), default=0)

    @cached_property
    def _turned(self) -> Collection[str]:
        try:
            return turned_inputs(parse(mapped(self.path), self.path.parent))
        except (ValueError, ZooError):  # no network that can be read; it runs all the same
            return ()

    def _is_last(self, name: str, dims: Sequence[int], shape: Sequence[int]) -> bool:
        """Whether an input is N, H, W, C by its sizes, or, where they leave that open, by what the graph does first."""
        return _fits_last(dims, shape) and (not _fits(dims, shape) or name in self._turned)

    def _laid_out(self, name: str, dims: Sequence[int], array: Array) -> Array:
        if self._is_last(name, dims, array.shape):
            return array.transpose(0, 2, 3, 1)
        if _fits(dims, array.shape):
            return array
        wanted = " x ".join(str(size) if size else "?" for size in dims)
        raise ZooError(f"{self.path}: input {name!r} is {wanted}, the network's is {' x '.join(map(str, array.shape))}")


def _fits(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether declared sizes (0: any) are these; the batch's does not count."""
    free = zip(dims[1:], shape[1:], strict=False)
    return len(dims) in (0, len(shape)) and all(not want or want == have for want, have in free)


def _fits_last(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether they are those of N, C, H, W as N, H, W, C."""
    return len(shape) == 4 and _fits(dims, [shape[i] for i in (0, 2, 3, 1)])


def _dims(value: Any) -> list[int]:
    """The sizes that are declared; 0 where one is open, which Paddle writes as -1."""
    return [max(d.dim_value, 0) for d in value.type.tensor_type.shape.dim]


def _say_lent(model: Any, lent: Collection[str]) -> None:
    """Say in the model that the numbers of these initializers are in memory."""
    for tensor in model.graph.initializer:
        if tensor.name in lent:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="in memory")


def rows_of(fed: Mapping[str, Array]) -> int:
    """How many samples a batch is; one, where a network reads nothing."""
    return next(map(len, fed.values()), 1)


def cut(fed: Mapping[str, Array], rows: int, size: int) -> list[dict[str, Array]]:
    """Batches of `size` rows (0: all at once), the last one filled up by repeating its last sample."""
    if not size:
        return [{name: np.ascontiguousarray(array) for name, array in fed.items()}]
    padded = {name: np.concatenate([array, array[-1:].repeat(-rows % size, axis=0)]) for name, array in fed.items()}
    return [
        {name: np.ascontiguousarray(array[i : i + size]) for name, array in padded.items()}
        for i in range(0, rows, size)
    ]


def _joined(parts: Sequence[Mapping[str, Array]], fed: Sequence[Mapping[str, Array]], size: int) -> dict[str, Array]:
    """The results of several batches as one of `size` samples, less what the last batch was filled up with."""
    each, joined = rows_of(fed[0]), dict[str, Array]()
    for name, value in parts[0].items():
        if value.ndim and len(value) and len(value) % each == 0:
            whole = np.concatenate([part[name] for part in parts]) if len(parts) > 1 else value
            joined[name] = whole[: len(whole) * size // (each * len(parts))]
        else:
            joined[name] = value  # no batch axis: a constant of the graph
    return joined
