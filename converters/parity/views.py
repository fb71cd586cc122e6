"""A layer's numbers in our layout and in somebody else's."""

from __future__ import annotations

from math import prod

from converters.weights import Array
from zoo.layers import Shape


def canonical_view(value: Array, wanted: Shape) -> Array | None:
    """`value` as an array of shape `wanted` (N, C, H, W or N, C), where its layout is known; None otherwise.

    Known are the shape itself, N, H, W, C or back from it, unit axes at the end (a dense layer as a convolution) and
    towers folded into the batch.
    """
    if value.shape == wanted:
        return value
    if len(wanted) == 4 and value.ndim == 4:
        samples, channels, height, width = wanted
        if value.shape == (samples, height, width, channels):
            return value.transpose(0, 3, 1, 2)
        if value.shape == (samples, width, channels, height):
            return value.transpose(0, 2, 3, 1)
        towers = value.shape[0] // samples if samples else 0
        if towers and not channels % towers and value.shape == (samples * towers, channels // towers, height, width):
            return value.reshape(wanted)
    squeezed = tuple(size for size in value.shape[1:] if size != 1)
    if len(wanted) == 2 and value.shape[:1] == wanted[:1] and squeezed == tuple(s for s in wanted[1:] if s != 1):
        return value.reshape(wanted)
    return value.reshape(wanted) if value.size == prod(wanted) and value.ndim < 2 else None


def native_view(array: Array, like: Array) -> Array:
    """The inverse of `canonical_view`: a canonical batch in the layout of the tensor `like`."""
    own = like.shape[1:]
    if array.shape[1:] == own:
        return array
    if array.ndim == like.ndim == 4 and own == (*array.shape[2:], array.shape[1]):
        return array.transpose(0, 2, 3, 1)
    if array.ndim == like.ndim == 4 and own == (array.shape[3], *array.shape[1:3]):
        return array.transpose(0, 3, 1, 2)
    return array.reshape(-1, *own)  # unit axes, or towers folded into the batch
