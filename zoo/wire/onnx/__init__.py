"""An ONNX file as plain data, read and written without the ``onnx`` package."""

from zoo.wire.onnx.read import Model, parse
from zoo.wire.onnx.schema import Attribute, Node
from zoo.wire.onnx.write import IR_VERSIONS, OPSET, Graph, chunks

__all__ = ["IR_VERSIONS", "OPSET", "Attribute", "Graph", "Model", "Node", "chunks", "parse"]
