"""An ONNX file taken apart without ``onnx``: nodes and constants as plain data, tensors as views of the file.

Everything raises `ValueError` for damaged bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from zoo.arrays import Array
from zoo.wire.mapped import mapped
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
    TensorType,
)
from zoo.wire.protobuf import FIXED32, VARINT, Value, field_at, fields, integer, message, signed, text, varints

# TensorProto.DataType, as far as NumPy has the type.
_TYPES = {
    1: "<f4",
    2: "u1",
    3: "i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "?",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
}
# The typed field that holds the numbers where raw_data does not, and whether they are varints.
_TYPED = {1: (4, False), 11: (10, False), 6: (5, True), 7: (7, True)}
_PLACES = (4, 5, 7, 10, 11)
_MAX_RANK = 32


@dataclass(kw_only=True)
class Model:
    """A file's graph: `nodes` in an order to run in, `initializers` by name; of `unreadable` ones, the reason.

    `inputs` and `outputs` are in the file's order, initializers among the inputs as old files have them; `opset` is the
    version of ONNX's own operators.
    """

    opset: int = 1  # what a file counts as that does not say it (ONNX's docs/Versioning.md)
    inputs: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    outputs: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    nodes: list[Node] = field(default_factory=list[Node])
    initializers: dict[str, Array] = field(default_factory=dict[str, Array])
    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    producer: str = ""


def parse(data: memoryview, folder: Path) -> Model:
    """The model in a file.

    Args:
        data: the file's bytes.
        folder: where it lies; tensors kept in files of their own must lie there, too.
    """
    _check_places(data, folder)
    model, graphs = Model(), 0
    for number, _, value in fields(data):
        if number == InModel.GRAPH:
            graphs += 1
            _graph(model, _message(value), folder)
        elif number == InModel.METADATA:
            pair = _pair(_message(value))
            model.metadata[pair[0]] = pair[1]
        elif number == InModel.OPSET:
            model.opset = _opset(_message(value)) or model.opset
        elif number in (InModel.PRODUCER, InModel.PRODUCER_VERSION):
            model.producer = f"{model.producer} {bytes(_message(value)).decode(errors='replace')}".strip()
    if graphs != 1:
        raise ValueError(f"an ONNX model has one graph, this file has {graphs}")
    return model


def parse_subgraph(graph: Subgraph) -> Model:
    """The graph inside a node."""
    model = Model()
    _graph(model, graph.data, graph.folder)
    return model


def without_weights(data: memoryview, folder: Path, least: int) -> tuple[bytes, dict[str, Array]]:
    """The model without the numbers of its large weights, and these numbers, as views of the file.

    Args:
        data, folder: as for `parse`.
        least: the bytes from which on a float32 initializer is large; in the model it keeps its name, type and shape.
    """
    lent = dict[str, Array]()

    def emptied(tensor: memoryview) -> bytes:
        name, array = _tensor(tensor, folder)
        if isinstance(array, str) or array.dtype != np.float32 or array.nbytes < least:
            return bytes(tensor)
        lent[name] = array
        sizes = b"".join(integer(InTensor.DIMS, size) for size in array.shape)
        return sizes + integer(InTensor.DATA_TYPE, DataType.FLOAT) + text(InTensor.NAME, name)

    return _edited(data, InModel.GRAPH, lambda graph: _edited(graph, InGraph.INITIALIZER, emptied)), lent


def _edited(data: memoryview, number: int, edit: Callable[[memoryview], bytes]) -> bytes:
    """A message, each field `number` of it edited."""
    parts, start = list[bytes](), 0
    while start < len(data):
        found, _, value, end = field_at(data, start)
        parts.append(message(number, edit(_message(value))) if found == number else bytes(data[start:end]))
        start = end
    return b"".join(parts)


# Which fields of which messages lead to tensors: those of subgraphs and functions, too, which a runtime reads.
_LEADS: dict[str, dict[int, str]] = {
    "model": {InModel.GRAPH: "graph", InModel.TRAINING: "training", InModel.FUNCTION: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {InGraph.NODE: "node", InGraph.INITIALIZER: "tensor", InGraph.SPARSE: "sparse"},
    "node": {InNode.ATTRIBUTE: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def _check_places(data: memoryview, folder: Path) -> None:
    """Refuse a model any tensor of which, wherever it stands and of whatever type, is kept outside the folder."""
    # Fields are followed one by one: a list of those that wait would take a hundred times the bytes of empty ones.
    waiting = [("model", fields(data))]
    while waiting:
        kind, found = waiting[-1]
        for number, _, value in found:
            if kind == "tensor" and number == InTensor.EXTERNAL_DATA:
                key, place = _pair(_message(value))
                if key == "location":
                    _inside(place, folder)
            elif number in _LEADS[kind]:
                waiting.append((_LEADS[kind][number], fields(_message(value))))
                break
        else:
            waiting.pop()


def _inside(location: str, folder: Path) -> Path:
    path = (folder / location).resolve()
    if not location or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"a tensor is kept in {location!r}, outside the folder of the file: refused")
    return path


def _graph(model: Model, data: memoryview, folder: Path) -> None:
    for number, _, value in fields(data):
        if number == InGraph.NODE:
            node = _node(_message(value), folder)
            if not node.outputs:
                raise ValueError(f"{node.op} {node.name!r} has no output")
            model.nodes.append(node)
        elif number == InGraph.INITIALIZER:
            name, array = _tensor(_message(value), folder)
            if name in model.initializers or name in model.unreadable:
                raise ValueError(f"the initializer {name!r} stands twice in the file")
            if isinstance(array, str):
                model.unreadable[name] = array
            else:
                model.initializers[name] = array
        elif number in (InGraph.INPUT, InGraph.OUTPUT):
            name, kind = _value_info(_message(value))
            (model.inputs if number == InGraph.INPUT else model.outputs)[name] = kind
        elif number == InGraph.SPARSE:
            raise ValueError("sparse initializers are not read; export the model with dense weights")
    model.nodes = _in_order(model.nodes)


def _in_order(nodes: list[Node]) -> list[Node]:
    """Each node after those that make what it reads, as runtimes put them; else as in the file, which ONNX has so."""
    made = {tensor: i for i, node in enumerate(nodes) for tensor in node.outputs if tensor}
    order, met = dict[int, Node](), set[int]()
    for i in range(len(nodes)):
        waiting = [i]
        while waiting:
            last = waiting[-1]
            before = sorted({made[tensor] for tensor in nodes[last].inputs if tensor in made} - met - {last})
            met.add(last)
            if before:
                waiting += reversed(before)
            else:
                order[waiting.pop()] = nodes[last]
    return [*order.values()]


# The names of ONNX's own operators are in this domain, or in none (ONNX's docs/IR.md).
_OWN_DOMAINS = ("", "ai.onnx")


def _opset(data: memoryview) -> int:
    """The version of ONNX's own operators; 0 where an entry is of others."""
    domain, version = "", 0
    for number, _, value in fields(data):
        if number == InOpset.DOMAIN:
            domain = _text(value)
        elif number == InOpset.VERSION:
            version = signed(_integer(value))
    return version if domain in _OWN_DOMAINS else 0


