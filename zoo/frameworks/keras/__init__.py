"""Keras 3: the source of a network by its functional API, and the same source run on TensorFlow, PyTorch or JAX.

The table of layers is in `table`. Source is written, and files are read, where Keras is not installed; what runs it is
a process of its own, `process`, because Keras chooses its backend once, when it is imported.
"""

from zoo.frameworks.keras.live import close, export, forward, native_inputs, run_saved_model
from zoo.frameworks.keras.naming import Variable, stored, variables
from zoo.frameworks.keras.saved import KERAS_VERSION, groups, model_config
from zoo.frameworks.keras.source import generate, source_text
from zoo.frameworks.keras.table import table

# Whose version says whether the framework is there, and the packages that its extra brings.
DISTRIBUTION = "keras"
PACKAGES = ("keras", "h5py")
# It runs on each of these; each is a way to run it.
BACKENDS = ("tensorflow", "torch", "jax")

__all__ = [
    "KERAS_VERSION",
    "Variable",
    "close",
    "export",
    "forward",
    "generate",
    "groups",
    "model_config",
    "native_inputs",
    "run_saved_model",
    "source_text",
    "stored",
    "table",
    "variables",
]
