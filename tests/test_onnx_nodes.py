"""onnx's own backend tests of single nodes, each read as a network and run by the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import numpy as np
import onnx
import onnx.helper as make
import pytest
from onnx import numpy_helper
from onnx.backend.test.case import node as onnx_nodes

from converters.weights import Array
from tests.onnx_graphs import read_model
from zoo import reference
from zoo.errors import UnsupportedError

# Operator -> how many of its cases are read here; the others are refused by name.
CASES = {
    "Abs": 1,
    "Add": 2,
    "ArgMax": 16,
    "AveragePool": 13,
    "BatchNormalization": 2,
    "Celu": 1,
    "Clip": 4,
    "Concat": 7,
    "Conv": 6,
    "ConvTranspose": 7,
    "DepthToSpace": 2,
    "Div": 4,
    "Dropout": 4,
    "Elu": 3,
    "Exp": 2,
    "Expand": 1,
    "Flatten": 3,
    "Gelu": 2,
    "Gemm": 8,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "GroupNormalization": 2,
    "HardSigmoid": 3,
    "HardSwish": 1,
    "InstanceNormalization": 2,
    "LRN": 2,
    "LayerNormalization": 13,
    "LeakyRelu": 3,
    "Log": 2,
    "LogSoftmax": 6,
    "MatMul": 1,
    "Max": 4,
    "MaxPool": 11,
    "Mean": 3,
    "Min": 4,
    "Mish": 1,
    "Mul": 4,
    "Neg": 2,
    "Reciprocal": 2,
    "ReduceL1": 6,
    "ReduceL2": 6,
    "ReduceMax": 6,
    "ReduceMean": 6,
    "ReduceSum": 6,
    "ReduceSumSquare": 6,
    "Relu": 1,
    "Reshape": 6,
    "Resize": 3,
    "Selu": 3,
    "Sigmoid": 2,
    "Slice": 5,
    "Softmax": 6,
    "Softplus": 2,
    "Split": 5,
    "Sqrt": 2,
    "Squeeze": 1,
    "Sub": 4,
    "Sum": 4,
    "Swish": 1,
    "Tanh": 2,
    "TopK": 2,
    "Transpose": 1,
    "Unsqueeze": 6,
    "Upsample": 1,
}
MODULES = {"BatchNormalization": "batch_normalization", "InstanceNormalization": "instance_normalization"}
# Of equal numbers it takes the last, where ONNX takes the first; which is said.
TIES = {"test_argmax_keepdims_example", "test_argmax_negative_axis_keepdims_example", "test_argmax_no_keepdims_example"}


def cases(operator: str) -> Iterator[tuple[str, Any, Mapping[str, Array], Mapping[str, Array]]]:
    """Its node tests, with the first input fed and the others stored, and with all fed."""
    with np.errstate(all="ignore"):
        import_module(f"onnx.backend.test.case.node.{MODULES.get(operator, operator.lower())}")
    found = [case for case in cast(Any, onnx_nodes)._NodeTestCases if case.model.graph.node[0].op_type == operator]
    for case in found:
        inputs, outputs = case.data_sets[0]
        if all(np.ndim(array) == 1 for array in inputs):  # a row is an item: there is no batch in these cases
            inputs, outputs = ([np.reshape(array, (1, -1)) for array in arrays] for arrays in (inputs, outputs))
        if len(case.model.graph.node) != 1 or getattr(inputs[0], "dtype", None) != np.float32:
            continue
        for fed in {1, len(inputs)}:
            model = onnx.ModelProto()
            model.CopyFrom(case.model)
            names = [item.name for item in model.graph.input]
            for item, array in zip(model.graph.input, inputs, strict=True):
                item.CopyFrom(make.make_tensor_value_info(item.name, item.type.tensor_type.elem_type, np.shape(array)))
            del model.graph.input[fed:]
            stored = zip(inputs[fed:], names[fed:], strict=True)
            model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for a, name in stored)
            right = {item.name: value for item, value in zip(model.graph.output, outputs, strict=True)}
            yield case.name, model, dict(zip(names[:fed], inputs[:fed], strict=True)), right


@pytest.mark.parametrize("operator", CASES)
def test_onnx_nodes_mean_what_onnx_says(operator: str) -> None:
    read_here = 0
    for name, model, fed, right in cases(operator):
        try:
            net = read_model(model)
        except (UnsupportedError, ValueError) as error:
            assert any(word in str(error) for word in (operator, "input", "output")), name
            continue
        found = reference.forward(net.spec, net.parameters, {i.name: fed[i.name] for i in net.spec.inputs})
        for output in net.spec.outputs if name not in TIES else ():
            np.testing.assert_allclose(found[output], right[output], rtol=1e-3, atol=1e-5, err_msg=name)
        read_here += 1
    assert read_here == CASES[operator]
