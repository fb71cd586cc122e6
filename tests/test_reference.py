"""The oracle against its own definitions, written out number by number. Real Caffe's answers are in test_ops."""

import os
from typing import Literal

import numpy as np
import pytest

from converters.parity import probe_weights
from zoo.layers import (
    LOWEST,
    LRN,
    BatchNorm,
    Conv,
    Deconv,
    Dense,
    DetectionOutput,
    Eltwise,
    Input,
    Interp,
    ModelSpec,
    Pair,
    Pool,
    PoolMask,
    Power,
    ReLU,
    Sigmoid,
    Softmax,
)
from zoo.reference import apply, arrays, forward, weighted
from zoo.shapes import deconv_size
from zoo.wire import cores

RNG = np.random.default_rng(0)


def test_grouped_strided_dilated_convolution_number_by_number() -> None:
    layer = Conv(name="c", out_channels=4, kernel=(3, 2), stride=(2, 1), pad=(1, 0), dilation=(1, 2), groups=2)
    x, w, b = RNG.normal(size=(2, 6, 7, 5)), RNG.normal(size=(4, 3, 3, 2)), RNG.normal(size=4)
    y = apply(layer, [x], {"weight": w, "bias": b})
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 0)])
    assert y.shape == (2, 4, 4, 3)
    for n, o, i, j in np.ndindex(*y.shape):
        group = o // 2
        total = b[o] + sum(
            padded[n, group * 3 + c, 2 * i + u, j + 2 * v] * w[o, c, u, v] for c, u, v in np.ndindex(3, 3, 2)
        )
        assert y[n, o, i, j] == pytest.approx(total)


def test_a_convolution_that_rounds_up_reads_zeros_past_the_edge() -> None:
    layer = Conv(name="c", out_channels=1, kernel=(3, 3), stride=(2, 2), bias=False, rounding="ceil")
    x, w = RNG.normal(size=(1, 1, 6, 6)), RNG.normal(size=(1, 1, 3, 3))
    y = apply(layer, [x], {"weight": w})
    assert y.shape == (1, 1, 3, 3)
    assert y[0, 0, 2, 2] == pytest.approx((x[0, 0, 4:6, 4:6] * w[0, 0, :2, :2]).sum())


def test_a_kernel_overhangs_by_less_than_a_stride_and_reads_zeros_there() -> None:
    """im2col.cpp: one position, at the padded beginning."""
    layer = Conv(name="c", out_channels=1, kernel=(5, 2), stride=(3, 2), pad=(1, 0), bias=False)
    x, w = RNG.normal(size=(1, 1, 2, 4)), RNG.normal(size=(1, 1, 5, 2))
    y = apply(layer, [x], {"weight": w})
    assert y.shape == (1, 1, 1, 2)
    assert y[0, 0, 0, 1] == pytest.approx((x[0, 0, :, 2:4] * w[0, 0, 1:3]).sum())


BLOCKS = {
    "rows": Conv(name="c", out_channels=6, kernel=(3, 2), stride=(2, 1), pad=(1, 2), dilation=(1, 2), groups=2),
    "samples": Conv(name="c", out_channels=4, kernel=(9, 8)),
    "a group a channel": Conv(name="c", out_channels=8, kernel=(2, 2), groups=8, bias=False),
    "single pixels": Conv(name="c", out_channels=3, kernel=(1, 1), stride=(2, 2)),
    "transposed": Deconv(name="c", out_channels=6, kernel=(3, 2), stride=(2, 1), pad=(1, 0), groups=2),
    "transposed, a group a channel": Deconv(name="c", out_channels=8, kernel=(4, 4), stride=(2, 2), groups=8),
    "dense": Dense(name="c", out_features=7),
}


# Of transposed convolutions: kernel, stride, dilation, pad.
TRANSPOSED = [
    ((3, 2), (2, 3), (1, 1), (1, 0)),
    ((4, 5), (3, 2), (2, 3), (2, 1)),
    ((2, 3), (1, 4), (5, 4), (0, 3)),
    ((1, 4), (3, 3), (1, 2), (0, 2)),
]

# What is made of a map, or of the channels of a place, by itself.
PARTS = {
    "max": Pool(name="p", mode="max", kernel=(3, 2), stride=(2, 1), pad=(1, 0)),
    "ave": Pool(name="p", mode="ave", kernel=(2, 3), stride=(2, 2)),
    "mask": PoolMask(name="p", kernel=(3, 3), stride=(2, 2)),
    "interp": Interp(name="p", zoom=3),
    "across": LRN(name="p", size=3, alpha=0.5, beta=0.75, towers=2),
    "within": LRN(name="p", size=3, alpha=0.5, beta=0.6, region="within"),
}


