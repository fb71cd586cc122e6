"""Pooling by Caffe's windows, and what else makes one number of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import LOWEST, ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Unpool
from zoo.reference.arrays import Float64, by_maps, place, windows
from zoo.shapes import Window, interp_size, unpooled, window


def apply(layer: Pooling, inputs: Sequence[Float64]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    x = inputs[0]
    match layer:
        case Pool():
            return _by_windows(_max if layer.mode == "max" else _average, layer, x)
        case PoolMask():
            return _by_windows(_mask, layer, x)
        case Unpool():
            return _unpool(layer, *inputs)
        case Interp():
            return by_maps(partial(_interp, layer), x, interp_size(layer, x.shape[1:]))
        case Reduction():
            return _reduction(layer, x)
        case ArgMax():
            return _arg_max(layer, x)
        case _:
            assert_never(layer)


def _by_windows(work: Callable[[Window, Float64, Float64], None], layer: Pool | PoolMask, x: Float64) -> Float64:
    at = window(layer, x.shape[1:])
    return by_maps(partial(work, at), x, at.out)


def _unpool(layer: Unpool, x: Float64, places: Float64) -> Float64:
    height, width = unpooled(layer, x.shape[1:])
    y = np.zeros((prod(x.shape[:2]), height * width))
    at = np.clip(places.astype(int), 0, height * width - 1).reshape(len(y), -1)
    y[np.arange(len(y))[:, None], at] = x.reshape(len(y), -1)  # of several that meet, NumPy keeps the last
    return y.reshape(*x.shape[:2], height, width)


def _max(at: Window, x: Float64, y: Float64) -> None:
    # A pixel wins by being greater than the best so far, which NaN never is.
    best = _windows(place(x, at.before, at.after, LOWEST), at, np.fmax)
    np.fmax(best, LOWEST, out=y)


def _average(at: Window, x: Float64, y: Float64) -> None:
    # The divisor counts padding, but not the overhang of a rounded-up size.
    def inside(i: int) -> Array:
        start = np.arange(at.out[i]) * at.stride[i]
        return np.minimum(start + at.kernel[i], x.shape[2 + i] + 2 * at.before[i]) - start

    # A window that begins at the edge holds nothing and averages to NaN, 0 / 0; past it Caffe's count is negative.
    with np.errstate(invalid="ignore"):
        total = _windows(place(x, at.before, at.after, 0.0), at, np.add)
        np.divide(total, np.outer(inside(0), inside(1)), out=y)


def _mask(at: Window, x: Float64, y: Float64) -> None:
    """Where in its map the first maximum of each window stands."""
    image = place(x, at.before, at.after, LOWEST)
    best, read = _windows(image, at, np.fmax), windows(image, at.kernel, at.stride, at.out)
    y[...] = 0
    for i, j in reversed([*np.ndindex(at.kernel)]):
        np.copyto(y, i * x.shape[3] + j, where=read[:, :, i, j] == best)
    rows, columns = (np.arange(at.out[i]) * at.stride[i] - at.before[i] for i in (0, 1))
    y += rows[:, None] * x.shape[3] + columns
    np.copyto(y, -1, where=~(best > LOWEST))


def _windows(image: Float64, at: Window, combine: np.ufunc) -> Float64:
    """Every window of a padded image made one number: its columns first, then its rows."""
    for axis, size, stride, out in zip((2, 3), at.kernel, at.stride, at.out, strict=True):
        before = (slice(None),) * axis
        if out == 1:
            image = combine.reduce(image[(*before, slice(size))], axis=axis, keepdims=True)
            continue
        parts = [image[(*before, slice(i, i + stride * (out - 1) + 1, stride))] for i in range(size)]
        image = np.array(parts[0]) if size == 1 else combine(parts[0], parts[1])
        for part in parts[2:]:
            combine(image, part, out=image)
    return image


def _interp(layer: Interp, x: Float64, y: Float64) -> None:
    x = x[:, :, -layer.pad_beg : x.shape[2] + layer.pad_end, -layer.pad_beg : x.shape[3] + layer.pad_end]
    if x.shape == y.shape:  # interp.cpp copies; multiplied by 0, a neighbour that is infinite would be NaN
        y[...] = x
        return
    for axis in (3, 2):
        out, size = y.shape[axis], x.shape[axis]
        at = np.linspace(0, size - 1, out) if out > 1 else np.zeros(1)
        first = at.astype(int)
        share = (at - first).reshape(-1, *[1] * (3 - axis))
        here, there = x.take(first, axis), x.take(np.minimum(first + 1, size - 1), axis)
        here *= 1 - share
        there *= share
        x = np.add(here, there, out=here if axis == 3 else y)


def _reduction(layer: Reduction, x: Float64) -> Float64:
    rows = x.reshape(*x.shape[: layer.axis % x.ndim], -1)
    match layer.operation:
        case "sum":
            return layer.coeff * rows.sum(axis=-1)
        case "asum":
            return layer.coeff * np.abs(rows).sum(axis=-1)
        case "sumsq":
            return layer.coeff * (rows * rows).sum(axis=-1)
        case "mean":
            return layer.coeff * rows.mean(axis=-1)


def _arg_max(layer: ArgMax, x: Float64) -> Float64:
    rows = x.reshape(len(x), -1) if layer.axis is None else np.moveaxis(x, layer.axis, -1)
    if layer.top_k == 1:  # NaN is never the greatest
        order = _last(rows == np.fmax.reduce(rows, axis=-1, keepdims=True))
    else:  # backwards, so that a stable sort puts the last of equals first
        order = rows.shape[-1] - 1 - np.argsort(-rows[..., ::-1], axis=-1, kind="stable")[..., : layer.top_k]
    best = np.take_along_axis(rows, order, axis=-1)
    if layer.axis is not None:
        return np.moveaxis(best if layer.out_max_val else order.astype(np.float64), -1, layer.axis)
    found = np.stack([order, best] if layer.out_max_val else [order], axis=1).astype(np.float64)
    return found.reshape(*found.shape, *[1] * (x.ndim - 3))


def _last(true: Array) -> Array:
    """Where the last True of each row stands; at the end where there is none."""
    return true.shape[-1] - 1 - true[..., ::-1].argmax(axis=-1, keepdims=True)
