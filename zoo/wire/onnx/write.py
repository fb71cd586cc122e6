"""An ONNX model as plain data, and its bytes: weights are streamed into the file, never gathered in one message.

Writing needs no
``onnx`` package, whose import and messages would cost a conversion more time and memory than the conversion itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from zoo.arrays import Array
from zoo.errors import UnsupportedError
from zoo.layers import Shape
from zoo.wire.onnx.schema import (
    EXTERNAL,
    Attribute,
    AttributeType,
    DataType,
    Dimensions,
    InAttribute,
    InGraph,
    InModel,
    InNode,
    InOpset,
    InPair,
    InTensor,
    Node,
    Subgraph,
)
from zoo.wire.protobuf import BYTES, FIXED32, integer, message, tag, text, varint

# Operator set -> the oldest file format ("IR version") that admits it (ONNX's docs/Versioning.md).
IR_VERSIONS = {
    **{7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10},
    **{23: 11, 24: 12, 25: 13, 26: 13, 27: 13, 28: 14},
}
# Before this file format every initializer had to be an input as well (ONNX's docs/IR.md).
_APART = 4
# 17 is read by every runtime since ONNX Runtime 1.12 and TensorRT 8.5; no layer needs anything newer.
OPSET = 17

# Protobuf refuses to read a message of 2 GiB or more.
MAX_BYTES = (1 << 31) - 1
# Data that begins with a page can be mapped into memory where it lies.
_PAGE = 4096


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
        stored: initializers that are no parameters: whole numbers, which operator sets before 9 have no Constant for,
            and kernels, which some readers look for nowhere else.
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
    stored: Mapping[str, Array] = field(default_factory=dict[str, Array])


def chunks(graph: Graph, tensors: Mapping[str, Array] | None, beside: str = "") -> Iterator[bytes | memoryview]:
    """The bytes of the file, in pieces: a weight is handed out as a view, not copied.

    Args:
        graph: the model.
        tensors: initializer -> float32 array; None leaves the data out, to be handed to the runtime in memory.
        beside: or to be found in the file of this name in the same folder (`data_chunks`).

    Raises:
        UnsupportedError: the file would reach 2 GiB, the limit of protobuf.
    """
    heads = {name: _tensor_head(name, shape, DataType.FLOAT) for name, shape in graph.parameters.items()}
    places = _places(graph) if beside else {}
    tails = {
        name: _external(beside, places.get(name)) if tensors is None else _raw_head(shape)
        for name, shape in graph.parameters.items()
    }
    payload = {name: 0 if tensors is None else 4 * prod(shape) for name, shape in graph.parameters.items()}
    sizes = {name: len(heads[name]) + len(tails[name]) + payload[name] for name in graph.parameters}
    before = b"".join(message(InGraph.NODE, _node(node)) for node in graph.nodes) + text(InGraph.NAME, graph.name)
    before += b"".join(message(InGraph.INITIALIZER, _tensor(name, array)) for name, array in graph.stored.items())
    after = _declarations(graph)
    size = len(before) + len(after) + sum(len(tag(InGraph.INITIALIZER, BYTES) + varint(n)) + n for n in sizes.values())
    if size + sum(map(len, graph.metadata.values())) > MAX_BYTES - (1 << 16):
        raise UnsupportedError(
            f"{graph.name}: {size:,} bytes do not fit into one ONNX file, which must stay under 2 GiB"
        )
    yield integer(InModel.IR_VERSION, IR_VERSIONS[graph.opset]) + text(InModel.PRODUCER, "alexnet-zoo")
    yield text(InModel.DOC, graph.title)
    yield tag(InModel.GRAPH, BYTES) + varint(size) + before
    for name in graph.parameters:
        yield tag(InGraph.INITIALIZER, BYTES) + varint(sizes[name]) + heads[name] + tails[name]
        if tensors is not None:
            yield _data(tensors[name])
    yield after + message(InModel.OPSET, text(InOpset.DOMAIN, "") + integer(InOpset.VERSION, graph.opset))
    for key, value in graph.metadata.items():
        yield message(InModel.METADATA, text(InPair.KEY, key) + text(InPair.VALUE, value))


def _declarations(graph: Graph) -> bytes:
    """What the graph says of its inputs and outputs; weights are inputs as well in the old versions of the format."""
    inputs = [_value(name, dims) for name, dims in graph.inputs.items()]
    if IR_VERSIONS[graph.opset] < _APART:
        inputs += [_value(name, shape) for name, shape in graph.parameters.items()]
        inputs += [_value(name, array.shape, _kind(array)) for name, array in graph.stored.items()]
    outputs = [_value(name, dims) for name, dims in graph.outputs.items()]
    return b"".join([message(InGraph.INPUT, one) for one in inputs] + [message(InGraph.OUTPUT, one) for one in outputs])


def data_chunks(graph: Graph, tensors: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """The bytes of the file beside a graph that holds its weights, each at the start of a page."""
    end = 0
    for name, (start, length) in _places(graph).items():
        yield bytes(start - end)
        yield _data(tensors[name])
        end = start + length


def _places(graph: Graph) -> dict[str, tuple[int, int]]:
    """Initializer -> its first byte in the file beside, and how many there are."""
    places, end = dict[str, tuple[int, int]](), 0
    for name, shape in graph.parameters.items():
        places[name] = end + -end % _PAGE, 4 * prod(shape)
        end = sum(places[name])
    return places


def _data(tensor: Array) -> memoryview:
    return np.ascontiguousarray(tensor, "<f4").reshape(-1).view(np.uint8).data


def _node(node: Node) -> bytes:
    return b"".join(
        [
            *(text(InNode.INPUT, name) for name in node.inputs),
            *(text(InNode.OUTPUT, name) for name in node.outputs),
            text(InNode.NAME, node.name),
            text(InNode.OP, node.op),
            *(
                message(InNode.ATTRIBUTE, text(InAttribute.NAME, name) + _attribute(value))
                for name, value in node.attributes.items()
            ),
        ]
    )


def _attribute(value: Attribute) -> bytes:
    match value:
        case float():
            return tag(InAttribute.FLOAT, FIXED32) + np.float32(value).tobytes() + _type(AttributeType.FLOAT)
        case int():
            return integer(InAttribute.INT, value) + _type(AttributeType.INT)
        case tuple():
            return b"".join(integer(InAttribute.INTS, item) for item in value) + _type(AttributeType.INTS)
        case str():
            return text(InAttribute.STRING, value) + _type(AttributeType.STRING)
        case None | Subgraph():
            raise ValueError("an attribute of a type that is not written")
        case _:
            return message(InAttribute.TENSOR, _tensor("", value)) + _type(AttributeType.TENSOR)


def _type(kind: AttributeType) -> bytes:
    return integer(InAttribute.TYPE, kind)


def _tensor_head(name: str, shape: Shape, kind: int) -> bytes:
    return (
        b"".join(integer(InTensor.DIMS, size) for size in shape)
        + integer(InTensor.DATA_TYPE, kind)
        + (text(InTensor.NAME, name) if name else b"")
    )


def _kind(array: Array) -> DataType:
    return DataType.INT64 if array.dtype.kind == "i" else DataType.FLOAT


def _tensor(name: str, array: Array) -> bytes:
    data = array.astype("<i8" if array.dtype.kind == "i" else "<f4").tobytes()
    return _tensor_head(name, array.shape, _kind(array)) + message(InTensor.RAW_DATA, data)


def _raw_head(shape: Shape) -> bytes:
    return tag(InTensor.RAW_DATA, BYTES) + varint(4 * prod(shape))


def _external(beside: str, place: tuple[int, int] | None) -> bytes:
    told = {"location": beside or "in memory"}
    if place:
        told |= {"offset": str(place[0]), "length": str(place[1])}
    pairs = (text(InPair.KEY, key) + text(InPair.VALUE, value) for key, value in told.items())
    said = b"".join(message(InTensor.EXTERNAL_DATA, pair) for pair in pairs)
    return said + integer(InTensor.DATA_LOCATION, EXTERNAL)


def _value(name: str, dimensions: Dimensions, kind: DataType = DataType.FLOAT) -> bytes:
    # ValueInfoProto, TypeProto, its tensor type, shape and dimensions, one inside the other.
    shape = b"".join(message(1, integer(1, size) if isinstance(size, int) else text(2, size)) for size in dimensions)
    return text(1, name) + message(2, message(1, integer(1, kind) + message(2, shape)))
