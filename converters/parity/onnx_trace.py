"""Somebody's ONNX file with every node's result made visible, and what it wants to be fed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from converters.weights import Array
from zoo.errors import FileFormatError, ZooError


class Traced:
    """An ONNX file, parsed.

    Attributes:
        outputs: names of the graph's own outputs.
        nodes: name of the first result, operator and inputs of each node, in graph order.
    """

    def __init__(self, path: Path) -> None:
        try:
            model = onnx.load(str(path))
        except Exception as error:
            raise FileFormatError(path, f"no ONNX model: {' '.join(str(error).split())[:200]}") from error
        self.path = path
        self._model, graph = model, model.graph
        stored = {tensor.name for tensor in graph.initializer}
        self._inputs = [value for value in graph.input if value.name not in stored]
        self.outputs = [value.name for value in graph.output]
        self.nodes = [(n.output[0], n.op_type, tuple(n.input)) for n in graph.node if n.output and n.output[0]]

    def every_result(self, count: int | None = None) -> bytes:
        """The same model with every node's first result as an output; of the first `count` nodes alone, if given."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        if count is not None:
            del model.graph.node[count:]
            del model.graph.output[:]
        shown = {value.name for value in model.graph.output}
        made = [node.output[0] for node in model.graph.node if node.output and node.output[0]]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in shown)
        return model.SerializeToString()

    def feed(self, arrays: Sequence[Array]) -> list[dict[str, Array]]:
        """Canonical batches, by position, as the file wants them: its names, its layout, its batch size.

        The last batch of a fixed size is filled up by repeating its last sample.

        Raises:
            ZooError: another number of inputs, or another shape.
        """
        if len(arrays) != len(self._inputs):
            raise ZooError(f"{self.path} reads {len(self._inputs)} inputs, the network {len(arrays)}")
        rows, fed, size = len(arrays[0]), dict[str, Array](), 0
        for value, array in zip(self._inputs, arrays, strict=True):
            dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
            fed[value.name] = self._laid_out(value.name, dims, array)
            size = max(size, dims[0] if dims else 0)
        size = size or rows
        fill = -rows % size
        padded = {name: np.concatenate([array, array[-1:].repeat(fill, axis=0)]) for name, array in fed.items()}
        return [
            {name: np.ascontiguousarray(array[i : i + size]) for name, array in padded.items()}
            for i in range(0, rows, size)
        ]

    def _laid_out(self, name: str, dims: Sequence[int], array: Array) -> Array:
        def fits(shape: Sequence[int]) -> bool:
            return len(dims) in (0, len(shape)) and all(
                not want or want == have for want, have in zip(dims[1:], shape[1:], strict=False)
            )

        if fits(array.shape):
            return array
        if array.ndim == 4 and fits([array.shape[i] for i in (0, 2, 3, 1)]):
            return array.transpose(0, 2, 3, 1)
        wanted = " x ".join(str(size) if size else "?" for size in dims)
        raise ZooError(f"{self.path}: input {name!r} is {wanted}, the network's is {' x '.join(map(str, array.shape))}")
