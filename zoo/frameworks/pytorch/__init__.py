"""PyTorch: a spec as a live module, and as source that needs torch alone. The table of calls is in `table`."""

from zoo.frameworks.pytorch.calls import Call
from zoo.frameworks.pytorch.network import (
    Network,
    bind,
    build,
    forward,
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
    "bind",
    "build",
    "call",
    "forward",
    "generate",
    "source_text",
    "state_dict",
]
