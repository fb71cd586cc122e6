"""What is done to a right ONNX graph that leaves it the same function: other writers' ways of writing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.mutant_edits import Change, Edit, activations, at_node, behind, drop, of_type, op, rule, store
from tests.mutant_graphs import Graph, rename

_Form: TypeAlias = Callable[[onnx.ModelProto, onnx.NodeProto], None]


@rule("as exported", "equal")
def _unchanged(graph: Graph) -> Iterator[Change]:
    yield Change(site="all", at=(), edit=lambda model: None)


@rule("operators that do nothing", "equal")
def _nothing(graph: Graph) -> Iterator[Change]:
    for i, node, value in activations(graph):
        changes = {
            "Identity": (op("Identity"),),
            "Mul 1": (op("Mul", 1.0),),
            "Add 0": (op("Add", 0.0),),
            "Dropout": (op("Dropout"),),
            "Neg twice": (op("Neg"), op("Neg")),
            "float64 and back": (op("Cast", to=TensorProto.DOUBLE), op("Cast", to=TensorProto.FLOAT)),
            "Mul 2, Mul 0.5": (op("Mul", 2.0), op("Mul", 0.5)),
        }
        if value.ndim == 4:
            there, back = op("Transpose", perm=[0, 2, 3, 1]), op("Transpose", perm=[0, 3, 1, 2])
            changes["NHWC and back"] = (there, back)
        if node.op_type == "Relu":
            changes["Relu"] = (op("Relu"),)
        for what, chain in changes.items():
            yield Change(site=f"{node.output[0]}, {what}", at=(node.output[0],), edit=behind(i, *chain))


@rule("Dropout removed", "equal")
def _no_dropout(graph: Graph) -> Iterator[Change]:
    found = [i for i, _ in of_type(graph, "Dropout")]
    for i in found:
        yield Change(site=graph.nodes[i].output[0], at=(), edit=lambda model, i=i: drop(model, i))
    if len(found) > 1:

        def every(model: onnx.ModelProto) -> None:
            for i in reversed(found):
                drop(model, i)

        yield Change(site="all", at=(), edit=every)


@rule("BatchNorm folded into the convolution", "equal")
def _folded(graph: Graph) -> Iterator[Change]:
    for i, node in of_type(graph, "BatchNormalization"):
        conv = next((k for k, n in of_type(graph, "Conv") if n.output[0] == node.input[0]), None)
        if conv is None:
            continue

        def edit(model: onnx.ModelProto, i: int = i, conv: int = conv) -> None:
            norm, target = model.graph.node[i], model.graph.node[conv]
            arrays = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
            for n in model.graph.node:
                if n.op_type == "Constant":
                    arrays[n.output[0]] = numpy_helper.to_array(n.attribute[0].t).astype(np.float64)
            scale, shift, mean, variance = (arrays[name] for name in norm.input[1:5])
            epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
            factor = scale / np.sqrt(variance + epsilon)
            bias = arrays[target.input[2]] if len(target.input) > 2 else 0.0
            weight = arrays[target.input[1]] * factor.reshape(-1, 1, 1, 1)
            reads = [target.input[0], store(model, weight), store(model, (bias - mean) * factor + shift)]
            target.input[:] = reads
            target.output[0] = norm.output[0]
            del model.graph.node[i]

        yield Change(site=node.output[0], at=(node.output[0],), edit=edit)


@rule("another order", "equal")
def _order(graph: Graph) -> Iterator[Change]:
    if len(graph.model.graph.input) > 1:
        yield Change(site="inputs", at=(), edit=lambda model: model.graph.input.reverse())
    order = _last_ready_first(graph)
    if order != list(range(len(order))):

        def nodes(model: onnx.ModelProto) -> None:
            old = list(model.graph.node)
            del model.graph.node[:]
            model.graph.node.extend(old[i] for i in order)

        yield Change(site="nodes", at=(), edit=nodes)
    yield Change(site="initializers", at=(), edit=lambda model: model.graph.initializer.reverse())


def _last_ready_first(graph: Graph) -> list[int]:
    made = {name: i for i, node in enumerate(graph.nodes) for name in node.output}
    order, waiting = list[int](), set(range(len(graph.nodes)))

    def needs(i: int) -> set[int]:
        node = graph.nodes[i]
        inner = [name for a in node.attribute if a.HasField("g") for n in a.g.node for name in n.input]
        return {made[name] for name in (*node.input, *inner) if name in made}

    while waiting:
        ready = [i for i in waiting if not needs(i) & waiting]
        order.append(max(ready))
        waiting.remove(order[-1])
    return order


@rule("names changed", "equal")
def _names(graph: Graph) -> Iterator[Change]:
    kept = {value.name for value in (*graph.model.graph.input, *graph.model.graph.output)}
    results = {n: f"t{i}" for i, node in enumerate(graph.nodes) for n in node.output if n and n not in kept}
    stored = {name: f"w{i}" for i, name in enumerate(graph.stored)}
    yield Change(site="of results", at=(), edit=lambda model: rename(model, results))
    yield Change(site="of initializers", at=(), edit=lambda model: rename(model, stored))
    for name in [node.output[0] for node in graph.nodes if node.output[0] in results]:
        yield Change(site=f"of {name}", at=(), edit=lambda model, name=name: rename(model, {name: "renamed"}))


@rule("initializers written otherwise", "equal")
def _stored(graph: Graph) -> Iterator[Change]:
    def constants(names: list[str]) -> Edit:
        def edit(model: onnx.ModelProto) -> None:
            for tensor in [t for t in model.graph.initializer if t.name in names]:
                made = helper.make_node("Constant", [], [tensor.name], value=tensor)
                model.graph.initializer.remove(tensor)
                model.graph.node.insert(0, made)

        return edit

    def inputs(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    def unused(model: onnx.ModelProto) -> None:
        store(model, [1.0, 2.0])
        model.graph.node.append(helper.make_node("Neg", [model.graph.node[0].output[0]], ["read_by_nobody"]))

    yield Change(site="all as Constant", at=(), edit=constants(list(graph.stored)))
    for name in graph.stored:
        yield Change(site=f"{name} as Constant", at=(), edit=constants([name]))
    yield Change(site="listed as inputs", at=(), edit=inputs)
    yield Change(site="one more, and a node, for nobody", at=(), edit=unused)
    yield Change(site="no metadata", at=(), edit=lambda model: model.metadata_props.__delitem__(slice(None)))


@rule("operators written otherwise", "equal")
def _rewritten(graph: Graph) -> Iterator[Change]:
    for i, node in enumerate(graph.nodes):
        for what, edit in _other_forms(graph, node).items():
            yield Change(site=f"{node.output[0]}, {what}", at=(node.output[0],), edit=at_node(i, edit))


def _other_forms(graph: Graph, node: onnx.NodeProto) -> dict[str, _Form]:
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    value = graph.values.get(node.output[0])
    match node.op_type:
        case "Flatten" if options.get("axis", 1) == 1:
            return {"as Reshape": _as_reshape}
        case "Reshape" if value is not None and graph.activation(node.input[0]) and value.ndim == 2:
            return {"as Flatten": lambda _, n: n.CopyFrom(helper.make_node("Flatten", [n.input[0]], [n.output[0]]))}
        case "Gemm":
            return {"as MatMul and Add": _as_matmul, "its weight transposed": _transposed}
        case "Relu":
            return {"as Clip": _as_clip, "as Max": _as_max}
        case "Conv" if len(node.input) == 3:
            pads = {"its padding as Pad": _as_pad} if any(options.get("pads", ())) else {}
            return {"its bias as Add": _as_add, **pads}
        case "Sum" if len(node.input) == 2:
            return {"as Add": lambda _, n: setattr(n, "op_type", "Add")}
        case "Add" if graph.activation(node.input[0]) and graph.activation(node.input[1]):
            return {"as Sum": lambda _, n: setattr(n, "op_type", "Sum")}
        case _:
            return {}


def _as_reshape(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    shape = store(model, [0, -1], np.int64)
    node.CopyFrom(helper.make_node("Reshape", [node.input[0], shape], [node.output[0]]))


def _as_clip(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    node.op_type = "Clip"
    node.input.append(store(model, 0.0))


def _as_max(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    node.op_type = "Max"
    node.input.append(store(model, 0.0))


def _insert_after(model: onnx.ModelProto, node: onnx.NodeProto, made: onnx.NodeProto) -> None:
    model.graph.node.insert(list(model.graph.node).index(node) + 1, made)


def _as_matmul(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    weight = _of(model, node.input[1])
    stored = store(model, weight.T if _flag(node, "transB") else weight)
    result, product = node.output[0], f"{node.output[0]}_product"
    bias = node.input[2]
    node.CopyFrom(helper.make_node("MatMul", [node.input[0], stored], [product]))
    _insert_after(model, node, helper.make_node("Add", [product, bias], [result]))


def _transposed(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(_of(model, tensor.name).T.copy(), tensor.name))
    was = _flag(node, "transB")
    kept = [a for a in node.attribute if a.name != "transB"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("transB", 1 - was)])


def _as_add(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    bias = store(model, _of(model, node.input[2]).reshape(1, -1, 1, 1))
    result, inner = node.output[0], f"{node.output[0]}_product"
    del node.input[2]
    node.output[0] = inner
    _insert_after(model, node, helper.make_node("Add", [inner, bias], [result]))


def _as_pad(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    attribute = next(a for a in node.attribute if a.name == "pads")
    top, left, bottom, right = attribute.ints
    attribute.ints[:] = [0, 0, 0, 0]
    sizes = store(model, [0, 0, top, left, 0, 0, bottom, right], np.int64)
    padded = f"{node.output[0]}_padded"
    made = helper.make_node("Pad", [node.input[0], sizes], [padded])
    node.input[0] = padded
    model.graph.node.insert(list(model.graph.node).index(node), made)


def _of(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def _flag(node: onnx.NodeProto, name: str) -> int:
    return next((a.i for a in node.attribute if a.name == name), 0)
