"""PyTorch: a spec as a live module, and as source that needs torch alone. The table of calls is in `table`."""

from zoo.frameworks.pytorch.calls import Call
from zoo.frameworks.pytorch.network import (
    Network,
    bind,
    build,
    counters,
    forward,
    state_dict,
)
from zoo.frameworks.pytorch.source import generate, source_text
from zoo.frameworks.pytorch.table import call
from zoo.torch_names import attribute_names, parameter_names

# Whose version says whether the framework is there, and the packages that its extra brings.
DISTRIBUTION = "torch"
PACKAGES = ("torch", "onnxscript")

__all__ = [
    "Call",
    "Network",
    "attribute_names",
    "bind",
    "build",
    "call",
    "counters",
    "forward",
    "generate",
    "parameter_names",
    "source_text",
    "state_dict",
]
