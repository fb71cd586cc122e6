"""Convolutions and dense layers, summed in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, product
from math import prod
from typing import TypeAlias, assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import Conv, Deconv, Dense, Embed, Weighted
from zoo.reference.arrays import Float64, place, windows
from zoo.shapes import deconv_size, window
from zoo.wire.cores import multiply_on_cores


def apply(layer: Weighted, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    match layer:
        case Conv() | Dense():
            return weighted_sums(layer, x, parameters)
        case Deconv():
            return _deconv(layer, x, parameters)
        case Embed():
            rows = _float64(np.take(parameters["weight"], x.astype(np.intp), axis=0, mode="clip"))
            return np.add(rows, _float64(parameters["bias"]), out=rows) if layer.bias else rows
        case _:
            assert_never(layer)


Widened: TypeAlias = Callable[[Array], Array]


def _float64(numbers: Array) -> Array:
    return np.asarray(numbers, np.float64)


def weighted_sums(layer: Conv | Dense, x: Array, parameters: Mapping[str, Array], widened: Widened = _float64) -> Array:
    """A convolution or a dense layer, in float64 or in what else its parameters are made."""
    return _conv(layer, x, parameters, widened) if isinstance(layer, Conv) else _dense(layer, x, parameters, widened)


# So many numbers are laid out for one product of matrices, so that they stay in a core's cache; but no fewer columns
# than make it worth to read the kernels.
_BLOCK, _COLUMNS = 2**18, 256

# Dense weights are widened to float64 as many numbers at a time as stay in a processor's cache: a pass over fc6 is 20
# times as fast as one over a copy of it all, which would take 302 MB.
_AT_ONCE = 1 << 17

# Of so many rows and more, so many numbers of each at a time.
_MANY, _DEPTH = 16, 256


def _conv(layer: Conv, x: Array, parameters: Mapping[str, Array], widened: Widened) -> Array:
    at = window(layer, x.shape[1:])
    image = place(x, at.before, at.after, 0.0)
    image = image.reshape(len(x), layer.groups, x.shape[1] // layer.groups, *image.shape[2:])
    read = windows(image, layer.kernel, layer.stride, at.out, layer.dilation).transpose(1, 2, 3, 4, 0, 5, 6)
    kernels = widened(parameters["weight"]).reshape(layer.groups, layer.out_channels // layer.groups, -1)
    bias = _bias(layer, parameters, widened)
    y = np.empty((len(x), *kernels.shape[:2], *at.out), kernels.dtype)

    def work(block: tuple[slice, slice, slice]) -> None:
        samples, groups, rows = block
        columns = np.ascontiguousarray(read[groups, ..., samples, rows, :], kernels.dtype)
        found = kernels[groups] @ columns.reshape(len(columns), kernels.shape[2], -1)
        found = found.reshape(*found.shape[:2], *columns.shape[4:]).transpose(2, 0, 1, 3, 4)
        _put(found, None if bias is None else bias[groups], y[samples, groups, :, rows])

    multiply_on_cores(work, _blocks(y.shape, kernels.shape[2]))
    return y.reshape(len(x), layer.out_channels, *at.out)


def _bias(layer: Conv | Deconv, parameters: Mapping[str, Array], widened: Widened) -> Array | None:
    return widened(parameters["bias"]).reshape(layer.groups, -1, 1, 1) if layer.bias else None


def _put(found: Array, bias: Array | None, y: Array) -> None:
    np.copyto(y, found) if bias is None else np.add(found, bias, out=y)


def _blocks(shape: tuple[int, ...], products: int) -> list[tuple[slice, slice, slice]]:
    """Samples, groups and rows of an N x G x C x H x W result to be made at a time, each number of so many products."""
    count, groups, _, height, width = shape
    columns = max(_COLUMNS, _BLOCK // products)
    rows = min(height, max(1, columns // width))
    samples = min(max(1, count), max(1, columns // (rows * width)))
    together = max(1, _BLOCK // (products * samples * rows * width))
    return list(product(_steps(count, samples), _steps(groups, together), _steps(height, rows)))


def _steps(size: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, size)) for i in range(0, size, step)]


def _deconv(layer: Deconv, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    size, stride, pad = deconv_size(layer, x.shape[1:]), layer.stride, layer.pad
    read = x.reshape(len(x), layer.groups, x.shape[1] // layer.groups, prod(x.shape[2:]))
    kernels = _float64(parameters["weight"])
    outputs, taps = kernels.shape[1], prod(layer.kernel)
    kernels, bias = kernels.reshape(layer.groups, -1, outputs, taps), _bias(layer, parameters, _float64)
    y = np.empty((len(x), layer.groups, outputs, *size))
    rows, columns = (-(-(size[i] + 2 * pad[i]) // stride[i]) for i in (0, 1))
    channels = max(1, _BLOCK // (taps * read.shape[3]))  # at a time

    def work(block: tuple[int, slice, slice]) -> None:
        sample, groups, made = block
        factors = kernels[groups, :, made]
        factors = factors.reshape(*factors.shape[:2], -1).swapaxes(1, 2)
        found = factors @ read[sample, groups] if factors.shape[2] > 1 else factors * read[sample, groups]
        found = found.reshape(len(factors), -1, *layer.kernel, *x.shape[2:])
        # Pixel (i, j) is at [rests of i and j by the stride, i and j in strides]: what a tap reaches lies side by side.
        whole = np.zeros((*found.shape[:2], *stride, rows, columns))
        for (down, i, above), (right, j, left) in product(*map(_reached, layer.kernel, stride, layer.dilation)):
            part = whole[:, :, above, left, down : down + x.shape[2], right : right + x.shape[3]]
            part += found[:, :, i, j]
        whole = whole.transpose(0, 1, 4, 2, 5, 3).reshape(*whole.shape[:2], rows * stride[0], columns * stride[1])
        found = whole[..., pad[0] : pad[0] + size[0], pad[1] : pad[1] + size[1]]
        _put(found, None if bias is None else bias[groups, made], y[sample, groups, made])

    groups, made = _steps(layer.groups, max(1, channels // outputs)), _steps(outputs, channels)
    multiply_on_cores(work, list(product(range(len(x)), groups, made)))
    return y.reshape(len(x), layer.out_channels, *size)


def _reached(kernel: int, stride: int, dilation: int) -> Iterator[tuple[int, slice, slice]]:
    """Of the taps of an axis those that reach equally many strides far: how many, which they are, which rests."""
    for strides, together in groupby(range(kernel), lambda tap: tap * dilation // stride):
        taps = [*together]
        first, last = (tap * dilation - strides * stride for tap in (taps[0], taps[-1]))
        yield strides, slice(taps[0], taps[-1] + 1), slice(first, last + 1, dilation)


def _dense(layer: Dense, x: Array, parameters: Mapping[str, Array], widened: Widened) -> Array:
    axis, weight = layer.axis % x.ndim, parameters["weight"]
    rows = x.reshape(-1, prod(x.shape[axis:]))
    y = np.zeros((len(rows), layer.out_features), widened(weight[:0]).dtype)
    # Many rows are read again for all outputs, and so a part at a time; few stay in the cache as they are.
    depth = _DEPTH if len(rows) >= _MANY else max(1, rows.shape[1])
    parts = _steps(rows.shape[1], depth)

    def work(some: slice) -> None:
        for part in parts:
            y[:, some] += rows[:, part] @ widened(weight[some, part]).T

    multiply_on_cores(work, _steps(layer.out_features, max(1, _AT_ONCE // depth)))
    y = y.reshape(*x.shape[:axis], layer.out_features)
    if layer.bias:
        y += widened(parameters["bias"])
    return y
