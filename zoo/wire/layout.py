"""Axis-name algebra: how "OIHW" becomes "HWIO" is derived from the two names, so its inverse is free.

A layout is a string of one-letter axes; brackets merge axes into one dimension, in the order written, and a ``1`` is
a dimension of size one: ``"O(CHW)"`` is a dense weight whose columns run over channels, rows, columns; ``"HWCO"`` is
the same weight as the kernel of a convolution; ``"11OI"`` is a dense weight in Caffe's four legacy dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.wire.cores import map_on_cores

# What cuts a block out of an array.
Block: TypeAlias = tuple[slice, ...]


def parse(layout: str) -> list[str]:
    """One string of axes a dimension: ``"O(CHW)"`` -> ``["O", "CHW"]``; a unit dimension is the empty string."""
    dimensions, group = list[str](), None
    for letter in layout:
        if letter == "(" and group is None:
            group = ""
        elif letter == ")" and group is not None:
            dimensions.append(group)
            group = None
        elif letter.isalpha() and group is not None:
            group += letter
        elif letter.isalpha() or letter == "1":
            dimensions.append(letter if letter != "1" else "")
        else:
            raise ValueError(f"malformed layout {layout!r}")
    axes = "".join(dimensions)
    if group is not None or len(set(axes)) != len(axes):
        raise ValueError(f"malformed layout {layout!r}")
    return dimensions


def axis_sizes(layout: str, shape: tuple[int, ...], known: Mapping[str, int]) -> dict[str, int]:
    """The size of every axis of a `layout` whose array has `shape`; at most one axis a dimension may be unknown.

    Raises:
        ValueError: the shape does not fit the layout.
    """
    dimensions, sizes = parse(layout), dict(known)
    if len(dimensions) != len(shape):
        raise ValueError(f"{layout!r} has {len(dimensions)} dimensions, the array {len(shape)}")
    for group, size in zip(dimensions, shape, strict=True):
        unknown = [axis for axis in group if axis not in sizes]
        rest = prod(sizes[axis] for axis in group if axis in sizes)
        if len(unknown) > 1 or size % rest:
            raise ValueError(f"cannot split {size} into the axes {group!r} of {layout!r}")
        if unknown:
            sizes[unknown[0]] = size // rest
        elif rest != size:
            raise ValueError(f"{group or '1'!r} of {layout!r} is {rest}, the array has {size}")
    return sizes


def convert_shape(shape: tuple[int, ...], source: str, target: str, known: Mapping[str, int]) -> tuple[int, ...]:
    """The shape an array of `shape` has after `rearrange`."""
    sizes = axis_sizes(source, shape, known)
    return tuple(prod(sizes[axis] for axis in group) for group in parse(target))


def rearrange(array: NDArray[Any], source: str, target: str, known: Mapping[str, int]) -> NDArray[Any]:
    """`array`, laid out as `source`, laid out as `target`; a view where the memory order allows it.

    Args:
        array: any dtype.
        source: the layout it has.
        target: the layout wanted, of the same axes.
        known: sizes of axes that the shape alone does not tell, such as H and W of a merged ``(CHW)``.
    """
    moved, groups = reordered(array, source, target, known), parse(target)
    sizes = axis_sizes(source, array.shape, known)
    merged = contiguous(moved) if any(len(group) > 1 for group in groups) else moved
    return merged.reshape([prod(sizes[axis] for axis in group) for group in groups])


def reordered(array: NDArray[Any], source: str, target: str, known: Mapping[str, int]) -> NDArray[Any]:
    """A view of `array` whose numbers come in the order of `rearrange`, with every axis a dimension of its own."""
    sizes = axis_sizes(source, array.shape, known)
    before, after = "".join(parse(source)), "".join(parse(target))
    if set(before) != set(after):
        raise ValueError(f"{source!r} and {target!r} have different axes")
    split = array.reshape([sizes[axis] for axis in before])
    return np.transpose(split, [before.index(axis) for axis in after])


# A block of a tensor holds about this many numbers, which a core's cache has room for beside their source.
_BLOCK = 1 << 20
# So many float32 numbers in a row fill a cache line.
_LINE = 16
# No axis of a tile is longer.
_TILE = 256


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """`array` in C order; what `numpy.ascontiguousarray` gives, several times faster where the axes are transposed.

    NumPy walks a transposed weight with strides of kilobytes, so that every number costs a cache line. Here it is cut
    into `blocks` that stay in the cache, and the cores share them.
    """
    if array.flags.c_contiguous or array.size <= _BLOCK:
        return packed(array)
    if 1 in array.shape:
        return contiguous(array.squeeze()).reshape(array.shape)
    out = np.empty(array.shape, array.dtype)
    map_on_cores(lambda block: _lay(array[block], out[block]), blocks(array))
    return out


def packed(array: NDArray[Any]) -> NDArray[Any]:
    """One of an array's `blocks` in C order; itself, if it is so already."""
    if array.flags.c_contiguous:
        return array
    if 1 in array.shape:
        return packed(array.squeeze()).reshape(array.shape)
    out = np.empty(array.shape, array.dtype)
    _lay(array, out)
    return out


def blocks(array: NDArray[Any]) -> list[Block]:
    """Indices that cut an array of at least one axis into blocks of some megabytes, in few and long rows.

    The rows are long in the memory of `array`, and in that of an array of its shape in C order.
    """
    order = _memory_order(array)
    axis = order[1] if order[0] == array.ndim - 1 > 0 else 0
    step = max(_BLOCK * array.shape[axis] // max(array.size, 1), 1)
    step -= step % _LINE if step > _LINE else 0
    return [(*[slice(None)] * axis, slice(start, start + step)) for start in range(0, array.shape[axis], step)]


def _lay(array: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy a block of any strides, no axis of size one, into `out`, whose last axis is contiguous.

    Tiles are gathered in the order of their memory and turned in the cache. There, numbers a power of two apart would
    fall on the same few cache lines; a little room beside the axis within `out`'s last one keeps them apart.
    """
    order, last = _memory_order(array), array.ndim - 1
    if order[-1] == last:
        out[...] = array
        return
    turned, tile = [order.index(axis) for axis in range(array.ndim)], [min(size, _TILE) for size in array.shape]
    within = order[order.index(last) + 1]
    room = np.empty([tile[axis] + (axis == within) for axis in order], array.dtype)
    for starts in product(*(range(0, size, step) for size, step in zip(array.shape, tile, strict=True))):
        where = tuple(slice(start, start + step) for start, step in zip(starts, tile, strict=True))
        part = array[where].transpose(order)
        gathered = room[tuple(slice(size) for size in part.shape)]
        gathered[...] = part
        out[where] = gathered.transpose(turned)


def _memory_order(array: NDArray[Any]) -> list[int]:
    """The axes, the one of the longest stride first."""
    return sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis))
