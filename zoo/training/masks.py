"""Random numbers that belong to a place, not to a process: the same on any number of devices.

Everything random in training is drawn from Philox, a counter-based generator (Salmon et al. 2011): the key is the seed
and the use, the counter the step and the image. Any device can draw any part without drawing the rest.
"""

from __future__ import annotations

import zlib
from math import prod

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from zoo.layers import Shape

_WORDS_A_BLOCK = 8  # a Philox block is four words of 64 bits, read as eight of 32
_MASK64 = (1 << 64) - 1


def philox(seed: int, use: str, *place: int) -> Philox:
    """The bit generator of a seed, a use ("order", "crop", a layer's name) and up to two numbers of a place."""
    high = (*place, 0, 0)[:2]
    return Philox(key=[seed & _MASK64, zlib.crc32(use.encode())], counter=[0, 0, high[0], high[1]])


def generator(seed: int, use: str, *place: int) -> Generator:
    """A NumPy generator of a place; see `philox`."""
    return Generator(philox(seed, use, *place))


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
