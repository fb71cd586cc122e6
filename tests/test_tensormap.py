"""One engine, read both ways: whatever goes out comes back, and whatever does not fit is said, all at once."""

import numpy as np
import pytest

from converters.tensormap import Entry, native_numbers, to_canonical, to_native
from converters.weights import Weights, all_finite
from zoo.errors import WeightsError
from zoo.layers import Conv, Dense, Input, ModelSpec
from zoo.shapes import parameter_shapes

SPEC = ModelSpec(
    name="tiny",
    title="a test network",
    inputs=(Input(shape=(4, 6, 5)),),
    layers=(
        Conv(name="conv", out_channels=6, kernel=(3, 2), groups=2),
        Dense(name="fc", out_features=3),
    ),
)
TABLE = [
    Entry(canonical="conv.weight", native="conv/weights", axes="OIHW", native_axes="HWIO"),
    Entry(canonical="conv.bias", native="conv/biases"),
    Entry(canonical="fc.weight", native="fc/weights", axes="O(CHW)", native_axes="HWCO", sizes={"H": 4, "W": 4}),
    Entry(canonical="fc.bias", native="fc/biases"),
]


def _weights() -> Weights:
    generator = np.random.default_rng(1)
    tensors = {n: generator.standard_normal(s, dtype=np.float32) for n, s in parameter_shapes(SPEC).items()}
    return Weights(spec=SPEC, tensors=tensors, source="test")


def test_there_and_back_is_the_same_bits() -> None:
    weights = _weights()
    native = to_native(weights, TABLE)
    assert native["fc/weights"].shape == (4, 4, 6, 3)
    back = to_canonical(SPEC, TABLE, native, "file")
    for name, tensor in weights.tensors.items():
        np.testing.assert_array_equal(back.tensors[name].view(np.uint32), tensor.view(np.uint32))


def test_tensors_are_laid_out_when_they_are_asked_for() -> None:
    weights = _weights()
    native = to_native(weights, TABLE)
    back = to_canonical(SPEC, TABLE, native, "file")
    for name, tensor in weights.tensors.items():
        numbers = back.numbers(name)
        np.testing.assert_array_equal(numbers.reshape(tensor.shape), tensor)
        assert any(np.shares_memory(numbers, array) for array in native.values())
    assert back.tensors["fc.weight"].shape == (3, 96)
    assert back.tensors["fc.weight"] is not weights.tensors["fc.weight"]
    assert back.tensors["fc.weight"].flags.c_contiguous
    assert np.shares_memory(back.tensors["fc.weight"], back.numbers("fc.weight")), "laid out once, not each time"
    assert list(back.tensors) == list(weights.tensors) and len(back.tensors) == len(weights.tensors)


def test_numbers_of_a_framework_come_in_its_order() -> None:
    weights = _weights()
    back = to_canonical(SPEC, TABLE, to_native(weights, TABLE), "file")
    for source in (weights, back):
        for entry in TABLE:
            meant = to_native(weights, [entry])[entry.native]
            np.testing.assert_array_equal(native_numbers(source, entry).reshape(meant.shape), meant)


def test_tensors_of_another_network_are_refused_before_they_are_laid_out() -> None:
    back = to_canonical(SPEC, TABLE, to_native(_weights(), TABLE), "file")
    with pytest.raises(WeightsError, match=r"fc.weight has shape \(3, 96\), expected \(4, 96\)"):
        back.with_spec(SPEC.with_num_classes(4))


def test_all_faults_of_a_file_are_told_at_once() -> None:
    native = to_native(_weights(), TABLE)
    del native["conv/biases"]
    native["fc/biases"] = native["fc/biases"].astype(np.float64)
    native["fc/weights"] = native["fc/weights"].reshape(16, 6, 3)
    native["conv/weights"] = native["conv/weights"].copy()
    native["conv/weights"][0, 0, 0, 0] = np.nan
    native["stray"] = np.zeros(1, np.float32)
    native["conv/weights/Momentum"] = np.zeros(1, np.float32)
    with pytest.raises(WeightsError) as caught:
        to_canonical(SPEC, TABLE, native, "file.ckpt", lambda name: name.endswith("/Momentum"))
    assert str(caught.value) == (
        "file.ckpt as tiny: conv/weights holds NaN or Inf; conv/biases is missing (expected (6,)); "
        "fc/weights has shape (16, 6, 3), expected (4, 4, 6, 3); fc/biases is float64, expected float32; "
        "stray is not a parameter of this network"
    )


def test_weights_check_themselves() -> None:
    weights = _weights()
    tensors = dict(weights.tensors)
    tensors["fc.bias"] = np.array([1, np.inf, 2], np.float32)
    with pytest.raises(WeightsError, match=r"fc\.bias holds NaN or Inf"):
        Weights(spec=SPEC, tensors=tensors, source="memory")
    assert not all_finite(tensors["fc.bias"])