def _value_info(data: memoryview) -> tuple[str, TensorType]:
    """An input or output: ValueInfoProto, TypeProto, its tensor type, shape and dimensions, one inside the other."""
    name, kind, dimensions = "", 0, None
    for number, _, value in fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for _, _, tensor in (field for field in fields(_message(value)) if field[0] == 1):
                kind, dimensions = _tensor_type(_message(tensor))
    return name, TensorType(kind=kind, dimensions=dimensions)


def _tensor_type(data: memoryview) -> tuple[int, Dimensions | None]:
    kind, dimensions = 0, None
    for number, _, value in fields(data):
        if number == 1:
            kind = _integer(value)
        elif number == 2:
            parts = [_message(part) for inner, _, part in fields(_message(value)) if inner == 1]
            dimensions = tuple(map(_dimension, parts))
    return kind, dimensions


def _dimension(data: memoryview) -> int | str:
    said: int | str = ""
    for number, _, value in fields(data):
        if number in (1, 2):
            said = signed(_integer(value)) if number == 1 else _text(value)
    return said


def _node(data: memoryview, folder: Path) -> Node:
    inputs, outputs, texts, attributes = list[str](), list[str](), dict[int, str](), dict[str, Attribute]()
    for number, _, value in fields(data):
        if number == InNode.INPUT:
            inputs.append(_text(value))
        elif number == InNode.OUTPUT:
            outputs.append(_text(value))
        elif number in (InNode.NAME, InNode.OP, InNode.DOMAIN):
            texts[number] = _text(value)
        elif number == InNode.ATTRIBUTE:
            name, attribute = _attribute(_message(value), folder)
            attributes[name] = attribute
    name = texts.get(InNode.NAME) or (outputs[0] if outputs else "")
    domain = texts.get(InNode.DOMAIN, "")
    return Node(
        op=texts.get(InNode.OP, ""),
        name=name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        attributes=attributes,
        domain="" if domain in _OWN_DOMAINS else domain,
    )


# What an attribute of a type holds where nothing is written: proto3's writers leave zeros out.
_UNWRITTEN: dict[int, Attribute] = {
    AttributeType.FLOAT: 0.0,
    AttributeType.INT: 0,
    AttributeType.STRING: "",
    AttributeType.FLOATS: np.zeros(0, np.float32),
    AttributeType.INTS: (),
}


