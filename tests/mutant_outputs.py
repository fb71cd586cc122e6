"""What is done to the ends of a right ONNX graph: to what it declares, reads and answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from converters.weights import Array
from tests.mutant_edits import Change, Edit, Operator, behind, drop, op, operators, rule
from tests.mutant_graphs import Graph, rename


def tails(value: Array) -> dict[str, Operator]:
    """What may follow an answer like this."""
    found = operators(value) | {
        "Softmax": op("Softmax", axis=1),
        "LogSoftmax": op("LogSoftmax", axis=1),
        "Softmax over the batch": op("Softmax", axis=0),
        "Log": op("Log"),
        "Exp": op("Exp"),
        "Sqrt": op("Sqrt"),
        "ArgMax": op("ArgMax", axis=1),
        "Mul -1": op("Mul", -1.0),
        "Mul 1.001": op("Mul", 1.001),
        "two classes exchanged": op("Gather", [1, 0, *range(2, value.shape[1])], axis=1),
        "one class lost": op("Gather", [*range(value.shape[1] - 1)], axis=1),
        "classes in one row": op("Reshape", [-1]),
        "an axis more": op("Unsqueeze", [1]),
        "the first sample alone": op("Gather", [0], axis=0),
        "samples reversed": op("Gather", [1, 0], axis=0),
        "float64": op("Cast", to=TensorProto.DOUBLE),
        "float16": op("Cast", to=TensorProto.FLOAT16),
        "whole numbers": op("Cast", to=TensorProto.INT64),
    }
    return {what: operator for what, operator in found.items() if what not in ("Abs", "Relu")}


def _type_of(operator: Operator) -> int:
    if operator.op == "ArgMax":
        return TensorProto.INT64
    return operator.attributes.get("to", TensorProto.FLOAT)


def _declare(model: onnx.ModelProto, k: int, name: str, dtype: int = TensorProto.FLOAT) -> None:
    """Make `name` the output at place `k`, of no stated shape."""
    model.graph.output[k].CopyFrom(helper.make_tensor_value_info(name, dtype, None))


def _answers(graph: Graph) -> Iterator[tuple[int, int, str]]:
    """Place among the outputs, place of the node that makes it, name."""
    places = {node.output[0]: i for i, node in enumerate(graph.nodes)}
    for k, value in enumerate(graph.model.graph.output):
        yield k, places[value.name], value.name


@rule("appended behind the answer and declared", "structure")
def _appended(graph: Graph) -> Iterator[Change]:
    for k, _, name in _answers(graph):
        for what, operator in tails(graph.values[name]).items():

            def edit(model: onnx.ModelProto, k: int = k, name: str = name, operator: Operator = operator) -> None:
                model.graph.node.append(operator.node(model, name, "answer"))
                _declare(model, k, "answer", _type_of(operator))

            yield Change(site=f"{name}, {what}", at=(), edit=edit)


@rule("bounds behind the answer, declared", "hidden")
def _bounded_answer(graph: Graph) -> Iterator[Change]:
    for k, _, name in _answers(graph):
        if name in graph.logits:
            continue
        top = float(np.abs(graph.values[name]).max()) * 1.1

        def edit(model: onnx.ModelProto, k: int = k, name: str = name, top: float = top) -> None:
            model.graph.node.append(op("Clip", -top, top).node(model, name, "answer"))
            _declare(model, k, "answer")

        yield Change(site=name, at=(), edit=edit)


@rule("at the answer, its name kept", "structure")
def _at_the_answer(graph: Graph) -> Iterator[Change]:
    for k, i, name in _answers(graph):
        for what, operator in tails(graph.values[name]).items():

            def edit(model: onnx.ModelProto, k: int = k, i: int = i, operator: Operator = operator) -> None:
                behind(i, operator)(model)
                _declare(model, k, model.graph.output[k].name, _type_of(operator))

            yield Change(site=f"{name}, {what}", at=(), edit=edit)


@rule("softmax replaced", "structure")
def _no_softmax(graph: Graph) -> Iterator[Change]:
    for k, i, name in _answers(graph):
        if name not in graph.logits:
            continue
        for what, operator in tails(graph.values[name]).items():
            if what == "Softmax":
                continue

            def edit(model: onnx.ModelProto, k: int = k, i: int = i, operator: Operator = operator) -> None:
                source, result = model.graph.node[i].input[0], model.graph.node[i].output[0]
                model.graph.node[i].CopyFrom(operator.node(model, source, result))
                _declare(model, k, result, _type_of(operator))

            yield Change(site=f"{name}, {what}", at=(), edit=edit)


@rule("it stops at its logits", "structure")
def _logits(graph: Graph) -> Iterator[Change]:
    for k, i, name in _answers(graph):
        if name in graph.logits:
            yield Change(site=f"{name}, its name kept", at=(), edit=lambda model, i=i: drop(model, i))

            def edit(model: onnx.ModelProto, k: int = k, i: int = i, logits: str = graph.logits[name]) -> None:
                del model.graph.node[i]
                _declare(model, k, logits)

            yield Change(site=f"{name}, the logits declared", at=(), edit=edit)


@rule("another tensor declared", "structure")
def _another(graph: Graph) -> Iterator[Change]:
    for k, i, name in _answers(graph):
        for other in (node.output[0] for node in graph.nodes):
            alike = graph.activation(other) and graph.values[other].shape == graph.values[name].shape
            if not alike or other in (name, graph.logits.get(name)):
                continue
            yield Change(site=f"{name}, {other}", at=(), edit=lambda model, k=k, other=other: _declare(model, k, other))

            def edit(model: onnx.ModelProto, i: int = i, name: str = name, other: str = other) -> None:
                model.graph.node[i].output[0] = f"{name}_before"
                model.graph.node.append(helper.make_node("Identity", [other], [name]))

            yield Change(site=f"{name}, {other} under its name", at=(), edit=edit)


@rule("outputs renamed, exchanged, lost or added", "names")
def _declared(graph: Graph) -> Iterator[Change]:
    names = [value.name for value in graph.model.graph.output]
    changes: dict[str, Edit] = {
        f"{name} renamed": lambda model, name=name: rename(model, {name: "renamed"}) for name in names
    }
    if len(names) > 1:
        changes["names exchanged"] = lambda model: rename(model, dict(zip(names, names[::-1], strict=True)))
        changes["order exchanged"] = lambda model: model.graph.output.reverse()
        for k, name in enumerate(names):
            changes[f"{name} lost"] = lambda model, k=k: model.graph.output.__delitem__(k)
    for node in graph.nodes:
        inner = node.output[0]
        if inner not in names and graph.activation(inner):
            changes[f"{inner} added"] = lambda model, inner=inner: model.graph.output.append(
                helper.make_tensor_value_info(inner, TensorProto.FLOAT, None)
            )
    for what, edit in changes.items():
        yield Change(site=what, at=(), edit=edit)


@rule("inputs exchanged or added", "names")
def _inputs(graph: Graph) -> Iterator[Change]:
    names = [value.name for value in graph.model.graph.input]

    def added(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 3]))

    yield Change(site="added", at=(), edit=added)
    if len(names) == 2:
        crossed = dict(zip(names, names[::-1], strict=True))

        def by_name(model: onnx.ModelProto) -> None:
            rename(model, crossed)
            model.graph.input.reverse()

        yield Change(site="names exchanged", at=(), edit=lambda model: rename(model, crossed))
        yield Change(site="read crosswise", at=(), edit=by_name)
