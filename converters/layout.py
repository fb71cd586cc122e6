"""Axis-name algebra: how "OIHW" becomes "HWIO" is derived from the two names, so its inverse is free.

A layout is a string of one-letter axes; brackets merge axes into one dimension, in the order written, and a ``1`` is
a dimension of size one: ``"O(CHW)"`` is a dense weight whose columns run over channels, rows, columns; ``"HWCO"`` is
the same weight as the kernel of a convolution; ``"11OI"`` is a dense weight in Caffe's four legacy dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    return moved.reshape([prod(sizes[axis] for axis in group) for group in parse(target)])
