"""An ONNX model as plain data, and its bytes: weights are streamed into the file, never gathered in one message.

The field numbers are those of ``onnx.proto`` (github.com/onnx/onnx, ``onnx/onnx.proto``). Writing them needs no
``onnx`` package, whose import and messages would cost a conversion more time and memory than the conversion itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from zoo.arrays import Array
from zoo.errors import UnsupportedError
from zoo.layers import Shape
from zoo.wire.protobuf import BYTES, FIXED32, integer, message, tag, text, varint

Attribute: TypeAlias = int | float | str | tuple[int, ...] | Array
Dimensions: TypeAlias = tuple[int | str, ...]

# Operator set -> the oldest file format ("IR version") that admits it (ONNX's docs/Versioning.md).
IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
# 17 is read by every runtime since ONNX Runtime 1.12 and TensorRT 8.5; no layer needs anything newer.
OPSET = 17

# Protobuf refuses to read a message of 2 GiB or more.
_MAX_BYTES = (1 << 31) - 1
_FLOAT, _INT64 = 1, 7
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTS = 1, 2, 3, 4, 7
_EXTERNAL = 1
_RAW_DATA = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One operator, named after its output; `more` are those that follow it."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]
    more: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """A model without its weights.

    Attributes:
        name: the network's name.
        title: what it is, in words.
        opset: the operator set its nodes are written in.
        inputs: name -> dimensions, N, C, H, W; a string is a size left open.
        outputs: likewise.
        nodes: in the order they run.
        parameters: initializer -> shape; all float32, and exactly the canonical parameters of the network.
        metadata: the file's ``metadata_props``.
    """

    name: str
    title: str
    opset: int
    inputs: Mapping[str, Dimensions]
    outputs: Mapping[str, Dimensions]
    nodes: Sequence[Node]
    parameters: Mapping[str, Shape]
    metadata: Mapping[str, str]


def chunks(graph: Graph, tensors: Mapping[str, Array] | None) -> Iterator[bytes | memoryview]:
    """The bytes of the file, in pieces: a weight is handed out as a view, not copied.

    Args:
        graph: the model.
        tensors: initializer -> float32 array; None leaves the data out, to be handed to the runtime in memory.

    Raises:
        UnsupportedError: the file would reach 2 GiB, the limit of protobuf.
    """
    heads = {name: _tensor_head(name, shape, _FLOAT) for name, shape in graph.parameters.items()}
    tails = {name: _external() if tensors is None else _raw_head(shape) for name, shape in graph.parameters.items()}
    payload = {name: 0 if tensors is None else 4 * prod(shape) for name, shape in graph.parameters.items()}
    sizes = {name: len(heads[name]) + len(tails[name]) + payload[name] for name in graph.parameters}
    before = b"".join(message(1, _node(node)) for node in graph.nodes) + text(2, graph.name)
    after = b"".join(message(11, _value(name, dims)) for name, dims in graph.inputs.items())
    after += b"".join(message(12, _value(name, dims)) for name, dims in graph.outputs.items())
    size = len(before) + len(after) + sum(len(tag(5, BYTES) + varint(n)) + n for n in sizes.values())
    if size + sum(map(len, graph.metadata.values())) > _MAX_BYTES - (1 << 16):
        raise UnsupportedError(
            f"{graph.name}: {size:,} bytes do not fit into one ONNX file, which must stay under 2 GiB"
        )
    yield integer(1, IR_VERSIONS[graph.opset]) + text(2, "alexnet-zoo") + text(6, graph.title)
    yield tag(7, BYTES) + varint(size) + before
    for name in graph.parameters:
        yield tag(5, BYTES) + varint(sizes[name]) + heads[name] + tails[name]
        if tensors is not None:
            yield np.ascontiguousarray(tensors[name], "<f4").reshape(-1).view(np.uint8).data
    yield after + message(8, text(1, "") + integer(2, graph.opset))
    for key, value in graph.metadata.items():
        yield message(14, text(1, key) + text(2, value))


def _node(node: Node) -> bytes:
    return b"".join(
        [
            *(text(1, name) for name in node.inputs),
            text(2, node.output),
            *(text(2, name) for name in node.more),
            text(3, node.output),
            text(4, node.op),
            *(message(5, text(1, name) + _attribute(value)) for name, value in node.attributes.items()),
        ]
    )


def _attribute(value: Attribute) -> bytes:
    match value:
        case float():
            return tag(2, FIXED32) + np.float32(value).tobytes() + integer(20, _ATTRIBUTE_FLOAT)
        case int():
            return integer(3, value) + integer(20, _ATTRIBUTE_INT)
        case str():
            return text(4, value) + integer(20, _ATTRIBUTE_STRING)
        case tuple():
            return b"".join(integer(8, item) for item in value) + integer(20, _ATTRIBUTE_INTS)
        case _:
            kind = _INT64 if value.dtype.kind == "i" else _FLOAT
            data = value.astype("<i8" if kind == _INT64 else "<f4").tobytes()
            tensor = _tensor_head("", value.shape, kind) + message(_RAW_DATA, data)
            return message(5, tensor) + integer(20, _ATTRIBUTE_TENSOR)


def _tensor_head(name: str, shape: Shape, kind: int) -> bytes:
    return b"".join(integer(1, size) for size in shape) + integer(2, kind) + (text(8, name) if name else b"")


def _raw_head(shape: Shape) -> bytes:
    return tag(_RAW_DATA, BYTES) + varint(4 * prod(shape))


def _external() -> bytes:
    return message(13, text(1, "location") + text(2, "in memory")) + integer(14, _EXTERNAL)


def _value(name: str, dimensions: Dimensions) -> bytes:
    shape = b"".join(message(1, integer(1, size) if isinstance(size, int) else text(2, size)) for size in dimensions)
    return text(1, name) + message(2, message(1, integer(1, _FLOAT) + message(2, shape)))
