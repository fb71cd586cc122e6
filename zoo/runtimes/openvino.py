"""OpenVINO on the CPU, in float32: by itself it takes bfloat16 or float16 where the processor has them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import openvino as ov

from zoo.arrays import Array
from zoo.errors import FileFormatError, said
from zoo.runtimes._whole import Session, by_size, output_names, whole_model

# Whose version says whether the runtime is there, and the packages that its extra brings.
DISTRIBUTION = "openvino"
PACKAGES = ("openvino",)

_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}


def open_onnx(model: bytes, weights: Mapping[str, Array]) -> Session:
    """See `zoo.registry.RunsOnnx`."""
    return by_size(lambda fed: _opened(whole_model(model, weights, fed), fed))


def _opened(whole: Any, fed: Mapping[str, Array]) -> Session:
    names = output_names(whole)
    made_of = {name: node.input[0] for node in whole.graph.node if node.input for name in node.output}
    with _refusals():
        core = ov.Core()
        network = core.compile_model(core.read_model(whole.SerializeToString()), "CPU", _SETTINGS)
    read = [port.node.friendly_name for port in network.inputs]  # without those that nothing reads
    for i, name in enumerate(read):
        while name not in fed:  # an input that is handed on is called as what it becomes
            name = made_of[name]
        read[i] = name

    def run(batch: Mapping[str, Array]) -> dict[str, Array]:
        with _refusals():
            # One request after another gives out the same memory.
            found = [np.array(array) for array in network([batch[name] for name in read]).values()]
        # By their order: of two names for one tensor, OpenVINO keeps one.
        return dict(zip(names, found, strict=True))

    return run


@contextmanager
def _refusals() -> Generator[None]:
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        raise FileFormatError("the ONNX graph", f"OpenVINO refuses it: {said(error, 300)}") from error
