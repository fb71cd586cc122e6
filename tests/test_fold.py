"""Folding: the same answer for RGB 0..1 as for the prepared image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.convert import save
from converters.fold import fold_preprocessing
from converters.parity import probe_inputs, probe_weights, verify_files
from converters.weights import Weights
from tests.small import shrink, small_weights
from zoo import reference
from zoo.errors import UnpreparedError, UnsupportedError
from zoo.layers import Conv, Input, ModelSpec, Pool, Preprocessing
from zoo.preprocess import normalise

BGR = Preprocessing(channels="BGR", mean=(104.0, 117.0, 123.0), resize=300)
RANGE = Preprocessing(channels="RGB", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop="even")
BOTH = Preprocessing(channels="BGR", scale=1 / 127.5, mean=(1.0, 0.5, 0.25), std=(0.5, 1.0, 2.0))


def prepared(model: str, preprocessing: Preprocessing | None, **changes: object) -> Weights:
    spec = shrink(model)
    conv1 = spec.layer("conv1")
    assert isinstance(conv1, Conv)
    spec = spec.replace_layer(replace(conv1, **changes))
    return probe_weights(replace(spec, preprocessing=preprocessing), seed=1)


def outputs(weights: Weights, image: np.ndarray) -> np.ndarray:
    spec = weights.spec
    assert spec.preprocessing is not None
    x = normalise(image, spec.preprocessing)[None]
    return reference.forward(spec, weights.tensors, {spec.inputs[0].name: x})["conv1"]


@pytest.mark.parametrize("preprocessing", [BGR, RANGE, BOTH], ids=["bgr", "range", "both"])
@pytest.mark.parametrize("bias", [True, False])
def test_conv1_takes_up_order_mean_scale_and_std(preprocessing: Preprocessing, bias: bool) -> None:
    weights = prepared("bvlc_alexnet", preprocessing, bias=bias)
    image = np.random.default_rng(0).integers(0, 256, (227, 227, 3), dtype=np.uint8)
    folded = fold_preprocessing(weights)
    assert folded.spec.preprocessing == Preprocessing(
        scale=1 / 255, resize=preprocessing.resize, crop=preprocessing.crop
    )
    assert list(folded.tensors)[:2] == ["conv1.weight", "conv1.bias"]
    expected, found = outputs(weights, image), outputs(folded, image)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()
    assert all(folded.tensors[name] is tensor for name, tensor in weights.tensors.items() if "conv1" not in name)


def test_folding_twice_changes_nothing() -> None:
    once = fold_preprocessing(prepared("bvlc_alexnet", BGR))
    twice = fold_preprocessing(once)
    assert twice.spec == once.spec
    for name, tensor in once.tensors.items():
        np.testing.assert_array_equal(twice.tensors[name], tensor)


def test_padding_is_refused_with_the_reason_unless_zero_stays_zero() -> None:
    with pytest.raises(UnsupportedError, match=r"'conv1': reads zeros outside the image .* stand for the mean"):
        fold_preprocessing(prepared("alexnet_owt", RANGE))
    with pytest.raises(UnsupportedError, match="rounded ceil"):
        fold_preprocessing(prepared("alexnet_2012_code", BGR))
    weights = prepared("alexnet_owt", Preprocessing(channels="BGR", scale=0.5))
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    expected = outputs(weights, image)
    assert np.abs(outputs(fold_preprocessing(weights), image) - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (Pool(name="p", mode="max", kernel=(2, 2)), (3, 4, 4), "only a convolution"),
        (Conv(name="c", out_channels=3, kernel=(2, 2), groups=3), (3, 4, 4), "do not see every colour"),
        (Conv(name="c", out_channels=3, kernel=(2, 2)), (1, 4, 4), "needs one RGB input"),
    ],
)
def test_other_nets_are_refused(layer: Conv | Pool, shape: tuple[int, ...], reason: str) -> None:
    spec = ModelSpec(name="m", title="", inputs=(Input(shape=shape),), layers=(layer,), preprocessing=BGR)
    with pytest.raises(UnsupportedError, match=reason):
        fold_preprocessing(probe_weights(spec, seed=0))


def test_unknown_preprocessing_is_refused() -> None:
    with pytest.raises(UnpreparedError, match="--images-like MODEL"):
        fold_preprocessing(prepared("alexnet", None))


def test_a_folded_network_is_proved_with_pixels_of_its_own_size(tmp_path: Path) -> None:
    folded = fold_preprocessing(small_weights("bvlc_alexnet"))
    inputs, samples = probe_inputs(folded.spec)
    assert samples == ("probe N(0, 0.235294^2)", "probe N(0, 0.00392157^2)")
    assert [float(x.std()) for x in inputs["data"]] == pytest.approx([60 / 255, 1 / 255], rel=0.05)
    save(folded, tmp_path / "folded.onnx")
    assert verify_files([tmp_path / "folded.onnx"]).passed
