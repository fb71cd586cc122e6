"""PyTorch's own exporter, `torch.onnx.export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from converters.exporters import checked_opset
from converters.weights import Weights
from zoo.environment import quiet_loggers
from zoo.errors import UnsupportedError
from zoo.frameworks.pytorch import bind
from zoo.layers import DetectionOutput, ModelSpec

# What brings all that is imported here.
EXTRA = "pytorch"

# torch.onnx's own operators are written for this opset; a newer one comes out of a converter that runs after them.
OPSET = 18

# What torch 2.13 writes and ONNX Runtime 1.32 runs. Asked for an older one, dynamo writes 18 and only logs that.
_OPSETS = {"dynamo": range(18, 25), "torchscript": range(7, 24)}


def export_onnx(
    weights: Weights,
    path: Path,
    *,
    every_activation: bool,
    opset: int | None = None,
    exporter: Literal["dynamo", "torchscript"] = "dynamo",
) -> None:
    """Write the network as `torch.onnx.export` sees it.

    Graph inputs are named as the spec's, N x shape with a free N, and graph outputs as their layers. Parameters keep
    the keys of the live module and sit inside the file.

    Args:
        weights: the network and its parameters.
        path: the ``.onnx`` to write.
        every_activation: every layer is a graph output, not the spec's outputs alone.
        opset: the ONNX operator set; 18 if left out.
        exporter: "dynamo", torch's default since 2.9, or "torchscript", the one before it.

    Raises:
        UnsupportedError: the exporter cannot write that opset, or a layer.
    """
    spec, dynamo = weights.spec, exporter == "dynamo"
    opset = checked_opset(f"torch.onnx.export ({exporter})", opset, OPSET, _OPSETS[exporter])
    _refuse(spec)
    inputs = [source.name for source in spec.inputs]
    outputs = spec.graph_outputs(every_activation=every_activation)
    free = {0: "batch"}
    batches = tuple(torch.zeros(2, *source.shape) for source in spec.inputs)  # a batch of 1 is taken for a constant
    # Without torch's remarks about itself: torchvision that is not there, constants it did not fold.
    with quiet_loggers("torch.onnx"):
        torch.onnx.export(
            bind(spec, weights.tensors, outputs=outputs),
            batches,
            path,
            input_names=inputs,
            output_names=list(outputs),
            opset_version=opset,
            dynamo=dynamo,
            external_data=False,
            verbose=False,
            dynamic_shapes=((free,) * len(inputs),) if dynamo else None,
            dynamic_axes=None if dynamo else dict.fromkeys([*inputs, *outputs], free),
        )


def _refuse(spec: ModelSpec) -> None:
    for layer in spec.layers:
        if isinstance(layer, DetectionOutput):
            raise UnsupportedError(
                f"layer {layer.name!r} (DetectionOutput): torch.onnx.export cannot follow a loop over what is found;"
                " zoo export writes it"
            )
