"""LiteRT (TensorFlow Lite) on the CPU, in float32: XNNPACK rounds to float16 only where it is asked to, and is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from zoo.arrays import Array
from zoo.environment import quiet_libraries
from zoo.errors import FileFormatError, said

# Whose version says whether the runtime is there, and the packages that its extra brings.
DISTRIBUTION = "ai-edge-litert"
PACKAGES = ("ai_edge_litert",)


def run_tflite(model: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """See `zoo.registry.RunsTflite`."""
    try:
        with quiet_libraries():
            run = Interpreter(model_content=model).get_signature_runner()
            return {name: np.array(array) for name, array in run(**inputs).items()}
    except (RuntimeError, ValueError) as error:
        raise FileFormatError("the .tflite model", f"LiteRT refuses it: {said(error, 300)}") from error
