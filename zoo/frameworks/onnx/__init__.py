"""ONNX: a clean graph, one node a layer, made from the spec; run by ONNX Runtime on the CPU.

The graph is written without the ``onnx`` package, and the weights never pass through a protobuf message: they are
streamed into the file, or lent to ONNX Runtime where they lie. ONNX Runtime is imported when something is run.
"""

from zoo.frameworks.onnx.live import Session, forward, opened, run
from zoo.frameworks.onnx.network import graph, write
from zoo.frameworks.onnx.reading import Constants, OnnxNet, RefusalError, open_inputs, read_graph, turned_inputs
from zoo.frameworks.onnx.source import generate
from zoo.wire.onnx import OPSET

# Whose version says whether the framework is there, and the packages that its extra brings.
DISTRIBUTION = "onnxruntime"
PACKAGES = ("onnx", "onnxruntime")

__all__ = [
    "OPSET",
    "Constants",
    "OnnxNet",
    "RefusalError",
    "Session",
    "forward",
    "generate",
    "graph",
    "open_inputs",
    "opened",
    "read_graph",
    "run",
    "turned_inputs",
    "write",
]
