"""Pooling by Caffe's windows, and what else makes one number of many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import LOWEST, ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Unpool
from zoo.reference.arrays import Float64, place
from zoo.shapes import Window, interp_size, unpooled, window


def apply(layer: Pooling, inputs: Sequence[Float64]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    x = inputs[0]
    match layer:
        case Pool():
            return _pool(layer, x)
        case PoolMask():
            return _pool_mask(layer, x)
        case Unpool():
            return _unpool(layer, *inputs)
        case Interp():
            return _interp(layer, x)
        case Reduction():
            return _reduction(layer, x)
        case ArgMax():
            return _arg_max(layer, x)
        case _:
            assert_never(layer)


def _cells(image: Float64, at: Window) -> list[Float64]:
    """The pixels of every window of a padded image, one place in the window after the other."""
    (kh, kw), (sh, sw), (oh, ow) = at.kernel, at.stride, at.out
    return [
        image[..., i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw]
        for i, j in product(range(kh), range(kw))
    ]


def _pool_mask(layer: PoolMask, x: Float64) -> Float64:
    at = window(layer, x.shape[1:])
    places = np.arange(float(prod(x.shape[2:]))).reshape(1, 1, *x.shape[2:])
    best, found = np.full((*x.shape[:2], *at.out), LOWEST), np.full((*x.shape[:2], *at.out), -1.0)
    cells = _cells(place(x, at.before, at.after, LOWEST), at)
    for value, where in zip(cells, _cells(place(places, at.before, at.after, -1.0), at), strict=True):
        better = value > best
        best, found = np.where(better, value, best), np.where(better, where, found)
    return found


def _unpool(layer: Unpool, x: Float64, places: Float64) -> Float64:
    height, width = unpooled(layer, x.shape[1:])
    y = np.zeros((*x.shape[:2], height * width))
    rows, at = (numbers.reshape(*x.shape[:2], -1) for numbers in (x, places))
    for i, j in np.ndindex(x.shape[:2]):
        for value, where in zip(rows[i, j], at[i, j], strict=True):
            y[i, j, min(max(int(where), 0), height * width - 1)] = value
    return y.reshape(*x.shape[:2], height, width)


def _pool(layer: Pool, x: Float64) -> Float64:
    at = window(layer, x.shape[1:])
    if layer.mode == "max":
        # A pixel wins by being greater than the best so far, which NaN never is.
        return np.fmax(np.fmax.reduce(_cells(place(x, at.before, at.after, LOWEST), at)), LOWEST)

    # The divisor counts padding, but not the overhang of a rounded-up size.
    def inside(i: int) -> Array:
        start = np.arange(at.out[i]) * at.stride[i]
        return np.minimum(start + at.kernel[i], x.shape[2 + i] + 2 * at.before[i]) - start

    # A window that begins at the edge holds nothing and averages to NaN, 0 / 0; past it Caffe's count is negative.
    with np.errstate(invalid="ignore"):
        return np.add.reduce(_cells(place(x, at.before, at.after, 0.0), at)) / np.outer(inside(0), inside(1))


def _interp(layer: Interp, x: Float64) -> Float64:
    size = interp_size(layer, x.shape[1:])
    x = x[:, :, -layer.pad_beg : x.shape[2] + layer.pad_end, -layer.pad_beg : x.shape[3] + layer.pad_end]
    for axis, out in zip((2, 3), size, strict=True):
        at = np.linspace(0, x.shape[axis] - 1, out) if out > 1 else np.zeros(1)
        first = np.minimum(at.astype(int), max(x.shape[axis] - 2, 0))
        share = (at - first).reshape(-1, *[1] * (3 - axis))
        after = np.minimum(first + 1, x.shape[axis] - 1)
        x = (1 - share) * x.take(first, axis) + share * x.take(after, axis)
    return x


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
    # Backwards, so that a stable sort puts the last of equals first.
    order = rows.shape[-1] - 1 - np.argsort(-rows[..., ::-1], axis=-1, kind="stable")[..., : layer.top_k]
    best = np.take_along_axis(rows, order, axis=-1)
    if layer.axis is not None:
        return np.moveaxis(best if layer.out_max_val else order.astype(np.float64), -1, layer.axis)
    found = np.stack([order, best] if layer.out_max_val else [order], axis=1).astype(np.float64)
    return found.reshape(*found.shape, *[1] * (x.ndim - 3))
