"""The field numbers of an ONNX file's messages (github.com/onnx/onnx, ``onnx/onnx.proto``), and nodes as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

from zoo.arrays import Array
from zoo.wire.signatures import MODEL_GRAPH

Attribute: TypeAlias = "int | float | str | tuple[int, ...] | Array | Subgraph | None"


class InModel(IntEnum):
    """ModelProto."""

    IR_VERSION, PRODUCER, PRODUCER_VERSION, DOC, GRAPH, OPSET, METADATA = 1, 2, 3, 6, MODEL_GRAPH, 8, 14
    TRAINING, FUNCTION = 20, 25


class InOpset(IntEnum):
    """OperatorSetIdProto."""

    DOMAIN, VERSION = 1, 2


class InPair(IntEnum):
    """StringStringEntryProto."""

    KEY, VALUE = 1, 2


class InGraph(IntEnum):
    """GraphProto."""

    NODE, NAME, INITIALIZER, INPUT, OUTPUT, SPARSE = 1, 2, 5, 11, 12, 15


class InNode(IntEnum):
    """NodeProto."""

    INPUT, OUTPUT, NAME, OP, ATTRIBUTE, DOMAIN = 1, 2, 3, 4, 5, 7


class InAttribute(IntEnum):
    """AttributeProto: a field for each type of value, and which it is."""

    NAME, FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, TYPE = 1, 2, 3, 4, 5, 6, 7, 8, 20


class AttributeType(IntEnum):
    """AttributeProto.AttributeType."""

    FLOAT, INT, STRING, TENSOR, FLOATS, INTS = 1, 2, 3, 4, 6, 7


class InTensor(IntEnum):
    """TensorProto; the typed fields between hold numbers where ``raw_data`` does not."""

    DIMS, DATA_TYPE, SEGMENT, NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 3, 8, 9, 13, 14


class DataType(IntEnum):
    """TensorProto.DataType, of what is written."""

    FLOAT, INT64 = 1, 7


# TensorProto.DataLocation.
EXTERNAL = 1

# The sizes of a tensor; a string is a size left open.
Dimensions: TypeAlias = "tuple[int | str, ...]"


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorType:
    """What a graph says of an input or output: TensorProto.DataType (0: no tensor), and its sizes, if it says them."""

    kind: int
    dimensions: Dimensions | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgraph:
    """A graph inside a node, as it lies in the file; the folder is the file's."""

    data: memoryview
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One operator: what it reads and writes, its attributes, and the domain of its name (empty: ONNX's own)."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    domain: str = ""
