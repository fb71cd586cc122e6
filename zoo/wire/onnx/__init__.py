"""An ONNX file as plain data, read and written without the ``onnx`` package."""

from zoo.wire.onnx.read import Model, parse, parse_subgraph, without_weights
from zoo.wire.onnx.schema import Attribute, Node, Subgraph, TensorType
from zoo.wire.onnx.write import IR_VERSIONS, MAX_BYTES, OPSET, Graph, chunks, data_chunks

__all__ = [
    "IR_VERSIONS",
    "MAX_BYTES",
    "OPSET",
    "Attribute",
    "Graph",
    "Model",
    "Node",
    "Subgraph",
    "TensorType",
    "chunks",
    "data_chunks",
    "parse",
    "parse_subgraph",
    "without_weights",
]
