"""The oracle: a NumPy float64 forward pass that *defines* every layer kind.

Written for plainness; each function can be held against the formula in the docstring of its kind in `zoo.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias, assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from zoo.arrays import Array
from zoo.layers import (
    LRN,
    BatchNorm,
    Bias,
    Concat,
    Conv,
    Dense,
    Dropout,
    Eltwise,
    Flatten,
    Layer,
    ModelSpec,
    Pool,
    Power,
    ReLU,
    Scale,
    Sigmoid,
    Slice,
    Softmax,
    TanH,
)
from zoo.shapes import window

Float64: TypeAlias = NDArray[np.float64]

# What Caffe starts a maximum from, and so what it answers for a window that holds no pixel (pooling_layer.cpp).
LOWEST = float(np.finfo(np.float32).min)

# Dense weights are widened to float64 this many rows at a time: fc6 alone would take 302 MB.
_ROWS = 512


def forward(spec: ModelSpec, weights: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Float64]:
    """Run `spec` at inference in float64.

    Args:
        spec: the network.
        weights: canonical name -> array; any float type.
        inputs: input name -> batch, N x shape.

    Returns:
        Every layer's activation under its name, float64, N x shape.
    """
    activations: dict[str, Float64] = {name: np.asarray(x, np.float64) for name, x in inputs.items()}
    wiring = spec.wiring()
    for layer in spec.layers:
        prefix = f"{layer.name}."
        parameters = {name[len(prefix) :]: w for name, w in weights.items() if name.startswith(prefix)}
        activations[layer.name] = apply(layer, [activations[name] for name in wiring[layer.name]], parameters)
    return {layer.name: activations[layer.name] for layer in spec.layers}


def apply(layer: Layer, inputs: Sequence[Float64], parameters: Mapping[str, Array]) -> Float64:
    """One layer.

    Args:
        layer: its description.
        inputs: float64 activations it reads, N x shape each.
        parameters: ``weight``, ``bias``, ``mean``, ``variance``, as the kind has them.
    """
    x = inputs[0]
    match layer:
        case Conv():
            return _conv(layer, x, parameters)
        case Dense():
            return _dense(layer, x, parameters)
        case Pool():
            return _pool(layer, x)
        case LRN():
            return _lrn(layer, x)
        case ReLU():
            return np.where(x > 0, x, layer.negative_slope * x)
        case Sigmoid():
            return 0.5 * (1 + np.tanh(0.5 * x))  # the same function as 1 / (1 + exp(-x)), without its overflow
        case TanH():
            return np.tanh(x)
        case Power():
            return np.power(layer.shift + layer.scale * x, layer.power)
        case Dropout():
            return x
        case Softmax():
            shifted = np.exp(x - x.max(axis=layer.axis, keepdims=True))
            return shifted / shifted.sum(axis=layer.axis, keepdims=True)
        case Flatten():
            first, last = layer.axis % x.ndim, layer.end_axis % x.ndim
            return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])
        case Concat():
            return np.concatenate(inputs, axis=layer.axis)
        case Slice():
            return np.take(x, range(layer.start, layer.stop), axis=layer.axis)
        case Eltwise():
            return _eltwise(layer, inputs)
        case Scale():
            scaled = x * _along(x, layer.axis, inputs[1] if len(inputs) == 2 else parameters["weight"])
            # The bias has no batch axis, wherever the factor comes from.
            return scaled + _along(x, layer.axis % x.ndim or 1, parameters["bias"]) if layer.bias else scaled
        case Bias():
            return x + _along(x, layer.axis, inputs[1] if len(inputs) == 2 else parameters["bias"])
        case BatchNorm():
            return _batch_norm(layer, x, parameters)
        case _:
            assert_never(layer)


def _along(x: Float64, axis: int, parameter: Array) -> Float64:
    """`parameter`, shaped to broadcast over `x` from `axis` on."""
    start = axis % x.ndim
    tail = x.ndim - start - parameter.ndim
    return np.asarray(parameter, np.float64).reshape(*[1] * start, *parameter.shape, *[1] * tail)


def _place(x: Float64, before: Sequence[int], after: Sequence[int], fill: float) -> Float64:
    """`x` with `fill` around its pixels; a negative `after` crops."""
    padded = np.pad(
        x, [(0, 0), (0, 0), *((b, max(a, 0)) for b, a in zip(before, after, strict=True))], constant_values=fill
    )
    height, width = (padded.shape[2 + i] + min(after[i], 0) for i in (0, 1))
    return padded[:, :, :height, :width]


def _conv(layer: Conv, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    at = window(layer, x.shape[1:])
    weight = np.asarray(parameters["weight"], np.float64)
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel, strict=True)]
    views = sliding_window_view(_place(x, at.before, at.after, 0.0), reach, axis=(2, 3))
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    views = views[:, :, ::sh, ::sw, ::dh, ::dw]
    groups = [
        np.tensordot(part, kernels, axes=([1, 4, 5], [1, 2, 3]))
        for part, kernels in zip(
            np.split(views, layer.groups, axis=1), np.split(weight, layer.groups, axis=0), strict=True
        )
    ]
    y = np.moveaxis(np.concatenate(groups, axis=-1), -1, 1)
    return y + _along(y, 1, parameters["bias"]) if layer.bias else np.ascontiguousarray(y)


def _dense(layer: Dense, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    axis, weight = layer.axis % x.ndim, parameters["weight"]
    rows = x.reshape(*x.shape[:axis], -1)
    y = np.empty((*rows.shape[:-1], layer.out_features))
    for start in range(0, layer.out_features, _ROWS):
        y[..., start : start + _ROWS] = rows @ np.asarray(weight[start : start + _ROWS], np.float64).T
    return y + np.asarray(parameters["bias"], np.float64) if layer.bias else y


def _pool(layer: Pool, x: Float64) -> Float64:
    at = window(layer, x.shape[1:])
    (kh, kw), (sh, sw), (oh, ow) = at.kernel, at.stride, at.out

    def cells(image: Float64) -> list[Float64]:
        return [
            image[..., i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
            for i, j in product(range(kh), range(kw))
        ]

    if layer.mode == "max":
        return np.maximum.reduce(cells(_place(x, at.before, at.after, LOWEST)))

    # The divisor counts padding, but not the overhang of a rounded-up size.
    def inside(i: int) -> Array:
        start = np.arange(at.out[i]) * at.stride[i]
        return np.minimum(start + at.kernel[i], x.shape[2 + i] + 2 * at.before[i]) - start

    # A window that begins at the edge holds nothing and averages to NaN, 0 / 0; past it Caffe's count is negative.
    with np.errstate(invalid="ignore"):
        return np.add.reduce(cells(_place(x, at.before, at.after, 0.0))) / np.outer(inside(0), inside(1))


def _lrn(layer: LRN, x: Float64) -> Float64:
    reach, squares = layer.size // 2, x * x
    if layer.region == "within":
        padded = np.pad(squares, [(0, 0), (0, 0), (reach, reach), (reach, reach)])
        total = sliding_window_view(padded, (layer.size, layer.size), axis=(2, 3)).sum(axis=(-2, -1))
        return x * (layer.k + layer.alpha / layer.size**2 * total) ** -layer.beta
    channels = x.shape[1] // layer.towers
    split = squares.reshape(x.shape[0], layer.towers, channels, *x.shape[2:])
    padded = np.pad(split, [(0, 0), (0, 0), (reach, reach), *[(0, 0)] * (x.ndim - 2)])
    total = np.add.reduce([padded[:, :, i : i + channels] for i in range(layer.size)]).reshape(x.shape)
    return x * (layer.k + layer.alpha / layer.size * total) ** -layer.beta


def _eltwise(layer: Eltwise, inputs: Sequence[Float64]) -> Float64:
    match layer.operation:
        case "sum":
            coeffs = layer.coeffs or (1.0,) * len(inputs)
            return np.add.reduce([c * x for c, x in zip(coeffs, inputs, strict=True)])
        case "prod":
            return np.multiply.reduce(list(inputs))
        case "max":
            return np.maximum.reduce(list(inputs))


def _batch_norm(layer: BatchNorm, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean = x.mean(axis=axes) if layer.batch_stats else parameters["mean"]
    variance = x.var(axis=axes) if layer.batch_stats else parameters["variance"]
    return (x - _along(x, 1, mean)) / np.sqrt(_along(x, 1, variance) + layer.eps)
