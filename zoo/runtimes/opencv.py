"""OpenCV's dnn module on the CPU, fed with ONNX.

Winograd's convolutions are left out: they are float32 too, but they round in more places than the graph says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from zoo.arrays import Array
from zoo.errors import FileFormatError, said
from zoo.runtimes._whole import output_names, whole_model

# Whose version says whether the runtime is there, and the packages that its extra brings.
DISTRIBUTION = "opencv-python-headless"
PACKAGES = ("cv2",)


def run_onnx(
    model: bytes, batches: Sequence[Mapping[str, Array]], weights: Mapping[str, Array], *, lean: bool
) -> list[dict[str, Array]]:
    """See `zoo.registry.RunsOnnx`; what OpenCV has worked out as it read the graph (a constant) is left out."""
    del lean  # it has no quicker way to get ready
    whole = whole_model(model, weights, batches[0])
    for value in whole.graph.output:
        value.type.tensor_type.shape.SetInParent()  # it wants to be told a shape, and then works out its own
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its errors reach the user as ours
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(whole.SerializeToString(), np.uint8))
        net.enableWinograd(False)
        held = {*net.getLayerNames()}
        names = [name for name in output_names(whole) if name in held]
        return [_forward(net, fed, names) for fed in batches]
    except cv2.error as error:
        told = said(error, 300).partition("error: ")[2] or said(error, 300)
        raise FileFormatError("the ONNX graph", f"OpenCV refuses it: {told}") from error


def _forward(net: cv2.dnn.Net, fed: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    for name, batch in fed.items():
        net.setInput(np.ascontiguousarray(batch), name)
    return dict(zip(names, (np.array(output) for output in net.forward(names)), strict=True))
