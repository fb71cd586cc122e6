"""Float32's own errors: said, and no fault of a file; nothing else hides behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.faults import diagnose
from converters.faults.of_rounding import BY_EXP, DENORMAL, float32_alone
from converters.parity import probe_weights, verify_model
from zoo import reference
from zoo.layers import BatchNorm, Concat, Conv, Dense, Input, Layer, ModelSpec, Power, ReLU, Sigmoid, TanH, Unary

SMALL = ModelSpec(
    name="small",
    title="a TanH that reads next to nothing",
    inputs=(Input(name="data", shape=(3, 6, 6)),),
    layers=(
        Power(name="scaled", scale=1e-2),
        TanH(name="bent"),
        Conv(name="conv", out_channels=4, kernel=(3, 3)),
    ),
)


def by_exp(x: np.ndarray) -> np.ndarray:
    """tanh as a runtime makes it that has exp alone, in float32."""
    e = np.exp(np.float32(-2) * x)
    return (np.float32(1) - e) / (np.float32(1) + e)


@pytest.mark.parametrize("layer", [TanH(name="bent"), Unary(name="bent", function="elu", numbers=(1.0,))])
def test_what_rounding_leaves_near_zero_is_told_from_an_error(layer: Layer) -> None:
    x = np.random.default_rng(1).normal(0, 1e-3, (2, 3, 6, 6)).astype(np.float32)
    right = reference.apply(layer, [x.astype(np.float64)], {})
    y = by_exp(x) if isinstance(layer, TanH) else np.where(x > 0, x, np.exp(x) - np.float32(1))
    found = float32_alone(layer, x, y)
    assert found is not None
    assert found.fault == BY_EXP
    assert float32_alone(layer, x, right.astype(np.float32)) is None
    assert float32_alone(layer, x, y * np.float32(1.001)) is None
    assert float32_alone(layer, x * np.float32(100), np.tanh(x * np.float32(100)) * np.float32(1.0001)) is None


def test_a_runtime_that_makes_tanh_by_exp_is_not_failed_and_what_follows_is_held_to_what_it_read() -> None:
    report = verify_model(SMALL, probe_weights(SMALL), ["caffe", "onnx"])
    caffe, onnx = report.subjects
    assert (caffe.status, onnx.status) == ("passed", "passed"), caffe.to_dict()
    assert any("float32's own error" in note for note in caffe.notes)
    assert not onnx.notes


def test_a_layer_of_which_rounding_leaves_nothing_fails_as_that() -> None:
    spec = replace(SMALL, layers=(replace(SMALL.layers[0], scale=1e-9), *SMALL.layers[1:]))
    caffe, onnx = verify_model(spec, probe_weights(spec), ["caffe", "onnx"]).subjects
    assert (caffe.status, onnx.status) == ("failed", "passed")
    assert caffe.diagnosis is not None
    assert (caffe.diagnosis.fault, caffe.diagnosis.layer) == (BY_EXP, "bent")


def test_weights_too_small_for_float32_are_not_called_rounded() -> None:
    spec = replace(SMALL, layers=(Dense(name="fc", out_features=4),))
    weights = probe_weights(spec)
    tiny = {name: x * np.float32(1e-39) if name.endswith("weight") else x for name, x in weights.tensors.items()}
    large = {"data": np.full((2, 3, 6, 6), 1e38, np.float32)}
    flushed = {name: np.where(np.abs(x) < np.finfo(np.float32).tiny, 0, x) for name, x in tiny.items()}
    shown = {name: y.astype(np.float32) for name, y in reference.forward(spec, flushed, large).items()}
    (found,) = diagnose(spec, tiny, large, shown)
    assert found.fault == DENORMAL
    assert found.message.startswith("fc: weight below")


def test_operands_in_another_order_are_named() -> None:
    spec = replace(
        SMALL,
        layers=(
            Conv(name="left", out_channels=4, kernel=(3, 3), inputs=("data",)),
            Conv(name="right", out_channels=4, kernel=(3, 3), inputs=("data",)),
            Concat(name="joined", inputs=("left", "right")),
        ),
    )
    weights = probe_weights(spec)
    inputs = {"data": np.random.default_rng(1).normal(0, 1, (2, 3, 6, 6)).astype(np.float32)}
    shown = {name: y.astype(np.float32) for name, y in reference.forward(spec, weights.tensors, inputs).items()}
    shown["joined"] = np.concatenate([shown["right"], shown["left"]], axis=1)
    (found,) = diagnose(spec, weights.tensors, inputs, shown)
    assert (found.fault, found.layer) == ("operands_exchanged", "joined")
    assert "right, left, in this order, instead of left, right" in found.message


def test_a_sigmoid_that_gives_next_to_nothing_is_as_exact_as_numbers_near_one() -> None:
    layer, read = Sigmoid(name="s"), np.random.default_rng(0).uniform(-60, -20, (2, 3, 6, 6)).astype(np.float32)
    coarse = np.round(1 / (1 + np.exp(-read.astype(np.float64))) * 2.0**25).astype(np.float32) / np.float32(2.0**25)
    found = float32_alone(layer, read, coarse)
    assert found is not None
    assert found.fault == BY_EXP
    assert float32_alone(layer, read, coarse + np.float32(1e-6)) is None


def test_channels_that_weight_decay_has_killed_are_no_fault() -> None:
    """Their weights and statistics are left with a few digits, or none, and runtimes flush them or do not."""
    layers = (Conv(name="conv", out_channels=4, kernel=(3, 3), bias=False), BatchNorm(name="norm"), ReLU(name="relu"))
    spec = replace(SMALL, layers=(*layers, Conv(name="last", out_channels=2, kernel=(3, 3))))
    weights = probe_weights(spec)
    tensors = {name: tensor.copy() for name, tensor in weights.tensors.items()}
    tensors["conv.weight"][:2] = tensors["conv.weight"][:2] * np.float32(1e-37)
    tensors["norm.mean"][:2], tensors["norm.variance"][:2] = 1e-45, 1e-45
    report = verify_model(spec, replace(weights, tensors=tensors), ["caffe", "onnx", "pytorch", "tf_slim"])
    assert [subject.status for subject in report.subjects] == ["passed"] * 4
