"""Graphs run by ONNX Runtime on the CPU, which is imported when one is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from zoo import registry
from zoo.arrays import Array
from zoo.frameworks.onnx.network import graph
from zoo.layers import ModelSpec
from zoo.wire.onnx import chunks


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run the graph at inference in float32; see `zoo.registry.Framework`. Nothing is written to disk."""
    model = graph(spec, every_activation=True)
    # ONNX Runtime drops a weight no node reads (BatchNorm's, where the batch's own statistics count): it takes no loan.
    read = {name for node in model.nodes for name in node.inputs}
    lent = {name: weights[name] for name in model.parameters if name in read}
    with registry.optional():
        from zoo.frameworks.onnx import runtime
    return runtime.run(b"".join(chunks(model, None)), inputs, None, lent)


def run(model: Path | bytes, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
    """Run an ONNX file, whoever made it, in ONNX Runtime on the CPU.

    Args:
        model: the file, or its bytes.
        inputs: input name -> array, as the file wants it.
        outputs: which of the file's outputs are wanted; None for all.

    Raises:
        FileFormatError: ONNX Runtime refuses the file or the inputs.
    """
    with registry.optional():
        from zoo.frameworks.onnx import runtime
    return runtime.run(model, inputs, outputs)


# Input name -> array, of one batch -> every output; raises `FileFormatError` where ONNX Runtime refuses the inputs.
Session: TypeAlias = Callable[[Mapping[str, Array]], dict[str, Array]]


def opened(model: bytes, weights: Mapping[str, Array], *, lean: bool = False) -> Session:
    """An ONNX graph made ready once, to be run for as many batches as are wanted, of any size that it takes.

    Args:
        model: the graph; initializers whose data it leaves out are said to be external.
        weights: the data left out, initializer -> array; lent, not copied.
        lean: without what ONNX Runtime does by default for graphs that run often.

    Raises:
        FileFormatError: ONNX Runtime refuses the graph.
    """
    with registry.optional():
        from zoo.frameworks.onnx import runtime
    return runtime.opened(model, None, weights, lean=lean)
