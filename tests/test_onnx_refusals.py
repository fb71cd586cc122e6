"""What of an ONNX graph is no network: refused by node, in one line, before anything is laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper as make
import pytest
from onnx import TensorProto

from tests.onnx_graphs import W, branch, model_of, node, read_model
from zoo.errors import UnsupportedError

REFUSED: dict[str, tuple[Any, str]] = {
    "operator": (model_of(node("Erf")), "Erf 'the Erf': this operator is not supported"),
    "two operators": (
        model_of(node("Erf", makes="e"), node("Relu", "e", "r"), node("Add", "r z")),
        "'the Erf'.*'the Add'",
    ),
    "domain": (model_of(node("Gelu", domain="com.microsoft"), domain="com.microsoft"), "operator of 'com.microsoft'"),
    "attribute": (model_of(node("Relu", slope=1.0)), "its attribute slope says is not known"),
    "missing": (model_of(node("Conv", "x w")), "its weight|reads 'w', which the file has not"),
    "cycle": (
        model_of(node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")),
        "a node after it makes .a cycle",
    ),
    "bytes": (
        model_of(make.make_node("Relu", ["x"], ["y"], "the Relu", plan=b"\xff\x82")),
        "the Relu': what its attribute plan says is not known",
    ),
    "twice": (model_of(node("Relu"), node("Tanh")), "made already"),
    "type": (
        model_of(node("Relu"), x=make.make_tensor_value_info("x", TensorProto.DOUBLE, [1, 3])),
        "type 11, expected 1",
    ),
    "integers": (
        model_of(node("Relu"), x=make.make_tensor_value_info("x", TensorProto.INT64, [1, 3])),
        "reads 'x', which is no float32 tensor",
    ),
    "pads in rows": (
        model_of(node("Pad", "x p", mode="constant"), stored={"p": np.zeros((4, 2), np.int64)}),
        "pads is no list of whole numbers",
    ),
    "put elsewhere": (
        model_of(
            node("Abs", makes="a"),
            node("Cast", "a", "i", to=7),
            node("ScatterND", "x i x"),
        ),
        "elsewhere than where the maxima of a pool stood",
    ),
    "put among others": (
        model_of(
            node("MaxPool", "x", "p i", kernel_shape=[2, 2], strides=[2, 2]), node("ScatterElements", "x i p", axis=2)
        ),
        "among others than zeros",
    ),
    "put in other maps": (
        model_of(
            node("MaxPool", "x", "p i", kernel_shape=[2, 2], strides=[2, 2]),
            node("ScatterElements", "z i p", axis=2),
            stored={"z": np.zeros((1, 3, 4, 4), "f")},
        ),
        "in other maps than those of N x 3 x 8 x 8 that were pooled",
    ),
    "edges": (
        model_of(node("Pad", "x p", mode="reflect"), stored={"p": np.array([0, 0, 8, 0] * 2)}),
        "0 to 7 are known",
    ),
    "erf": (model_of(node("Gelu"), opset=20), "by the error function, which no layer computes"),
    "open size": (
        model_of(node("Relu"), x=make.make_tensor_value_info("x", 1, ["n", 3, "h", "w"])),
        "leaves sizes open",
    ),
    "no size": (model_of(node("Relu"), x=make.make_tensor_value_info("x", 1, None)), "does not say its sizes"),
    "float64 weight": (model_of(node("Conv", "x w"), stored={"w": W.astype("d")}), "is float64, expected float32"),
    "training": (
        model_of(node("Dropout", "x r t"), stored={"r": np.asarray(0.5, np.float32), "t": np.asarray(True)}),
        "left on",
    ),
    "old training": (model_of(node("Dropout", ratio=0.5), opset=6), "left on: is_test is 0"),
    "batch": (model_of(node("Reshape", "x s"), stored={"s": np.array([3, -1])}), "items are no longer apart"),
    "transposed batch": (model_of(node("Transpose", perm=[1, 0, 2, 3])), "moves the batch"),
    "no number": (model_of(node("LRN", size=3, alpha=float("nan"))), "its alpha is nan, expected finite numbers"),
    "no numbers": (model_of(node("Mul", "x k"), stored={"k": np.float32("inf")}), "its scale is inf, expected finite"),
    "padding": (
        model_of(node("MaxPool", kernel_shape=[3, 3], pads=[1 << 40] * 4)),
        "numbers an item are 1.9e.16 GB of memory; 1 GB, an eighth of --max-memory GB, are the limit of a layer",
    ),
    "even window": (model_of(node("LRN", size=4)), "even window"),
    "pad": (
        model_of(
            node("Pad", "x p v", "q"),
            node("Tanh", "q"),
            stored={"p": np.array([0, 0, 1, 1] * 2), "v": np.asarray(1, np.float32)},
        ),
        "padded with 1; only",
    ),
    "apart": (
        model_of(node("MaxPool", kernel_shape=[1, 1], strides=[4, 4], auto_pad="SAME_UPPER")),
        "windows 3 pixels apart runtimes do not agree",
    ),
    "broadcast": (
        model_of(node("Max", "x k"), stored={"k": np.zeros(1, np.float32)}, opset=7),
        "it broadcasts from operator set 8 on",
    ),
    "output shape": (
        model_of(
            node("ConvTranspose", "x w", output_shape=[1, 3, 9, 9]), stored={"w": np.ones((3, 4, 2, 2), np.float32)}
        ),
        "expected a height and a width",
    ),
    "bias of the items": (
        model_of(
            node("Flatten", "x", "f"),
            node("Gemm", "f w b"),
            stored={"w": np.ones((192, 4), "f"), "b": np.ones((4, 1), "f")},
        ),
        r"bias \(4, 1\) is not one number for each of 4 outputs",
    ),
    "3-D": (model_of(node("Conv", "x w"), stored={"w": W[:, :, None]}), "two-dimensional images alone"),
    "kernel": (model_of(node("Conv", "x w", kernel_shape=[5, 5]), stored={"w": W}), "does not fit kernel"),
    "second output": (
        model_of(node("MaxPool", "x", "m i", kernel_shape=[2, 2]), node("Cast", "i", to=1)),
        "reads 'i', which is no float32 tensor",
    ),
    "newest": (model_of(node("Relu"), opset=99), "operator set 99"),
    "resize": (
        model_of(node("Resize", "x  s", mode="cubic"), stored={"s": np.array([1, 1, 2, 2], "f")}),
        "says neither",
    ),
    "batch of five": (
        model_of(
            node("Shape", makes="s"),
            node("Gather", "s first", "n"),
            node("Equal", "n five", "is"),
            node("Cast", "is", "one", to=1),
            node("Add", "x one"),
            stored={"first": np.asarray(0), "five": np.asarray(5)},
        ),
        "'the Equal': asks how many items are fed, which is left open",
    ),
    "batch as a number": (
        model_of(node("Shape", makes="s"), node("Cast", "s", "c", to=1), node("Mul", "x c")),
        "'the Cast': asks how many items",
    ),
    "a part of the batch": (
        model_of(
            node("Shape", makes="s"),
            node("Div", "s parts", "d"),
            node("Reshape", "x d"),
            stored={"parts": np.array([2, 1, 1, 1])},
        ),
        "'the Div': asks how many items",
    ),
    "if": (
        model_of(
            node("ReduceSum", "x", "s", keepdims=0),
            node("Cast", "s", "c", to=9),
            make.make_node("If", ["c"], ["y"], "the If", then_branch=branch("t"), else_branch=branch("e")),
        ),
        "batch",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_outside_is_refused_by_node(what: str) -> None:
    model, told = REFUSED[what]
    with pytest.raises((UnsupportedError, ValueError), match=told) as refused:
        read_model(model)
    assert "\n" not in str(refused.value)


def test_constants_do_not_fill_the_memory() -> None:
    shape = np.array([1 << 20, 1 << 20], np.int64)
    nodes = [node("ConstantOfShape", "s", "c"), node("Add", "x c")]
    with pytest.raises(UnsupportedError, match="repeat numbers to more"):
        read_model(model_of(*nodes, stored={"s": shape}))
    wide, tall = np.ones((1, 1, 1, 1 << 15), np.float32), np.ones((1, 1, 1 << 15, 1), np.float32)
    with pytest.raises(UnsupportedError, match="before memory runs out"):
        read_model(model_of(node("Add", "a b", "c"), node("Add", "x c"), stored={"a": wide, "b": tall}))
