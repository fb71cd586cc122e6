"""Normalisation as LRN, BatchNormalization and Softmax, or in elementary operators."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import assert_never

import numpy as np

from zoo.axes import axis_index
from zoo.frameworks.onnx.builder import Builder, parameters
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Shape, Softmax


def add(g: Builder, layer: Normalising, x: str, shape: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    match layer:
        case LRN():
            _lrn(g, layer, x, shape)
        case BatchNorm():
            _batch_norm(g, layer, x, shape)
        case Normalize():
            _normalize(g, layer, x, shape)
        case MVN():
            _mvn(g, layer, x, shape)
        case Softmax():
            _softmax(g, layer, x, shape)
        case _:
            assert_never(layer)


def _softmax(g: Builder, layer: Softmax, x: str, shape: Shape) -> None:
    axis, last = axis_index(layer.name, layer.axis, shape), len(shape)
    if g.opset >= 13 or axis == last:
        g.last(layer, "Softmax", x, axis=axis)
        return
    # Once all axes from one on were one: the axis has to stand last, with nothing after it.
    order = (*(i for i in range(last + 1) if i != axis), axis)
    back = tuple(order.index(i) for i in range(last + 1))
    rows = g.step(layer, "of_rows", "Softmax", g.step(layer, "rows", "Transpose", x, perm=order), axis=last)
    g.last(layer, "Transpose", rows, perm=back)


# The fast LRN sums a window by convolution up to this many channels a tower (it costs channels^2), by pooling beyond.
_NARROW_TOWER = 64
# ONNX Runtime pools rows up to about 2048 numbers with vector instructions, longer ones an order slower.
_LONGEST_ROW = 2000


def _lrn(g: Builder, layer: LRN, x: str, shape: Shape) -> None:
    if layer.region == "within":
        squares = g.step(layer, "squares", "Mul", x, x)
        reach = layer.size // 2
        mean = g.step(
            layer,
            "mean",
            "AveragePool",
            squares,
            kernel_shape=(layer.size, layer.size),
            pads=(reach,) * 4,
            count_include_pad=1,
        )
        g.last(layer, "Mul", x, _inverse_power(g, layer, _base_of_mean(g, layer, mean)))
        return
    # ONNX Runtime's own operator wants alpha and beta positive.
    if (g.fast_lrn or min(layer.alpha, layer.beta) <= 0) and len(shape) == 3:
        _fast_lrn(g, layer, x, shape)
        return
    attributes = {"size": layer.size, "alpha": float(layer.alpha), "beta": float(layer.beta), "bias": float(layer.k)}
    if layer.towers == 1 and len(shape) == 3:
        g.last(layer, "LRN", x, **attributes)
        return
    # A tower becomes an image of its own, so that no window reaches over its boundary.
    area = shape[1:] if len(shape) == 3 else (prod(shape[1:]), 1)
    towers = g.reshape(layer, "towers", x, -1, shape[0] // layer.towers, *area)
    normed = g.step(layer, "normed", "LRN", towers, **attributes)
    g.last(layer, "Reshape", normed, g.integers(layer, "shape", -1, *shape))


def _fast_lrn(g: Builder, layer: LRN, x: str, shape: Shape) -> None:
    """LRN in elementary operators; which ones is a matter of what ONNX Runtime 1.32 was measured to run fastest."""
    if shape[0] // layer.towers <= _NARROW_TOWER:
        squares = g.step(layer, "squares", "Mul", x, x)
        inverse = _inverse_power(g, layer, _base_by_convolution(g, layer, squares, shape[0]))
        # Past a pool that pools nothing: products of what convolutions and pools wrote stay in the blocked layout that
        # these work in, and the maps are not laid out anew for them.
        g.last(layer, "Mul", x, g.step(layer, "factor", "MaxPool", inverse, kernel_shape=(1, 1)))
        return
    # Channels become an axis to pool over, a tower at a time; the pixels of a map stand in rows as long as pay off.
    pixels = prod(shape[1:])
    row = max(size for size in range(1, min(pixels, _LONGEST_ROW) + 1) if pixels % size == 0)
    area = (row,) if row == pixels else (pixels // row, row)
    towers = g.reshape(layer, "towers", x, -1, 1, shape[0] // layer.towers, *area)
    squares = g.step(layer, "squares", "Mul", towers, towers)
    kernel, pads = (layer.size, *[1] * len(area)), (layer.size // 2, *[0] * len(area))
    mean = g.step(layer, "mean", "AveragePool", squares, kernel_shape=kernel, pads=pads * 2, count_include_pad=1)
    normed = g.step(layer, "normed", "Mul", towers, _inverse_power(g, layer, _base_of_mean(g, layer, mean)))
    g.last(layer, "Reshape", normed, g.integers(layer, "shape", -1, *shape))


def _base_by_convolution(g: Builder, layer: LRN, squares: str, channels: int) -> str:
    """``k + alpha / n * sum`` as a 1 x 1 convolution with a band of alpha / n and the bias k."""
    size = channels // layer.towers
    at = np.arange(size)
    band = (np.abs(at[:, None] - at) <= layer.size // 2) * np.float32(layer.alpha / layer.size)
    kernel = g.kernel(layer, "band", np.tile(band, (layer.towers, 1))[:, :, None, None])
    bias = g.kernel(layer, "k", np.full(channels, layer.k))
    return g.step(layer, "base", "Conv", squares, kernel, bias, kernel_shape=(1, 1), group=layer.towers)


def _base_of_mean(g: Builder, layer: LRN, mean: str) -> str:
    """``k + alpha * mean``."""
    scaled = g.step(layer, "scaled", "Mul", mean, g.floats(layer, "alpha", layer.alpha))
    return g.step(layer, "base", "Add", scaled, g.floats(layer, "k", layer.k))


def _inverse_power(g: Builder, layer: LRN, base: str) -> str:
    """``base ^ -beta``."""
    if layer.beta != 0.75:
        return g.step(layer, "inverse", "Pow", base, g.floats(layer, "minus_beta", -layer.beta))
    # s^(-3/4) is s^(1/4) / s, by two square roots: a general power costs more than the rest of the layer.
    root = g.step(layer, "root", "Sqrt", base)
    return g.step(layer, "inverse", "Div", g.step(layer, "fourth_root", "Sqrt", root), base)


def _batch_norm(g: Builder, layer: BatchNorm, x: str, shape: Shape) -> None:
    if not layer.batch_stats:
        one, zero = g.floats(layer, "one", np.ones(shape[0])), g.floats(layer, "zero", np.zeros(shape[0]))
        statistics = parameters(layer, "mean", "variance")
        g.last(layer, "BatchNormalization", x, one, zero, *statistics, epsilon=float(layer.eps))
        return
    mean = partial(_mean, g, layer, (0, *range(2, len(shape) + 1)))
    centred = g.step(layer, "centred", "Sub", x, mean("mean", x))
    variance = mean("variance", g.step(layer, "squares", "Mul", centred, centred))
    steady = g.step(layer, "steady", "Add", variance, g.floats(layer, "eps", layer.eps))
    g.last(layer, "Div", centred, g.step(layer, "deviation", "Sqrt", steady))


def _mvn(g: Builder, layer: MVN, x: str, shape: Shape) -> None:
    mean = partial(_mean, g, layer, (1, 2, 3) if layer.across_channels else (2, 3))
    image = g.reshape(layer, "image", x, -1, *shape)
    if not layer.normalize_variance:
        g.last(layer, "Sub", image, mean("mean", image))
        return
    centred = g.step(layer, "centred", "Sub", image, mean("mean", image))
    variance = mean("variance", g.step(layer, "squares", "Mul", centred, centred))
    deviation = g.step(layer, "deviation", "Sqrt", variance)
    g.last(layer, "Div", centred, g.step(layer, "steady", "Add", deviation, g.floats(layer, "eps", layer.eps)))


def _normalize(g: Builder, layer: Normalize, x: str, shape: Shape) -> None:
    axes = tuple(range(1, len(shape) + 1)) if layer.across_spatial else (1,)
    squares = g.step(layer, "squares", "Mul", x, x)
    total = g.reduce(layer, "total", "ReduceSum", squares, axes, keepdims=True)
    norm = g.step(layer, "norm", "Sqrt", g.step(layer, "steady", "Add", total, g.floats(layer, "eps", layer.eps)))
    (weight,) = parameters(layer, "weight")
    if not layer.shared and len(shape) > 1:
        weight = g.reshape(layer, "weight_spread", weight, -1, *[1] * (len(shape) - 1))
    g.last(layer, "Mul", g.step(layer, "unit", "Div", x, norm), weight)


def _mean(g: Builder, layer: Normalising, axes: tuple[int, ...], what: str, source: str) -> str:
    """The mean over some axes, which are kept as 1."""
    return g.reduce(layer, what, "ReduceMean", source, axes, keepdims=True)
