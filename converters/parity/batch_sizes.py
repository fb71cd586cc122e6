"""At which batch sizes a graph may be another function than at those it was run for.

What a graph makes of sizes alone (a shape to reshape to, a factor) is made by itself for every batch size, which costs
next to nothing. Where a number of it leaves the straight line that it follows from one size to the next, the graph
is to be run. One that counts its items in another way, by a sum over them say, is to be run for several sizes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from converters.parity.onnx_nodes import draws, operator_of, reads_of, stored_in
from converters.weights import Array
from zoo.errors import ZooError
from zoo.frameworks import onnx as onnxruntime
from zoo.layers import Shape

# The sizes looked at; and so many of those that stand out are run.
_SIZES, _RUN = range(1, 129), 2

# What is run where the items may be counted.
_SEVERAL = tuple(range(4, 17))
_UNTRIED = f"batches of more than {_SEVERAL[-1]} were not tried"

# So many numbers of a tensor are followed.
_FOLLOWED = 64


def telling_sizes(
    model: Any, inputs: Collection[str], lent: Collection[str], values: Mapping[str, Array], rows: int
) -> tuple[tuple[int, ...], str]:
    """Batch sizes for which the graph must be run as well, and what that does not show.

    Args:
        model: the graph, functions written out.
        inputs: what it is fed.
        lent: initializers whose numbers are not in it.
        values: tensor -> what it is in a batch of `rows`, as far as it is known.
        rows: 2 or more.
    """
    fed = made_of(model.graph.node, {*inputs})
    shown = {name: value.shape for name, value in values.items() if name in fed}
    together = next((name for name, shape in shown.items() if not shape or shape[0] % rows), None)
    if together is not None:
        return _SEVERAL, f"{together} is made of all items of a batch; {_UNTRIED}"
    sources = [node for node in _sizes(model.graph.node) if node.input[0] in shown]
    nodes, seen = _of_sizes(model, {node.output[0] for node in sources}, fed, lent)
    if not seen:
        return (), ""
    try:
        lines = [*_followed(model, nodes, seen, sources, shown, rows)]
    except ZooError:
        return _SEVERAL, f"it works on the size of a batch; {_UNTRIED}"
    longest = max(map(len, lines))
    numbers = np.array([np.pad(line, (0, longest - len(line))) for line in lines])
    step = numbers[2] - numbers[1]
    straight = numbers[1] + np.subtract.outer(_SIZES, 2)[:, None] * step
    off = np.flatnonzero(~np.isclose(numbers, straight, rtol=1e-5, atol=1e-6).all(axis=1))
    return tuple(_SIZES[i] for i in off if _SIZES[i] > rows + 1)[:_RUN], ""


def _sizes(nodes: Sequence[Any]) -> Iterator[Any]:
    return (node for node in nodes if operator_of(node) in ("Shape", "Size"))


def made_of(nodes: Sequence[Any], found: set[str]) -> set[str]:
    """The tensors whose numbers are made of others' numbers, these among them; their sizes do not count."""
    for node in nodes:
        if operator_of(node) not in ("Shape", "Size") and not found.isdisjoint(reads_of(node)):
            found.update(filter(None, node.output))
    return found


def _of_sizes(
    model: Any, known: set[str], fed: Collection[str], lent: Collection[str]
) -> tuple[list[Any], dict[str, None]]:
    """The nodes that work on sizes and constants alone, and the tensors of theirs that others read."""
    stored = stored_in(model.graph)
    still, nodes, seen = {*stored} - {*lent}, list[Any](), dict[str, None]()
    for node in model.graph.node:
        reads = reads_of(node)
        if node.output[0] in known:
            continue
        if reads <= still | known and not draws(node, stored):
            nodes.append(node)
            (still if known.isdisjoint(reads) else known).update(node.output)
        else:
            seen |= dict.fromkeys(name for name in node.input if name in known)
    seen |= dict.fromkeys(value.name for value in model.graph.output if value.name in known)
    return nodes, seen


def _followed(
    model: Any,
    nodes: Sequence[Any],
    seen: Collection[str],
    sources: Sequence[Any],
    shapes: Mapping[str, Shape],
    rows: int,
) -> Iterator[Array]:
    """For each batch size, the first numbers of what is `seen`."""
    small = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    small.graph.name = "sizes"
    read = {name for node in nodes for name in reads_of(node)}
    small.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    small.graph.input.extend(onnx.helper.make_tensor_value_info(n.output[0], TensorProto.INT64, None) for n in sources)
    small.graph.node.extend(nodes)
    small.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen)
    session = onnxruntime.opened(small.SerializeToString(), {}, lean=True)
    for size in _SIZES:
        sizes = {node.output[0]: _size_of(node, shapes[node.input[0]], rows, size) for node in sources}
        found = [np.asarray(value) for value in session(sizes).values()]
        numbers = [value.ravel()[:_FOLLOWED].astype(np.float64) for value in found if value.dtype.kind in "biuf"]
        yield np.concatenate([*(np.array(value.shape, float) for value in found), *numbers])


def _size_of(node: Any, shape: Shape, rows: int, size: int) -> Array:
    """What a Shape or a Size gives for a batch of another size."""
    sizes = [shape[0] * size // rows, *shape[1:]]
    if operator_of(node) == "Size":
        return np.array(prod(sizes))
    said = {item.name: item.i for item in node.attribute}
    return np.array(sizes[said.get("start", 0) : said.get("end")], np.int64)
