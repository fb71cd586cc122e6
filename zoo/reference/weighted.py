"""Convolutions and dense layers, summed in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from zoo.arrays import Array
from zoo.layers import Conv, Deconv, Dense, Embed, Weighted
from zoo.reference.arrays import Float64, along, place
from zoo.shapes import deconv_size, window


def apply(layer: Weighted, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    match layer:
        case Conv():
            return _conv(layer, x, parameters)
        case Deconv():
            return _deconv(layer, x, parameters)
        case Dense():
            return _dense(layer, x, parameters)
        case Embed():
            rows = np.asarray(parameters["weight"], np.float64)[np.clip(x.astype(int), 0, layer.rows - 1)]
            return rows + np.asarray(parameters["bias"], np.float64) if layer.bias else rows
        case _:
            assert_never(layer)


# Dense weights are widened to float64 as many numbers at a time as stay in a processor's cache: a pass over fc6 is 20
# times as fast as one over a copy of it all, which would take 302 MB.
AT_ONCE = 1 << 17


def _conv(layer: Conv, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    at = window(layer, x.shape[1:])
    weight = np.asarray(parameters["weight"], np.float64)
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel, strict=True)]
    views = sliding_window_view(place(x, at.before, at.after, 0.0), reach, axis=(2, 3))
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    views = views[:, :, ::sh, ::sw, ::dh, ::dw]
    groups = [
        np.tensordot(part, kernels, axes=([1, 4, 5], [1, 2, 3]))
        for part, kernels in zip(
            np.split(views, layer.groups, axis=1), np.split(weight, layer.groups, axis=0), strict=True
        )
    ]
    y = np.moveaxis(np.concatenate(groups, axis=-1), -1, 1)
    return y + along(y, 1, parameters["bias"]) if layer.bias else np.ascontiguousarray(y)


def _deconv(layer: Deconv, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    weight, (height, width) = np.asarray(parameters["weight"], np.float64), deconv_size(layer, x.shape[1:])
    (sh, sw), (ph, pw), (dh, dw) = layer.stride, layer.pad, layer.dilation
    full = np.zeros((len(x), layer.out_channels, height + 2 * ph, width + 2 * pw))
    outputs, rows, columns = layer.out_channels // layer.groups, sh * (x.shape[2] - 1) + 1, sw * (x.shape[3] - 1) + 1
    for g, (part, kernels) in enumerate(
        zip(np.split(x, layer.groups, axis=1), np.split(weight, layer.groups, axis=0), strict=True)
    ):
        y = full[:, g * outputs : (g + 1) * outputs]
        for u, v in np.ndindex(layer.kernel):
            reached = y[:, :, u * dh : u * dh + rows : sh, v * dw : v * dw + columns : sw]
            reached += np.einsum("nchw,co->nohw", part, kernels[:, :, u, v])
    y = full[:, :, ph : ph + height, pw : pw + width]
    return y + along(y, 1, parameters["bias"]) if layer.bias else np.ascontiguousarray(y)


def _dense(layer: Dense, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    axis, weight = layer.axis % x.ndim, parameters["weight"]
    rows = x.reshape(*x.shape[:axis], -1)
    y = np.empty((*rows.shape[:-1], layer.out_features))
    count = max(1, AT_ONCE // max(1, rows.shape[-1]))
    for start in range(0, layer.out_features, count):
        y[..., start : start + count] = rows @ np.asarray(weight[start : start + count], np.float64).T
    return y + np.asarray(parameters["bias"], np.float64) if layer.bias else y