def _attribute(data: memoryview, folder: Path) -> tuple[str, Attribute]:
    """An attribute's name and value; None where it is of a type that is not read."""
    name, found, ints, floats, kind = "", None, list[int](), list[memoryview](), 0
    for number, wire_type, value in fields(data):
        if number == InAttribute.NAME:
            name = _text(value)
        elif number == InAttribute.FLOAT and wire_type == FIXED32:
            found = float(np.frombuffer(_message(value), "<f4")[0])
        elif number == InAttribute.INT and wire_type == VARINT:
            found = signed(_integer(value))
        elif number == InAttribute.STRING:
            found = bytes(_message(value)).decode(errors="backslashreplace")  # ONNX lets it hold any bytes
        elif number == InAttribute.TENSOR:
            array = _tensor(_message(value), folder)[1]
            found = None if isinstance(array, str) else array
        elif number == InAttribute.GRAPH:
            found = Subgraph(data=_message(value), folder=folder)
        elif number == InAttribute.FLOATS:
            floats.append(_message(value))
        elif number == InAttribute.INTS:
            ints += [signed(item) for item in varints(value)]
        elif number == InAttribute.TYPE:
            kind = _integer(value)
    if ints:
        return name, tuple(ints)
    if floats:
        return name, _numbers(floats, np.dtype("<f4"))
    return name, _UNWRITTEN.get(kind) if found is None else found


def _tensor(data: memoryview, folder: Path) -> tuple[str, Array | str]:
    """A tensor's name and its array, or the reason why it cannot be had."""
    dims, integers, name = list[int](), dict[int, int](), ""
    payload, external = dict[int, list[Value]](), list[tuple[str, str]]()
    for number, _, value in fields(data):
        if number == InTensor.DIMS:
            dims += [signed(item) for item in varints(value)]
        elif number in (InTensor.DATA_TYPE, InTensor.DATA_LOCATION):
            integers[number] = _integer(value)
        elif number == InTensor.NAME:
            name = _text(value)
        elif number == InTensor.EXTERNAL_DATA:
            external.append(_pair(_message(value)))
        elif number in (InTensor.RAW_DATA, *_PLACES):
            payload.setdefault(number, []).append(value)
        elif number == InTensor.SEGMENT:
            raise ValueError(f"the tensor {name!r} is stored in segments, which no exporter writes")
    shape, kind = tuple(dims), integers.get(InTensor.DATA_TYPE, 0)
    if any(size < 0 for size in shape) or len(shape) > _MAX_RANK:
        raise ValueError(f"the tensor {name!r} has the impossible shape {str(shape)[:60]}")
    if kind not in _TYPES:
        return name, f"has ONNX's data type {kind}, which is not read; expected 1 (float32)"
    dtype = np.dtype(_TYPES[kind])
    if integers.get(InTensor.DATA_LOCATION) == EXTERNAL:
        flat = _numbers([_external(name, dict(external), folder)], dtype)
    elif InTensor.RAW_DATA in payload:
        flat = _numbers([_message(value) for value in payload[InTensor.RAW_DATA]], dtype)
    else:
        flat = _typed(payload, kind, dtype)
    if flat is None:
        return name, f"keeps {dtype.name} in a form that is not read; expected float32"
    if flat.size != prod(shape):
        raise ValueError(f"the tensor {name!r} of shape {shape} holds {flat.size:,} numbers: damaged or cut short")
    return name, flat.reshape(shape) if flat.size else flat


def _typed(payload: Mapping[int, list[Value]], kind: int, dtype: np.dtype[np.generic]) -> Array | None:
    if kind not in _TYPED:
        return None if any(payload.values()) else np.zeros(0, dtype)
    number, is_varint = _TYPED[kind]
    values = payload.get(number, [])
    if not is_varint:
        return _numbers([_message(value) for value in values], dtype)
    return np.array([signed(item) for value in values for item in varints(value)], np.int64).astype(dtype)


def _numbers(parts: list[memoryview], dtype: np.dtype[np.generic]) -> Array:
    """Little-endian numbers, a view where they lie in one piece (packed), joined where each has a field of its own."""
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) % dtype.itemsize:
        raise ValueError(f"{len(data):,} bytes are no whole number of {dtype.name}")
    return np.frombuffer(data, dtype) if len(data) else np.zeros(0, dtype)


def _external(name: str, pairs: Mapping[str, str], folder: Path) -> memoryview:
    path = _inside(pairs.get("location", ""), folder)
    data = mapped(path)
    start = _position(pairs.get("offset", "0"))
    size = _position(pairs["length"]) if "length" in pairs else len(data) - start
    if start > len(data) or size > len(data) - start or size < 0:
        raise ValueError(
            f"the tensor {name!r} lies at byte {start:,} of {path.name}, which has {len(data):,}: cut short"
        )
    return data[start : start + size]


def _position(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{text[:40]!r} is no position in a file")
    return int(text)


def _pair(data: memoryview) -> tuple[str, str]:
    texts = {number: _text(value) for number, _, value in fields(data) if number in (InPair.KEY, InPair.VALUE)}
    return texts.get(InPair.KEY, ""), texts.get(InPair.VALUE, "")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message is due")
    return value


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("a message stands where a number is due")
    return value


def _text(value: Value) -> str:
    return bytes(_message(value)).decode()
