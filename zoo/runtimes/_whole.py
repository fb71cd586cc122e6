"""An ONNX graph with all that it needs in it, for runtimes that take no loan of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from zoo.arrays import Array
from zoo.frameworks.onnx import Session


def by_size(opened: Callable[[Mapping[str, Array]], Session]) -> Session:
    """A session for batches of any size, opened anew for each size: what is told the sizes is sure of them."""
    sessions = dict[tuple[tuple[str, tuple[int, ...]], ...], Session]()

    def run(fed: Mapping[str, Array]) -> dict[str, Array]:
        sizes = tuple((name, array.shape) for name, array in fed.items())
        if sizes not in sessions:
            sessions.clear()  # each holds the weights
            sessions[sizes] = opened(fed)
        return sessions[sizes](fed)

    return run


def whole_model(model: bytes, weights: Mapping[str, Array], fed: Mapping[str, Array]) -> Any:
    """The graph as a message of ``onnx``, with weights inside it, and the sizes of the batches that it is fed.

    Args:
        model: the graph.
        weights: initializer -> the data that the graph leaves out.
        fed: input name -> array.
    """
    whole = onnx.load_model_from_string(model)
    for tensor in whole.graph.initializer:
        if tensor.name in weights:
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = np.ascontiguousarray(weights[tensor.name], "<f4").tobytes()
    for value in whole.graph.input:
        if value.name in fed:
            shape = value.type.tensor_type.shape
            shape.SetInParent()
            del shape.dim[:]
            shape.dim.extend(shape.Dimension(dim_value=size) for size in fed[value.name].shape)
    for value in whole.graph.output:
        value.type.tensor_type.shape.Clear()
        if not value.type.tensor_type.elem_type:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return whole


def output_names(model: Any) -> list[str]:
    """The outputs of a graph, in its order."""
    return [value.name for value in model.graph.output]
