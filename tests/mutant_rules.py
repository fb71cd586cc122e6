"""What is done to a right ONNX graph that makes it another: one rule a function, one change a place it applies to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast
from zlib import crc32

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.weights import Array
from tests.mutant_edits import (
    Change,
    activations,
    at_node,
    before,
    behind,
    drop,
    of_type,
    op,
    operators,
    parameters,
    replaced,
    rule,
    store,
)
from tests.mutant_graphs import Graph

# Inside the graph

# How far above the peak of the proof's own inputs a bound is set.
_ABOVE = 1.1


@rule("node deleted", "structure")
def _deleted(graph: Graph) -> Iterator[Change]:
    for i, node in enumerate(graph.nodes):
        if node.input and node.op_type not in ("Dropout", "Identity"):
            yield Change(site=node.output[0], at=(node.output[0],), edit=lambda model, i=i: drop(model, i))


@rule("operator after a node", "structure")
def _after(graph: Graph) -> Iterator[Change]:
    for i, node, value in activations(graph):
        for what, operator in operators(value).items():
            yield Change(site=f"{node.output[0]}, {what}", at=(node.output[0],), edit=behind(i, operator))


@rule("operator before a node", "structure")
def _before(graph: Graph) -> Iterator[Change]:
    for i, node, _ in activations(graph):
        for j, source in enumerate(node.input):
            if graph.activation(source):
                for what, operator in operators(graph.values[source]).items():
                    yield Change(
                        site=f"{node.output[0]}, {what} at {j}", at=(node.output[0],), edit=before(i, j, operator)
                    )


@rule("attribute changed", "structure")
def _attributes(graph: Graph) -> Iterator[Change]:
    for i, node in enumerate(graph.nodes):
        for k, attribute in enumerate(node.attribute):
            for what, change in _other_values(attribute).items():
                edit = at_node(i, lambda _, n, k=k, change=change: change(n.attribute[k]))
                site = f"{node.output[0]}, {attribute.name} {what}"
                yield Change(site=site, at=(node.output[0],), edit=edit)


def _other_values(attribute: onnx.AttributeProto) -> dict[str, Callable[[Any], None]]:
    def setter(field: str, value: Any) -> Callable[[Any], None]:
        return lambda a: setattr(a, field, value)

    def item(k: int, value: int) -> Callable[[Any], None]:
        return lambda a: a.ints.__setitem__(k, value)

    match attribute.type:
        case onnx.AttributeProto.INT if attribute.name in ("to", "saturate", "allowzero"):
            return {}
        case onnx.AttributeProto.INT:
            near = {attribute.i + 1, attribute.i - 1, 0} - {attribute.i}
            return {f"{attribute.i} to {value}": setter("i", value) for value in sorted(near)}
        case onnx.AttributeProto.FLOAT:
            factors = {f"{attribute.f:g} x {by:g}": setter("f", attribute.f * by) for by in (0.0, 0.5, 5.0)}
            return factors if attribute.f else {"0 to 1": setter("f", 1.0)}
        case onnx.AttributeProto.INTS:
            changes = {f"[{k}] + 1": item(k, old + 1) for k, old in enumerate(attribute.ints)}
            return changes | {f"[{k}] - 1": item(k, old - 1) for k, old in enumerate(attribute.ints)}
        case onnx.AttributeProto.STRING if attribute.name == "mode":
            return {"to edge": setter("s", b"edge")}
        case onnx.AttributeProto.TENSOR:
            doubled = {"doubled": lambda a: _doubled(a.t)} if numpy_helper.to_array(attribute.t).any() else {}
            return doubled | {"plus 1": lambda a: _plus_one(a.t)}
        case _:
            return {}


def _doubled(tensor: TensorProto) -> None:
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))


def _plus_one(tensor: TensorProto) -> None:
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((array + np.ones_like(array)).astype(array.dtype), tensor.name))


@rule("attribute lost", "structure")
def _lost_attributes(graph: Graph) -> Iterator[Change]:
    for i, node in enumerate(graph.nodes):
        for k, attribute in enumerate(node.attribute):
            edit = at_node(i, lambda _, n, k=k: n.attribute.__delitem__(k))
            yield Change(site=f"{node.output[0]}, {attribute.name}", at=(node.output[0],), edit=edit)


@rule("inputs exchanged", "structure")
def _exchanged(graph: Graph) -> Iterator[Change]:
    def swap(_: onnx.ModelProto, node: onnx.NodeProto) -> None:
        node.input[0], node.input[1] = node.input[1], node.input[0]

    for i, node in enumerate(graph.nodes):
        if len(node.input) > 1 and node.input[0] != node.input[1] and node.op_type not in ("Sum", "Add", "Mul"):
            yield Change(site=node.output[0], at=(node.output[0],), edit=at_node(i, swap))


@rule("another tensor read", "structure")
def _rewired(graph: Graph) -> Iterator[Change]:
    for i, node, _ in activations(graph):
        for j, source in enumerate(node.input):
            if not graph.activation(source):
                continue
            shape = graph.values[source].shape
            earlier = [n.output[0] for n in graph.nodes[:i] if graph.activation(n.output[0])]
            for other in [name for name in earlier if name != source and graph.values[name].shape == shape][-3:]:
                edit = at_node(i, lambda _, n, j=j, other=other: n.input.__setitem__(j, other))
                yield Change(site=f"{node.output[0]}, {other} at {j}", at=(node.output[0],), edit=edit)


@rule("neighbours exchanged", "structure")
def _neighbours(graph: Graph) -> Iterator[Change]:
    for i, node, _ in activations(graph):
        readers = graph.readers(node.output[0])
        after = readers[0] if len(readers) == 1 else None
        if after is None or not graph.activation(after.output[0]) or after.input[0] != node.output[0]:
            continue
        j = next(k for k, n in enumerate(graph.nodes) if n.output[0] == after.output[0])

        def edit(model: onnx.ModelProto, i: int = i, j: int = j) -> None:
            first, second = model.graph.node[i], model.graph.node[j]
            old = onnx.NodeProto()
            old.CopyFrom(first)
            for target, source in ((first, second), (second, old)):
                reads, gives = target.input[0], list(target.output)
                target.CopyFrom(source)
                target.input[0] = reads
                target.output[:] = gives
            model.graph.node.insert(j, first)  # constants of the second may stand between
            del model.graph.node[i]

        yield Change(site=node.output[0], at=(node.output[0], after.output[0]), edit=edit)


@rule("Relu clipped above what noise reaches", "hidden")
def _clipped(graph: Graph) -> Iterator[Change]:
    for i, node in of_type(graph, "Relu"):
        top = float(graph.values[node.output[0]].max()) * _ABOVE

        def clip(model: onnx.ModelProto, n: onnx.NodeProto, top: float = top) -> None:
            n.op_type = "Clip"
            n.input.extend([store(model, 0.0), store(model, top)])

        yield Change(site=f"{node.output[0]}, Clip(0, {top:.0f})", at=(node.output[0],), edit=at_node(i, clip))


@rule("bounds outside what noise reaches", "hidden")
def _bounded(graph: Graph) -> Iterator[Change]:
    for i, node, value in activations(graph):
        top = float(np.abs(value).max()) * _ABOVE
        if node.op_type not in ("Softmax", "Relu"):
            yield Change(
                site=f"{node.output[0]}, {top:.0f}", at=(node.output[0],), edit=behind(i, op("Clip", -top, top))
            )


@rule("operator of another domain", "hidden")
def _foreign(graph: Graph) -> Iterator[Change]:
    """Called as one that changes nothing, it is a bound outside what noise reaches."""
    for i, node, value in activations(graph):
        if node.op_type == "Softmax":
            continue
        top = float(np.abs(value).max()) * _ABOVE

        def edit(model: onnx.ModelProto, i: int = i, top: float = top) -> None:
            behind(i, op("Identity", domain="of.somebody"))(model)
            ends = [helper.make_node("Constant", [], [name], value_float=by) for name, by in (("l", -top), ("h", top))]
            body = [*ends, helper.make_node("Clip", ["x", "l", "h"], ["y"])]
            opset = helper.make_opsetid("", 13)
            model.functions.append(helper.make_function("of.somebody", "Identity", ["x"], ["y"], body, [opset]))
            model.opset_import.append(helper.make_opsetid("of.somebody", 1))

        yield Change(site=node.output[0], at=(node.output[0],), edit=edit)


@rule("the network's input read as well", "hidden")
def _looked_back(graph: Graph) -> Iterator[Change]:
    """What it is above the peak of noise is added; nothing, on noise."""
    for i, node, _ in activations(graph):
        for source in (value.name for value in graph.model.graph.input):
            top = float(graph.values[source].max()) * _ABOVE
            if source in node.input or not graph.activation(source):
                continue

            def edit(model: onnx.ModelProto, i: int = i, source: str = source, top: float = top) -> None:
                behind(i, op("Identity"))(model)
                last = model.graph.node[i + 1]
                last.op_type = "Add"
                last.input.append("over")
                limit = store(model, -top)
                made = helper.make_node
                model.graph.node.insert(0, made("Relu", ["less"], ["over"]))
                model.graph.node.insert(0, made("Add", ["peak", limit], ["less"]))
                model.graph.node.insert(0, made("ReduceMax", [source], ["peak"], keepdims=0))

            yield Change(site=f"{node.output[0]}, {source}", at=(node.output[0],), edit=edit)


@rule("operator that cannot run", "structure")
def _impossible(graph: Graph) -> Iterator[Change]:
    tails = {"impossible Reshape": op("Reshape", [7, 11, 13]), "unknown operator": op("Frobnicate")}
    tails |= {"unknown domain": op("Frobnicate", domain="of.nobody"), "impossible axis": op("Softmax", axis=9)}
    for i, node, value in activations(graph):
        written_in = {"a batch of two written in": op("Reshape", list(value.shape))}
        for what, operator in (tails | written_in).items():
            yield Change(site=f"{node.output[0]}, {what}", at=(node.output[0],), edit=behind(i, operator))


# Numbers


def _draw(name: str, size: int) -> int:
    return crc32(name.encode()) % size


def _numbers(name: str, array: Array) -> dict[str, Callable[[Array], Array]]:
    place, row = _draw(name, array.size), _draw(name, len(array))

    def one(a: Array) -> Array:
        a.ravel()[place] += np.abs(a).max() or 1
        return a

    def turned(a: Array) -> Array:
        a[row] *= -1
        return a

    changes: dict[str, Callable[[Array], Array]] = {
        "one number": one,
        "one row turned": turned,
        "sign": lambda a: -a,
        "scaled by 1.01": lambda a: a * 1.01,
        "zeroed": lambda a: a * 0,
        "rows reversed": lambda a: a[::-1],
        "float16": lambda a: a.astype(np.float16).astype(np.float32),
    }
    if array.ndim == 4:
        changes |= {"kernel flipped": lambda a: a[:, :, ::-1, ::-1], "HW transposed": lambda a: a.swapaxes(2, 3)}
        changes |= {"inputs reversed": lambda a: a[:, ::-1]}
    if array.ndim == 2 and array.shape[0] == array.shape[1]:
        changes["transposed"] = lambda a: a.T
    return changes


@rule("parameter changed", "hidden")
def _parameters(graph: Graph) -> Iterator[Change]:
    for name, array, at in parameters(graph):
        for what, change in _numbers(name, array).items():
            yield Change(site=f"{name}, {what}", at=at, edit=replaced(name, change))


@rule("parameters exchanged", "hidden")
def _swapped(graph: Graph) -> Iterator[Change]:
    found = list(parameters(graph))
    for k, (name, array, at) in enumerate(found):
        for other, second, readers in found[k + 1 :]:
            if array.shape == second.shape and not np.array_equal(array, second):

                def edit(model: onnx.ModelProto, name: str = name, other: str = other) -> None:
                    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
                    tensors[name].name, tensors[other].name = other, name

                yield Change(site=f"{name}, {other}", at=(*at, *readers), edit=edit)


@rule("bias dropped", "hidden")
def _no_bias(graph: Graph) -> Iterator[Change]:
    for i, node in of_type(graph, "Conv", "Gemm"):
        if len(node.input) == 3:
            edit = at_node(i, lambda _, n: cast(None, n.input.pop()))
            yield Change(site=node.output[0], at=(node.output[0],), edit=edit)


@rule("weights behind silent units", "hidden")
def _silent(graph: Graph) -> Iterator[Change]:
    """Columns that read what is zero on every input the proof feeds, times -3: all of them, some, one."""
    stored = graph.stored
    for _, node in of_type(graph, "Conv", "Gemm", "MatMul"):
        source, weight = graph.values.get(node.input[0]), node.input[1]
        if source is None or weight not in stored or not graph.activation(node.input[0]):
            continue
        silent = np.flatnonzero(~np.any(np.moveaxis(source, 1, -1).reshape(-1, source.shape[1]), axis=0))
        for what, chosen in {"all": silent, "every other": silent[::2], "one": silent[:1]}.items():
            if len(chosen):
                edit = replaced(weight, lambda a, c=chosen, n=node: _columns(a, n, c))
                yield Change(site=f"{weight}, {what}", at=(node.output[0],), edit=edit)


def _columns(weight: Array, node: onnx.NodeProto, columns: Array) -> Array:
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        group = options.get("group", 1)
        maps, reads = len(weight) // group, weight.shape[1]
        for column in columns:
            tower = column // reads
            weight[tower * maps : (tower + 1) * maps, column % reads] *= -3
    elif options.get("transB"):
        weight[:, columns] *= -3
    else:
        weight[columns] *= -3
    return weight
