"""Dropout masks: the same on any number of devices, since each number of a mask belongs to its image and step."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from zoo.layers import Shape
from zoo.philox import philox

_WORDS_A_BLOCK = 8  # a Philox block is four words of 64 bits, read as eight of 32


def keep_mask(
    shape: Shape, ratio: float, *, seed: int, step: int, layer: str, images: range, channels: range | None = None
) -> NDArray[np.bool_]:
    """Which activations a dropout layer keeps.

    Args:
        shape: one image's activation, whole, without the batch axis.
        ratio: the share dropped.
        seed: the run's seed.
        step: the step of training.
        layer: the layer's name.
        images: places in the global batch.
        channels: the part of axis 1 that is wanted; None is all.

    Returns:
        len(images) x shape (cut to `channels`), True where the activation is kept.
    """
    blocks = -(-prod(shape) // _WORDS_A_BLOCK)
    bits = philox(seed, f"dropout {layer}", step)
    bits.advance(images.start * blocks)
    words = bits.random_raw(len(images) * blocks * 4).view(np.uint32).reshape(len(images), -1)
    whole = words[:, : prod(shape)].reshape(len(images), *shape)
    wanted = whole if channels is None else whole[:, channels.start : channels.stop]
    return wanted >= np.uint32(min(round(ratio * 2**32), 2**32 - 1))
