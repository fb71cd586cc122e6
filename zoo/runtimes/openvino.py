"""OpenVINO on the CPU, in float32: by itself it takes bfloat16 or float16 where the processor has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov

from zoo.arrays import Array
from zoo.errors import FileFormatError, said
from zoo.runtimes._whole import output_names, whole_model

# Whose version says whether the runtime is there, and the packages that its extra brings.
DISTRIBUTION = "openvino"
PACKAGES = ("openvino",)

_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}


def run_onnx(
    model: bytes, batches: Sequence[Mapping[str, Array]], weights: Mapping[str, Array], *, lean: bool
) -> list[dict[str, Array]]:
    """See `zoo.registry.RunsOnnx`."""
    del lean  # it has no quicker way to get ready
    whole = whole_model(model, weights, batches[0])
    names = output_names(whole)
    made_of = {name: node.input[0] for node in whole.graph.node if node.input for name in node.output}
    try:
        network = ov.Core().compile_model(ov.Core().read_model(whole.SerializeToString()), "CPU", _SETTINGS)
        read = [port.node.friendly_name for port in network.inputs]  # without those that nothing reads
        for i, name in enumerate(read):
            while name not in batches[0]:  # an input that is handed on is called as what it becomes
                name = made_of[name]
            read[i] = name
        # One request after another gives out the same memory.
        found = [[np.array(array) for array in network([fed[name] for name in read]).values()] for fed in batches]
    except (RuntimeError, TypeError, ValueError) as error:
        raise FileFormatError("the ONNX graph", f"OpenVINO refuses it: {said(error, 300)}") from error
    # By their order: of two names for one tensor, OpenVINO keeps one.
    return [dict(zip(names, arrays, strict=True)) for arrays in found]
