"""ONNX graphs read as networks, whoever wrote them; how one is written is beside this folder.

Every tensor is a view of an activation (`walk`): what only moves numbers about is looked through until a layer needs
them in place, so that graphs that compute in N, H, W, C, or take channels apart, become the layers that they mean.
"""

from zoo.frameworks.onnx.reading.folding import Constants
from zoo.frameworks.onnx.reading.graph import OnnxNet, open_inputs, read_graph, turned_inputs
from zoo.frameworks.onnx.reading.op import RefusalError

__all__ = ["Constants", "OnnxNet", "RefusalError", "open_inputs", "read_graph", "turned_inputs"]
