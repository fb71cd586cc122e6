"""Nodes of ONNX graphs, parsed by the onnx package: what they do, read and hold, graphs inside them included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from onnx import numpy_helper
from onnx.inliner import inline_local_functions

_OWN_DOMAINS = ("", "ai.onnx")

_BY_CHANCE = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}


def written_out(model: Any) -> Any:
    """A model whose functions stand where they are called, but for those of another opset, which stay as they are.

    One that is called as an operator of ONNX's own is left out: it is not what ONNX Runtime runs.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.functions[:]
    copy.functions.extend(item for item in model.functions if item.domain not in _OWN_DOMAINS)
    return inline_local_functions(copy)


def copied(model: Any) -> dict[str, str]:
    """Tensor -> the one that it is a copy of: by Identity, or by a Cast to the type it has."""
    kinds, origins = _types(model), dict[str, str]()
    for node in (node for node in model.graph.node if len(node.input) == len(node.output) == 1):
        source, wanted = str(node.input[0]), [item.i for item in node.attribute if item.name == "to"]
        casts = operator_of(node) == "Cast" and kinds.get(source) in wanted
        if casts or operator_of(node) == "Identity":
            origins[str(node.output[0])] = origins.get(source, source)
    return origins


def _types(model: Any) -> dict[str, int]:
    """Tensor -> the type of its numbers, as far as that is known; asked where a node casts."""
    if all(node.op_type != "Cast" for node in model.graph.node):
        return {}
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:  # what is wrong with it shows when it is run
        return {}
    return {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.value_info, *graph.output)}


def stored_in(graph: Any) -> dict[str, Any]:
    """The tensors that a graph and the graphs inside its nodes hold, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if operator_of(node) == "Constant":
            found |= [(node.output[0], item.t) for item in node.attribute if item.name == "value"]
        for body in bodies(node):
            found |= stored_in(body)
    return found


def draws(node: Any, stored: Mapping[str, Any]) -> bool:
    """Whether a node's result is a matter of chance: also a Dropout that is not known to be off."""
    if operator_of(node) != "Dropout":
        return operator_of(node) in _BY_CHANCE
    ratio, training = (node.input[i] if i < len(node.input) else "" for i in (1, 2))
    numbers = [numpy_helper.to_array(stored[name]) if name in stored else None for name in (ratio, training)]
    is_off = not training or (numbers[1] is not None and not numbers[1].any())
    drops_none = numbers[0] is not None and not numbers[0].any()
    return not (is_off or drops_none)


def chosen(nodes: Iterable[Any], fed: set[str]) -> str | None:
    """The first operator that runs other nodes for other numbers; `fed` are tensors that hold such, and get more."""
    for node in nodes:
        operator = operator_of(node)
        if fed.isdisjoint(reads_of(node)) or operator in ("Shape", "Size"):
            continue
        fed.update(node.output)
        decides = {"If": 1, "Loop": 2}.get(operator, 0)
        if not fed.isdisjoint(node.input[:decides]):
            return operator
        for body in bodies(node):
            inner = fed | {value.name for value in body.input[decides:]}
            if found := chosen(body.node, inner):
                return found
            if operator == "Loop" and body.output[0].name in inner:
                return operator
    return None


def operator_of(node: Any) -> str:
    """What a node does; an operator of another domain than ONNX's own is another one, whatever it is called."""
    return node.op_type if node.domain in _OWN_DOMAINS else f"{node.domain}.{node.op_type}"


def all_nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, and of the graphs inside them."""
    for node in graph.node:
        yield node
        for inner in bodies(node):
            yield from all_nodes(inner)


def renamed(node: Any, names: Mapping[str, str], own: str) -> Any:
    """A copy of a node, called `own`, that reads and makes tensors of other names."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = own
    copy.output[:] = [names.get(name, name) for name in node.output]
    for inner in (copy, *(node for graph in bodies(copy) for node in all_nodes(graph))):
        inner.input[:] = [names.get(name, name) for name in inner.input]
    return copy


def bodies(node: Any) -> list[Any]:
    """The graphs inside a node: the branches of an If, the body of a Loop."""
    return [
        graph
        for attribute in node.attribute
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def reads_of(node: Any) -> set[str]:
    """What a node and the graphs inside it read; what these make for themselves is among it, and made by no other."""
    inner = (name for graph in bodies(node) for one in all_nodes(graph) for name in one.input)
    return {name for name in (*node.input, *inner) if name}
