"""Dropout masks: the same on any number of devices, since each number of a mask belongs to its image and step.

The bits are NumPy's Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). On the CPU NumPy
draws them; an accelerator draws the same ones itself, block by block, and nothing crosses over to it.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.layers import Shape
from zoo.philox import key, philox
from zoo.training.philox import WORDS, WORDS_A_BLOCK, words


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
    blocks = _blocks(shape)
    bits = philox(seed, f"dropout {layer}", step)
    bits.advance(images.start * blocks)
    drawn = bits.random_raw(len(images) * blocks * 4).view(np.uint32).reshape(len(images), -1)
    whole = drawn[:, : prod(shape)].reshape(len(images), *shape)
    wanted = whole if channels is None else whole[:, channels.start : channels.stop]
    return wanted >= np.uint32(_threshold(ratio))


def keep_mask_on(
    device: torch.device,
    shape: Shape,
    ratio: float,
    *,
    seed: int,
    step: int,
    layer: str,
    images: range,
    channels: range | None = None,
) -> Tensor:
    """`keep_mask`, bit for bit, on a device; drawn there, unless it is the CPU."""
    if device.type == "cpu":
        drawn = keep_mask(shape, ratio, seed=seed, step=step, layer=layer, images=images, channels=channels)
        return torch.from_numpy(drawn)
    part, inner = channels or range(shape[0]), prod(shape[1:])
    begin, end = part.start * inner // WORDS_A_BLOCK, -(-part.stop * inner // WORDS_A_BLOCK)
    of_image = torch.arange(images.start, images.stop, device=device)[:, None] * _blocks(shape)
    drawn = words(of_image + torch.arange(begin, end, device=device), step, key(seed, f"dropout {layer}"))
    first = part.start * inner - begin * WORDS_A_BLOCK
    wanted = drawn[:, first : first + len(part) * inner]
    return (wanted >= _threshold(ratio)).reshape(len(images), len(part), *shape[1:])


def _blocks(shape: Shape) -> int:
    return -(-prod(shape) // WORDS_A_BLOCK)


def _threshold(ratio: float) -> int:
    return min(round(ratio * WORDS), WORDS - 1)
