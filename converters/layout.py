"""Axis-name algebra: how "OIHW" becomes "HWIO" is derived from the two names, so its inverse is free.

A layout is a string of one-letter axes; brackets merge axes into one dimension, in the order written, and a ``1`` is
a dimension of size one: ``"O(CHW)"`` is a dense weight whose columns run over channels, rows, columns; ``"HWCO"`` is
the same weight as the kernel of a convolution; ``"11OI"`` is a dense weight in Caffe's four legacy dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from converters.cores import spread

# What cuts a block out of an array.
Block: TypeAlias = "tuple[slice | EllipsisType, ...]"


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
    sizes = axis_sizes(source, array.shape, known)
    before, after = "".join(parse(source)), "".join(parse(target))
    if set(before) != set(after):
        raise ValueError(f"{source!r} and {target!r} have different axes")
    split = array.reshape([sizes[axis] for axis in before])
    moved = np.transpose(split, [before.index(axis) for axis in after])
    groups = parse(target)
    merged = contiguous(moved) if any(len(group) > 1 for group in groups) else moved
    return merged.reshape([prod(sizes[axis] for axis in group) for group in groups])


# So many float32 numbers in a row fill a cache line; a few lines where whole blocks are turned around.
_LINE = 16
_LINES = 32
# Where nothing is turned around, a block holds about this many numbers.
_BLOCK = 1 << 20


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """`array` in C order; what `numpy.ascontiguousarray` gives, several times faster where the axes are transposed.

    NumPy walks a transposed weight with strides of kilobytes, so that every number costs a cache line. Here it is cut
    into `blocks` that stay in the cache, and the cores share them.
    """
    if 1 in array.shape:
        return contiguous(array.squeeze()).reshape(array.shape)
    order = _memory_order(array)
    if array.flags.c_contiguous or order == sorted(order) or array.size < 1 << 16:
        return np.ascontiguousarray(array)
    out, last = np.empty(array.shape, array.dtype), array.ndim - 1
    turned = [order.index(axis) for axis in range(array.ndim)]

    def fill(block: Block) -> None:
        part = array[block]
        if order[0] != last and order[-1] == 0:  # rows scattered over memory: gathered, then turned in the cache
            part = np.ascontiguousarray(part.transpose(order)).transpose(turned)
        out[block] = part

    spread(fill, blocks(array))
    return out


def blocks(array: NDArray[Any]) -> list[Block]:
    """Indices that cut an array of at least one axis up, in such a way that a block's memory is in few cache lines.

    They suit two arrays at once: `array`, and one of its shape in C order. The axis that is innermost in one of them
    and outermost in the other is cut; where there is none, the first one.
    """
    order, last = _memory_order(array), array.ndim - 1
    if last and order[0] == last:
        return [(..., slice(start, start + _LINE)) for start in range(0, array.shape[last], _LINE)]
    rows = _LINES if last and order[-1] == 0 else max(1, _BLOCK * len(array) // max(array.size, 1))
    return [(slice(start, start + rows),) for start in range(0, len(array), rows)]


def _memory_order(array: NDArray[Any]) -> list[int]:
    """The axes, the one of the longest stride first."""
    return sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), axis))
