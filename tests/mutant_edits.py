"""Rules that change ONNX graphs, and the edits that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from converters.weights import Array
from tests.mutant_graphs import Graph

Edit: TypeAlias = Callable[[onnx.ModelProto], None]

# equal: the function is the same by construction. structure: what cannot be told from the right graph by its answers is
# the same. hidden: not even then, since what differs may be out of reach of all inputs tried. names: what is declared.
Kind: TypeAlias = Literal["equal", "structure", "hidden", "names"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One place of one rule.

    Attributes:
        site: what is changed, unique within rule and graph.
        at: first results of the nodes changed; empty for the graph's own outputs and inputs.
        edit: changes a copy of the graph.
    """

    site: str
    at: tuple[str, ...]
    edit: Edit


@dataclass(frozen=True, kw_only=True)
class Rule:
    name: str
    kind: Kind
    changes: Callable[[Graph], Iterator[Change]]


RULES = dict[str, Rule]()


def rule(name: str, kind: Kind) -> Callable[[Callable[[Graph], Iterator[Change]]], Callable[..., Iterator[Change]]]:
    def add(changes: Callable[[Graph], Iterator[Change]]) -> Callable[..., Iterator[Change]]:
        RULES[name] = Rule(name=name, kind=kind, changes=changes)
        return changes

    return add


# Editing


def store(model: onnx.ModelProto, array: Any, dtype: Any = np.float32) -> str:
    """A new initializer."""
    name = f"added_{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, dtype), name))
    return name


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of one activation: its type, attributes, and what it reads besides."""

    op: str
    attributes: Mapping[str, Any]
    constants: tuple[Array, ...] = ()

    def node(self, model: onnx.ModelProto, source: str, result: str) -> onnx.NodeProto:
        reads = [source, *(store(model, array, array.dtype) for array in self.constants)]
        return helper.make_node(self.op, reads, [result], **self.attributes)


def op(name: str, *constants: Any, **attributes: Any) -> Operator:
    arrays = tuple(np.asarray(c, np.int64 if np.asarray(c).dtype.kind == "i" else np.float32) for c in constants)
    return Operator(op=name, attributes=attributes, constants=arrays)


def behind(i: int, *operators: Operator) -> Edit:
    """Operators between node `i` and all that read its result, whose name the last of them takes over."""

    def edit(model: onnx.ModelProto) -> None:
        node, at = model.graph.node[i], i + 1
        result = node.output[0]
        node.output[0] = source = f"{result}_before"
        for k, operator in enumerate(operators):
            last = k == len(operators) - 1
            made = operator.node(model, source, result if last else f"{source}{k}")
            model.graph.node.insert(at + k, made)
            source = made.output[0]

    return edit


def before(i: int, j: int, operator: Operator) -> Edit:
    """An operator on what node `i` reads as its input `j`; others go on reading it as it was."""

    def edit(model: onnx.ModelProto) -> None:
        node = model.graph.node[i]
        made = operator.node(model, node.input[j], f"{node.input[j]}_into_{i}")
        node.input[j] = made.output[0]
        model.graph.node.insert(i, made)

    return edit


def drop(model: onnx.ModelProto, i: int) -> None:
    """Take node `i` out: what it reads first is passed on; a declared output keeps its name."""
    node = model.graph.node[i]
    source, result = node.input[0], node.output[0]
    del model.graph.node[i]
    if result in {value.name for value in model.graph.output}:
        maker = next((n for n in model.graph.node if source in n.output), None)
        if maker is None or source in {value.name for value in model.graph.output}:
            model.graph.node.append(helper.make_node("Identity", [source], [result]))
            return
        maker.output[list(maker.output).index(source)] = result
        source, result = result, source
    for other in model.graph.node:
        other.input[:] = [source if name == result else name for name in other.input]


def replaced(name: str, change: Callable[[Array], Array]) -> Edit:
    """An initializer with other numbers."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        array = change(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))

    return edit


def at_node(i: int, change: Callable[[onnx.ModelProto, onnx.NodeProto], None]) -> Edit:
    return lambda model: change(model, model.graph.node[i])


# Sites


def activations(graph: Graph) -> Iterator[tuple[int, onnx.NodeProto, Array]]:
    """Nodes that give an activation, and it."""
    for i, node in enumerate(graph.nodes):
        if graph.activation(node.output[0]):
            yield i, node, graph.values[node.output[0]]


def of_type(graph: Graph, *types: str) -> Iterator[tuple[int, onnx.NodeProto]]:
    return ((i, node) for i, node in enumerate(graph.nodes) if node.op_type in types)


def parameters(graph: Graph) -> Iterator[tuple[str, Array, tuple[str, ...]]]:
    """Float initializers of more than one number, and the first results of their readers."""
    for name, array in graph.stored.items():
        at = tuple(node.output[0] for node in graph.readers(name))
        if array.dtype == np.float32 and array.size > 1 and at:
            yield name, array, at


def operators(value: Array) -> dict[str, Operator]:
    """What may stand where an activation like this flows."""
    found = {
        "Neg": op("Neg"),
        "Mul 2": op("Mul", 2.0),
        "Add 1": op("Add", 1.0),
        "Relu": op("Relu"),
        "Sigmoid": op("Sigmoid"),
        "Tanh": op("Tanh"),
        "Abs": op("Abs"),
        "LeakyRelu": op("LeakyRelu", alpha=0.1),
        "reversed channels": op("Gather", list(range(value.shape[1]))[::-1], axis=1),
        "rolled channels": op("Gather", [*range(1, value.shape[1]), 0], axis=1),
    }
    if value.ndim == 4:
        found["transposed HW"] = op("Transpose", perm=[0, 1, 3, 2])
        found["flipped rows"] = op("Gather", list(range(value.shape[2]))[::-1], axis=2)
    return found
