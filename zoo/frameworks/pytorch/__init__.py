"""PyTorch: a spec as a live module, and as source that needs torch alone. The table of calls is in `table`."""

from zoo.frameworks.pytorch.calls import Call
from zoo.frameworks.pytorch.network import (
    Network,
    attribute_names,
    bind,
    build,
    counters,
    forward,
    identifier,
    parameter_names,
    state_dict,
)
from zoo.frameworks.pytorch.source import generate, source_text
from zoo.frameworks.pytorch.table import call

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
    "identifier",
    "parameter_names",
    "source_text",
    "state_dict",
]
