"""What the families share: parameters broadcast over an activation, images with a border, and windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Array
from zoo.layers import Pair
from zoo.wire.cores import cores, in_cache, map_on_cores

Float64: TypeAlias = NDArray[np.float64]


def by_parts(work: Callable[..., Float64], *arrays: Float64) -> Float64:
    """`work`, which makes a number of those at its place alone, of arrays that are broadcast to one shape.

    Done for as many at a time as stay in a core's cache, with what is made of them on the way.
    """
    arrays = np.broadcast_arrays(*arrays)
    y = np.empty(arrays[0].shape)
    parts = [*in_cache(y.shape)]
    some = -(-len(parts) // cores())

    def made(first: int) -> None:
        for part in parts[first : first + some]:
            y[part] = work(*(array[part] for array in arrays))

    map_on_cores(made, range(0, len(parts), max(1, some)))
    return y


# So many numbers stay in a core's cache with the several maps that are made of them on the way.
_PART = 2**15


def by_maps(work: Callable[[Float64], Float64], x: Float64) -> Float64:
    """`work`, which makes each map of 1 x M x H x W one by itself, of the maps of N x C x H x W.

    Done for as many at a time as stay in a core's cache. Threads are no quicker: these are many short calls, and each
    waits for the interpreter.
    """
    maps = x.reshape(1, -1, *x.shape[2:])
    step = max(1, _PART // max(1, prod(x.shape[2:])))
    first = work(maps[:, :step])
    y = np.empty((1, maps.shape[1], *first.shape[2:]))
    y[:, :step] = first
    for i in range(step, maps.shape[1], step):
        y[:, i : i + step] = work(maps[:, i : i + step])
    return y.reshape(*x.shape[:2], *y.shape[2:])


def along(x: Float64, axis: int, parameter: Array) -> Float64:
    """`parameter`, shaped to broadcast over `x` from `axis` on."""
    start = axis % x.ndim
    tail = x.ndim - start - parameter.ndim
    return np.asarray(parameter, np.float64).reshape(*[1] * start, *parameter.shape, *[1] * tail)


def place(x: Array, before: Pair, after: Pair, fill: float) -> Array:
    """`x` with `fill` around its pixels; a negative `after` crops. Where nothing is added, no copy."""
    height, width = (x.shape[2 + i] + min(after[i], 0) for i in (0, 1))
    cropped = x[:, :, :height, :width]
    if max(*before, *after) <= 0:
        return cropped
    rows, columns = (before[i] + cropped.shape[2 + i] + max(after[i], 0) for i in (0, 1))
    padded = np.empty((*x.shape[:2], rows, columns), x.dtype)
    top, left = (slice(before[i], before[i] + (height, width)[i]) for i in (0, 1))
    padded[:, :, : top.start], padded[:, :, top.stop :] = fill, fill
    padded[..., : left.start], padded[..., left.stop :] = fill, fill
    padded[:, :, top, left] = cropped
    return padded


def cells(image: Array, kernel: Pair, stride: Pair, out: Pair, dilation: Pair = (1, 1)) -> Iterator[Array]:
    """The pixels of every window of a padded image, one place in the window after the other; views, ... x `out`."""
    (sh, sw), (dh, dw), (oh, ow) = stride, dilation, out
    for i, j in product(range(kernel[0]), range(kernel[1])):
        rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
        yield image[..., rows, slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)]
