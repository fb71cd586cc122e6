"""TensorFlow-slim: the source of a network in slim's own conventions, and the same calls run in a TensorFlow session.

The table of calls is in `table`. Source is written where TensorFlow is not installed; what needs it lies in `runtime`.
"""

from zoo.frameworks.tf_slim.live import arg_scope, assign, build, fetch, forward, network
from zoo.frameworks.tf_slim.naming import Variable, identifier, sanitized, variables
from zoo.frameworks.tf_slim.source import generate, source_text
from zoo.frameworks.tf_slim.table import Table

# Whose version says whether the framework is there, and the packages that its extra brings.
DISTRIBUTION = "tensorflow"
PACKAGES = ("tensorflow", "tf_slim", "tf2onnx")

__all__ = [
    "Table",
    "Variable",
    "arg_scope",
    "assign",
    "build",
    "fetch",
    "forward",
    "generate",
    "identifier",
    "network",
    "sanitized",
    "source_text",
    "variables",
]
