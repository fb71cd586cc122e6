"""ONNX graphs in float16 and int8, made by ONNX Runtime's own tools from the float32 one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.weights import Array
from zoo.environment import UNTOLD, environment
from zoo.layers import LRN, ModelSpec
from zoo.registry import optional

# Kept in float32: the squares that LRN adds up leave float16's range at 256, and small probabilities fall under it.
_KEPT = ("LRN", "Softmax")

# What int8 has a meaning for. A reshape moves numbers, and a softmax or LRN is worth its float32.
_QUANTISED = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Clip", "Add", "Concat", "Flatten"),
    *("MaxPool", "AveragePool", "GlobalAveragePool"),
)


def write_float16(source: Path, target: Path, spec: ModelSpec) -> None:
    """Weights and arithmetic in float16 but for LRN and softmax; inputs and outputs stay float32.

    Args:
        source: the graph in float32.
        target: the file to write.
        spec: its network.
    """
    with optional("onnx"), environment(UNTOLD):
        import onnx
        from onnxruntime.transformers import float16
    model = onnx.load(source)
    norms = tuple(layer.name for layer in spec.layers if isinstance(layer, LRN))
    kept = [node.name for node in model.graph.node if node.name.partition("/")[0] in norms]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of single weights that float16 rounds to nothing, which the proof judges
        half = float16.convert_float_to_float16(
            model, keep_io_types=True, node_block_list=kept, op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *_KEPT]
        )
    _drop_round_trips(half.graph)
    _sort(half.graph)
    onnx.save_model(half, str(target))


def _drop_round_trips(graph: Any) -> None:
    """Where a float32 result is rounded to float16 only to be float32 again, it is read as it was."""
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for i, name in enumerate(node.input):
            widened = made_by.get(name)
            rounded = made_by.get(widened.input[0]) if widened is not None and _casts_to(widened, 1) else None
            if rounded is not None and _casts_to(rounded, 10):
                node.input[i] = rounded.input[0]
    outputs = {value.name for value in graph.output}
    for node in [node for node in graph.node if _casts_to(node, 1) and node.output[0] in outputs]:
        rounded = made_by.get(node.input[0])
        if rounded is not None and _casts_to(rounded, 10):
            node.input[0], node.op_type = rounded.input[0], "Identity"
            del node.attribute[:]
    read = {name for node in graph.node for name in node.input} | outputs
    for node in [node for node in graph.node if node.op_type == "Cast" and node.output[0] not in read]:
        graph.node.remove(node)


def _casts_to(node: Any, kind: int) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == kind for item in node.attribute)


def _sort(graph: Any) -> None:
    """Nodes after those they read, else in the order they are in: the casts were put at the end."""
    made = {name for node in graph.node for name in node.output}
    waiting, done, ordered = list(graph.node), set[str](), list[Any]()
    while waiting:
        node = next(node for node in waiting if all(name in done or name not in made for name in node.input))
        waiting.remove(node)
        ordered.append(node)
        done.update(node.output)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def write_int8(source: Path, target: Path, batches: Iterator[dict[str, Array]]) -> None:
    """Convolutions, matrices and what lies between them in int8: weights a channel, activations a tensor.

    Args:
        source: the graph in float32, operator set 13 or newer.
        target: the file to write.
        batches: what the range of each activation is taken from.
    """
    with optional("onnx"), environment(UNTOLD):
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, quantize_static
    kept = {entry.key: entry.value for entry in onnx.load(source, load_external_data=False).metadata_props}

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(batches, None)

    with _without_advice():
        quantize_static(source, target, Reader(), per_channel=True, op_types_to_quantize=list(_QUANTISED))
    model = onnx.load(target)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept)
    onnx.save_model(model, str(target))


@contextmanager
def _without_advice() -> Generator[None]:
    """ONNX Runtime advises on the root logger to run another of its tools first, which would rename the layers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def split(pictures: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Pictures to calibrate on, and every fourth, held back to judge by."""
    return [path for i, path in enumerate(pictures) if i % 4 != 3], list(pictures[3::4])
