"""Convolutions and dense layers, summed in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any, TypeAlias, assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import Conv, Deconv, Dense, Embed, Weighted
from zoo.reference.arrays import Float64, along, cells, place
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
            rows = np.take(parameters["weight"], x.astype(np.intp), axis=0, mode="clip").astype(np.float64)
            return rows + _float64(parameters["bias"]) if layer.bias else rows
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
    kernels = widened(parameters["weight"]).reshape(layer.groups, layer.out_channels // layer.groups, -1)
    y = np.empty((len(x), *kernels.shape[:2], *at.out), kernels.dtype)
    reach = layer.dilation[0] * (layer.kernel[0] - 1) + 1

    def work(block: tuple[slice, slice, slice]) -> None:
        samples, groups, rows = block
        pixels = image[samples, groups, :, rows.start * layer.stride[0] : (rows.stop - 1) * layer.stride[0] + reach]
        pixels = pixels.transpose(1, 2, 0, 3, 4)
        size = (rows.stop - rows.start, at.out[1])
        taken = cells(pixels, layer.kernel, layer.stride, size, layer.dilation)
        columns = _laid_out(taken, (*pixels.shape[:2], prod(layer.kernel), len(y[samples]), *size), kernels.dtype)
        found = kernels[groups] @ columns.reshape(len(columns), kernels.shape[2], -1)
        y[samples, groups, :, rows] = found.reshape(*found.shape[:2], -1, *size).transpose(2, 0, 1, 3, 4)

    multiply_on_cores(work, _blocks(y.shape, kernels.shape[2]))
    y = y.reshape(len(x), layer.out_channels, *at.out)
    if layer.bias:
        y += along(y, 1, widened(parameters["bias"]))
    return y


def _laid_out(taken: Iterator[Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """G x C x K x N x H x W, of K times G x C x N x H x W; a single one as it is."""
    if shape[2] == 1:
        return next(taken)
    columns = np.empty(shape, dtype)
    for i, cell in enumerate(taken):
        columns[:, :, i] = cell
    return columns


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
    (height, width), (ph, pw) = deconv_size(layer, x.shape[1:]), layer.pad
    read = x.reshape(len(x), layer.groups, x.shape[1] // layer.groups, prod(x.shape[2:]))
    kernels = _float64(parameters["weight"])
    outputs, taps = kernels.shape[1], prod(layer.kernel)
    kernels = kernels.reshape(layer.groups, -1, outputs, taps)
    full = np.zeros((len(x), layer.groups, outputs, height + 2 * ph, width + 2 * pw))
    channels = max(1, _BLOCK // (taps * read.shape[3]))  # at a time

    def work(block: tuple[int, slice, slice]) -> None:
        sample, groups, made = block
        factors = kernels[groups, :, made]
        factors = factors.reshape(*factors.shape[:2], -1).swapaxes(1, 2)
        found = factors @ read[sample, groups] if factors.shape[2] > 1 else factors * read[sample, groups]
        parts = found.reshape(len(factors), -1, taps, *x.shape[2:])
        reached = cells(full[sample, groups, made], layer.kernel, layer.stride, x.shape[2:], layer.dilation)
        for i, cell in enumerate(reached):
            cell += parts[:, :, i]

    groups, made = _steps(layer.groups, max(1, channels // outputs)), _steps(outputs, channels)
    multiply_on_cores(work, list(product(range(len(x)), groups, made)))
    y = full.reshape(len(x), layer.out_channels, *full.shape[3:])[:, :, ph : ph + height, pw : pw + width]
    return y + along(y, 1, parameters["bias"]) if layer.bias else np.ascontiguousarray(y)


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
