"""What the families share: parameters broadcast over an activation, images with a border, and windows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
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


# So many numbers of a map, and of what is made of it on the way, stay near a core; and so long does a call take that
# threads seldom wait for the interpreter.
_PART = 2**18


def by_maps(work: Callable[[Float64, Float64], None], x: Float64, size: Pair) -> Float64:
    """What `work` makes of the maps of N x C x H x W, each by itself: N x C x `size`.

    It is given some at a time as 1 x M x H x W, and where to put what it makes of them.
    """
    y = np.empty((*x.shape[:2], *size))
    maps, made = x.reshape(1, -1, *x.shape[2:]), y.reshape(1, -1, *size)
    some = max(1, _PART // max(1, prod(x.shape[2:]), prod(size)))
    map_on_cores(lambda i: work(maps[:, i : i + some], made[:, i : i + some]), range(0, maps.shape[1], some))
    return y


def by_places(work: Callable[[Float64, Float64], None], x: Float64) -> Float64:
    """What `work` makes of the channels of N x C x ..., those of a place by themselves: an array of this shape.

    It is given some at a time as 1 x C x P, and where to put what it makes of them.
    """
    y = np.empty(x.shape)
    read, made = x.reshape(*x.shape[:2], -1), y.reshape(*x.shape[:2], -1)
    some = max(1, _PART // max(1, x.shape[1]))

    def fill(at: tuple[int, int]) -> None:
        part = slice(at[0], at[0] + 1), slice(None), slice(at[1], at[1] + some)
        work(read[part], made[part])

    map_on_cores(fill, [*product(range(len(x)), range(0, read.shape[2], some))])
    return y


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


def windows(image: Array, kernel: Pair, stride: Pair, out: Pair, dilation: Pair = (1, 1)) -> Array:
    """The pixels of every window of a padded image: a view, ... x `kernel` x `out`."""
    reach = [step * (size - 1) + 1 for size, step in zip(kernel, dilation, strict=True)]
    (sh, sw), (dh, dw) = stride, dilation
    view = sliding_window_view(image, reach, axis=(-2, -1))[..., ::sh, ::sw, ::dh, ::dw]
    return np.moveaxis(view[..., : out[0], : out[1], :, :], (-2, -1), (-4, -3))
