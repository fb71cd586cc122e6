"""Images with channels last, as TensorFlow and Keras have them: H, W, C for C, H, W. Other shapes are as they are."""

from __future__ import annotations

import numpy as np

from zoo.arrays import Array
from zoo.layers import Shape


def native_shape(shape: Shape) -> Shape:
    """(C, H, W) as (H, W, C); other shapes as they are."""
    return (*shape[1:], *shape[:1]) if len(shape) == 3 else shape


def to_native(array: Array, shape: Shape) -> Array:
    """A view of a batch of activations of canonical `shape`, images as N x H x W x C."""
    return array.transpose(0, 2, 3, 1) if len(shape) == 3 else array


def to_canonical(array: Array, shape: Shape) -> Array:
    """The inverse of `to_native`, images in C order; takes vectors kept as N x 1 x 1 x C too."""
    if len(shape) == 3:
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    return array.reshape(len(array), *shape)
