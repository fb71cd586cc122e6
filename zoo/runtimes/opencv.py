"""OpenCV's dnn module on the CPU, fed with ONNX.

Winograd's convolutions are left out: they are float32 too, but they round in more places than the graph says.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from zoo.arrays import Array
from zoo.errors import FileFormatError, said
from zoo.runtimes._whole import Session, by_size, output_names, whole_model

# Whose version says whether the runtime is there, and the packages that its extra brings.
DISTRIBUTION = "opencv-python-headless"
PACKAGES = ("cv2",)


def open_onnx(model: bytes, weights: Mapping[str, Array]) -> Session:
    """See `zoo.registry.RunsOnnx`; what OpenCV has worked out as it read the graph (a constant) is left out."""
    return by_size(lambda fed: _opened(whole_model(model, weights, fed)))


def _opened(whole: Any) -> Session:
    for value in whole.graph.output:
        value.type.tensor_type.shape.SetInParent()  # it wants to be told a shape, and then works out its own
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors reach the user as ours
    with _refusals():
        net = cv2.dnn.readNetFromONNX(np.frombuffer(whole.SerializeToString(), np.uint8))
        net.enableWinograd(False)
        held = {*net.getLayerNames()}
    names = [name for name in output_names(whole) if name in held]

    def run(batch: Mapping[str, Array]) -> dict[str, Array]:
        with _refusals():
            for name, array in batch.items():
                net.setInput(np.ascontiguousarray(array), name)
            return dict(zip(names, (np.array(output) for output in net.forward(names)), strict=True))

    return run


@contextmanager
def _refusals() -> Generator[None]:
    try:
        yield
    except cv2.error as error:
        told = said(error, 300).partition("error: ")[2] or said(error, 300)
        raise FileFormatError("the ONNX graph", f"OpenCV refuses it: {told}") from error
