"""ONNX Runtime on the CPU, as the framework ``onnx`` has it."""

from zoo.frameworks.onnx import opened as open_onnx

# Whose version says whether the runtime is there, the packages that it needs, and the extra that brings them.
DISTRIBUTION = "onnxruntime"
PACKAGES = ("onnxruntime",)
EXTRA = "onnx"

__all__ = ["open_onnx"]
