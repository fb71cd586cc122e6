"""Every layer of the vocabulary in every framework against real Caffe's answers (see vectors/README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.convert import load
from converters.export import ExportOptions, export
from converters.exporters.caffe import export_onnx
from converters.weights import Weights
from tests.kinds import net
from zoo import reference, registry
from zoo.errors import UnsupportedError
from zoo.frameworks.caffe import read_prototxt
from zoo.frameworks.onnx import run
from zoo.layers import Power

OPS = Path(__file__).parent / "vectors" / "ops"
NAMES = sorted(path.stem for path in OPS.glob("*.prototxt"))
BUDGET = 1e-5
LOWEST = np.finfo(np.float32).min

# What caffe2onnx has no equal for, and says so.
NOT_IN_CAFFE2ONNX = {
    *("batchnorm_batchstats", "eltwise_max", "flatten_axis", "ip_axis2", "pool_ave_k1s2_emptywindow"),
    *("pool_ave_pad_clip", "pool_max_hw", "pool_max_k1s2_emptywindow", "pool_max_pad_clip", "scale_2bottoms"),
    *("softmax_4d", "softmax_axis2", "eltwise_max_coeff_ignored", "lrn_alpha0", "lrn_beta_negative"),
    *("absval_nc", "bnll_nc", "clip_relu6", "elu_default", "exp_base10_scale_shift", "log_scale_shift"),
    *(
        "deconv_bilinear_x2",
        "deconv_gaps",
        "deconv_group3_nobias",
        "deconv_hw",
        "mvn_across_eps",
        "mvn_nc",
        "permute_ssd",
    ),
    *("reshape_axis_m3", "reshape_insert_axis", "reshape_split_channels", "tile_axis_m1"),
    *("argmax_4d_top2_val", "argmax_ties", "argmax_ties_axis1", "axpy_se", "crop_axis1", "crop_two_offsets"),
    *("interp_crop", "interp_shrink_zoom", "normalize_shared", "normalize_ssd", "reduction_mean_axis_m1"),
    *("reduction_sumsq_axis2_coeff", "shuffle_g3"),
    *("argmax_axis0", "bn_segnet_learn", "conv_axis2"),
    *("reshape_merge_batch", "spp_2_ave", "permute_batch", "scale_axis0_all"),
    *("prelu_channel", "prelu_shared_neg", "relu6", "swish_beta_negative"),
    *("pool_ave_edge_and_past", "pool_ave_past_corner", "pool_ave_past_edge", "scale_2bottoms_negative_axis"),
}

# What OpenCV gets wrong, and we refuse there.
NOT_IN_OPENCV = (
    *(
        "argmax",
        "detout_adaptive",
        "detout_tied",
        "priorbox_img",
        "reduction",
        "roipool",
        "psroipool",
        "upsample",
        "embed",
    ),
    *("pool_mask", "pool_max_mask", "parameter", "dummydata", "slice_axis0", "flatten_axis0", "crop_axis0"),
    *("scale_2bottoms_hw", "scale_2bottoms_bias", "scale_2bottoms_scalar", "input_1axis", "ip_axis0"),
)

Array = NDArray[Any]


def case(name: str, folder: Path = OPS) -> tuple[Weights, dict[str, Array], list[Array]]:
    """Network and weights as our readers see them, inputs, and Caffe's answers in the order of the layers."""
    path = folder / f"{name}.caffemodel"
    spec = read_prototxt(path.with_suffix(".prototxt")).spec
    weights = load(path) if path.exists() else Weights(spec=spec, tensors={}, source=name)
    with np.load(path.with_suffix(".npz")) as arrays:
        # What has no axes in Caffe is of one number in the zoo.
        inputs = {source.name: np.atleast_1d(arrays[source.name]) for source in spec.inputs}
        return weights, inputs, [arrays[f"out{i}"] for i in range(sum(name.startswith("out") for name in arrays))]


def check(outputs: Mapping[str, Array], expected: list[Array]) -> None:
    # One layer of Caffe's may be several of ours: the last ones are its tops.
    for (name, got), want in zip([*outputs.items()][-len(expected) :], expected, strict=True):
        assert got.shape == (want.shape or (1,)), name
        got = got.astype(np.float32)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        ordinary = np.isfinite(want) & (want > LOWEST)
        np.testing.assert_array_equal(got[want == LOWEST], LOWEST)
        peak = np.abs(want[ordinary]).max(initial=0.0)
        assert np.abs(got[ordinary] - want[ordinary]).max(initial=0.0) <= BUDGET * peak, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("framework", ["reference", "pytorch", "tf_slim", "onnx", "caffe"])
def test_every_framework_answers_as_caffe_does(framework: str, name: str) -> None:
    weights, inputs, expected = case(name)
    subject = reference if framework == "reference" else registry.framework(framework)
    if framework == "caffe" and name.startswith(NOT_IN_OPENCV):
        with pytest.raises(UnsupportedError, match=r"layer '(op|out\d|in\d)"):
            subject.forward(weights.spec, weights.tensors, inputs)
        return
    check(subject.forward(weights.spec, weights.tensors, inputs), expected)


@pytest.mark.parametrize("name", NAMES)
def test_caffe2onnx_answers_as_caffe_does_or_refuses(name: str, tmp_path: Path) -> None:
    weights, inputs, expected = case(name)
    if name in NOT_IN_CAFFE2ONNX or name.startswith((*NOT_IN_OPENCV, "normalize", "detout", "priorbox")):
        with pytest.raises(UnsupportedError, match=r"layer '(op|out\d|in\d)"):
            export_onnx(weights, tmp_path / "op.onnx", every_activation=True)
    else:
        export_onnx(weights, tmp_path / "op.onnx", every_activation=True)
        check(run(tmp_path / "op.onnx", inputs, None), expected)


@pytest.mark.parametrize("name", ["ip_axis0", "scale_2bottoms_scalar"])
def test_what_reaches_across_the_batch_is_exported_with_its_proof(name: str, tmp_path: Path) -> None:
    weights, inputs, expected = case(name)
    export(weights, str(tmp_path / "op.onnx"), ExportOptions())
    check(run(tmp_path / "op.onnx", inputs, None), expected)


@pytest.mark.parametrize("framework", ["reference", "pytorch", "tf_slim", "onnx"])
def test_a_power_of_scale_0_reads_nothing_and_one_of_a_half_knows_the_root_of_minus_infinity(framework: str) -> None:
    """power_layer.cpp: a constant where power times scale is 0 in float32, and C's pow."""
    spec = net(
        Power(name="constant", scale=0.0, shift=4.0, power=0.5),
        Power(name="underflow", inputs=("in0",), scale=1e-30, power=1e-30),
        Power(name="root", inputs=("in0",), power=0.5),
        shapes=((3,),),
    )
    subject = reference if framework == "reference" else registry.framework(framework)
    outputs = subject.forward(spec, {}, {"in0": np.array([[np.nan, np.inf, -np.inf]], np.float32)})
    np.testing.assert_array_equal(outputs["constant"], [[2, 2, 2]])
    np.testing.assert_array_equal(outputs["underflow"], [[0, 0, 0]])
    np.testing.assert_array_equal(outputs["root"], [[np.nan, np.inf, np.inf]])