def test_a_relu_of_minus_infinity_is_what_caffe_multiplies_out() -> None:
    """relu_layer.cpp: max(x, 0) + slope * min(x, 0), and 0 x Inf is NaN."""
    with np.errstate(invalid="ignore"):
        (y,) = apply(ReLU(name="r"), [np.array([[-np.inf, -2.0, 0.0, 3.0, np.inf, np.nan]])], {})
    np.testing.assert_array_equal(y, [np.nan, 0, 0, 3, np.inf, np.nan])


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("alone", [True, False], ids=["a product a core", "NumPy's own threads"])
def test_sums_of_products_are_the_same_in_blocks_of_any_size(
    name: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec(name="n", title="n", inputs=(Input(name="x", shape=(8, 9, 8)),), layers=(BLOCKS[name],))
    weights = probe_weights(spec).tensors
    inputs = {"x": RNG.normal(size=(5, 8, 9, 8))}
    whole = forward(spec, weights, inputs)["c"]
    if not alone:
        monkeypatch.setattr(cores, "_pools", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    for block, columns in ((1, 1), (60, 10), (700, 150)):
        monkeypatch.setattr(weighted, "_BLOCK", block)
        monkeypatch.setattr(weighted, "_COLUMNS", columns)
        monkeypatch.setattr(weighted, "_AT_ONCE", block)
        np.testing.assert_allclose(forward(spec, weights, inputs)["c"], whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "pad"), TRANSPOSED)
def test_a_transposed_convolution_puts_every_product_where_its_definition_does(
    kernel: Pair, stride: Pair, dilation: Pair, pad: Pair
) -> None:
    layer = Deconv(name="c", out_channels=4, kernel=kernel, stride=stride, dilation=dilation, pad=pad, groups=2)
    x, w, b = RNG.normal(size=(2, 6, 3, 4)), RNG.normal(size=(6, 2, *kernel)), RNG.normal(size=4)
    (height, width), (ph, pw) = deconv_size(layer, x.shape[1:]), pad
    full = np.zeros((2, 4, height + 2 * ph, width + 2 * pw))
    for c, o, i, j in np.ndindex(6, 2, *kernel):
        for h, v in np.ndindex(3, 4):
            at = stride[0] * h + dilation[0] * i, stride[1] * v + dilation[1] * j
            full[:, c // 3 * 2 + o, *at] += x[:, c, h, v] * w[c, o, i, j]
    y = apply(layer, [x], {"weight": w, "bias": b})
    expected = full[:, :, ph : ph + height, pw : pw + width] + b[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PARTS)
def test_maps_and_places_are_the_same_in_parts_of_any_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG.normal(size=(3, 6, 7, 5))
    whole = apply(PARTS[name], [x], {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    for part in (1, 40, 150):
        monkeypatch.setattr(arrays, "_PART", part)
        np.testing.assert_array_equal(apply(PARTS[name], [x], {}), whole)


def test_what_interp_does_not_enlarge_is_copied_and_its_last_row_has_no_neighbour() -> None:
    """interp.cpp copies equal sizes, and its last row and column are their own neighbours."""
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = np.inf
    np.testing.assert_array_equal(apply(Interp(name="i", zoom=1), [x], {}), x)
    with np.errstate(invalid="ignore"):
        y = apply(Interp(name="i", zoom=2), [x], {})
    np.testing.assert_array_equal([*y[0, 0, -1], *y[0, 0, :, -1]], 0)


def test_an_empty_batch_has_an_empty_answer() -> None:
    for layer in BLOCKS.values():
        spec = ModelSpec(name="n", title="n", inputs=(Input(name="x", shape=(8, 9, 8)),), layers=(layer,))
        assert len(forward(spec, probe_weights(spec).tensors, {"x": np.empty((0, 8, 9, 8))})["c"]) == 0


def test_the_window_of_lrn_stops_at_the_tower_boundary() -> None:
    x = RNG.normal(size=(1, 8, 1, 1)) * 60
    both, alone = (LRN(name="n", size=5, alpha=1e-4, beta=0.75, k=2.0, towers=t) for t in (1, 2))
    whole, towers = apply(both, [x], {}), apply(alone, [x], {})
    halves = np.concatenate([apply(both, [half], {}) for half in np.split(x, 2, axis=1)], axis=1)
    np.testing.assert_array_equal(towers, halves)
    assert abs(whole - towers)[0, 2:6].min() > 0
    squares = (x[0, 1:6, 0, 0] ** 2).sum()
    assert whole[0, 3, 0, 0] == pytest.approx(x[0, 3, 0, 0] * (2 + 1e-4 / 5 * squares) ** -0.75)


@pytest.mark.parametrize(("region", "axes"), [("across", 1), ("within", 2)])
def test_a_window_of_lrn_far_wider_than_what_it_reads_costs_no_more(
    region: Literal["across", "within"], axes: int
) -> None:
    x = RNG.normal(size=(1, 4, 3, 3)) * 60
    near, far = (
        LRN(name="n", size=size, alpha=float(size**axes), beta=0.75, region=region) for size in (7, 999_999_999)
    )
    np.testing.assert_allclose(apply(far, [x], {}), apply(near, [x], {}), rtol=1e-12)


def test_pooling_padding_never_wins_and_overhang_is_not_counted() -> None:
    x = -np.ones((1, 1, 4, 4))
    top = apply(Pool(name="p", mode="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1)), [x], {})
    assert top.max() == -1
    ave = apply(Pool(name="p", mode="ave", kernel=(3, 3), stride=(2, 2)), [x], {})
    np.testing.assert_allclose(ave, -1)  # the last windows hold fewer pixels, and divide by as many
    padded = apply(Pool(name="p", mode="ave", kernel=(3, 3), stride=(2, 2), pad=(1, 1)), [x], {})
    assert padded[0, 0, 0, 0] == pytest.approx(-4 / 9)
    empty = apply(Pool(name="p", mode="max", kernel=(1, 1), stride=(2, 2)), [x], {})
    assert empty.shape[-1] == 3
    assert empty[0, 0, 2, 2] == LOWEST


def test_dense_flattens_in_channel_row_column_order() -> None:
    x, w = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(700, 60))
    y = apply(Dense(name="f", out_features=700, bias=False), [x], {"weight": w})
    np.testing.assert_allclose(y, np.einsum("nchw,ochw->no", x, w.reshape(700, 3, 4, 5)))


def test_extremes_do_not_overflow() -> None:
    x = np.array([[-1e4, 0.0, 1e4]])
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(apply(Sigmoid(name="s"), [x], {}), [[0, 0.5, 1]], atol=1e-12)
        np.testing.assert_allclose(apply(Softmax(name="s"), [x], {}), [[0, 0, 1]], atol=1e-12)


def test_batch_statistics_are_the_batch_s_own() -> None:
    x = RNG.normal(3, 2, size=(8, 2, 4, 4))
    y = apply(BatchNorm(name="b", eps=0, batch_stats=True), [x], {})
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1)


def test_a_network_gives_every_activation_under_its_name() -> None:
    layers = (Dense(name="a", out_features=2), ReLU(name="b"), ReLU(name="c", inputs=("a",), negative_slope=0.5))
    spec = ModelSpec(name="m", title="", inputs=(Input(shape=(3,)),), layers=layers)
    w = np.array([[1, 0, 0], [0, -1, 0]], np.float32)
    out = forward(spec, {"a.weight": w, "a.bias": np.zeros(2, np.float32)}, {"data": np.ones((1, 3), np.float32)})
    assert {name: y.tolist() for name, y in out.items()} == {"a": [[1, -1]], "b": [[1, 0]], "c": [[1, -0.5]]}


def test_nan_never_wins_a_maximum() -> None:
    x = np.array([[[[np.nan, 1.0], [-2.0, np.nan]]]])
    layer = Pool(name="p", mode="max", kernel=(2, 1))
    np.testing.assert_array_equal(apply(layer, [x], {}), [[[[-2.0, 1.0]]]])
    assert apply(layer, [np.full((1, 1, 2, 1), np.nan)], {}).item() == LOWEST


def test_the_larger_of_several_takes_nan_as_the_comparison_does() -> None:
    layer, nan = Eltwise(name="e", operation="max"), np.nan
    first, second, third = np.array([[nan, 1.0, 1.0]]), np.array([[2.0, nan, 2.0]]), np.array([[1.0, 3.0, nan]])
    np.testing.assert_array_equal(apply(layer, [first, second], {}), [[2.0, nan, 2.0]])
    np.testing.assert_array_equal(apply(layer, [first, second, third], {}), [[2.0, nan, 2.0]])


def test_a_power_of_zero_keeps_its_sign_and_a_constant_reads_nothing() -> None:
    x = np.array([[0.0, -0.0, np.nan, np.inf]])
    np.testing.assert_array_equal(apply(Power(name="p", power=-1.0), [x], {}), [[np.inf, -np.inf, np.nan, 0.0]])
    np.testing.assert_array_equal(apply(Power(name="p", power=2.0, scale=0.0, shift=3.0), [x], {}), np.full((1, 4), 9))
    np.testing.assert_array_equal(apply(Power(name="p", power=0.0), [x], {}), np.ones((1, 4)))
    assert apply(Power(name="p", power=0.5), [np.array([[-np.inf]])], {}).item() == np.inf


def test_of_boxes_that_overlap_the_best_stays_and_a_threshold_may_fall() -> None:
    boxes = np.array([[0, 0, 4, 4], [0, 1, 4, 5], [0, 2, 4, 6], [8, 8, 9, 9], [5, 5, 4, 4]], float)
    shared = 12 / 20  # of the first two, and of the second and third; of the first and third: 8 / 24
    priors = np.stack([boxes.ravel(), np.ones(20)])[None]
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]])
    for overlap, eta, kept in ((shared + 0.01, 1.0, 5), (shared - 0.01, 1.0, 4), (shared + 0.01, 0.5, 3)):
        layer = DetectionOutput(name="d", classes=1, background=-1, code="corner", overlap=overlap, eta=eta)
        found = apply(layer, [np.zeros((1, 20)), scores, priors], {})
        assert found.shape == (1, 1, kept, 7), (overlap, eta)
