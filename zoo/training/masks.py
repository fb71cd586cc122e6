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

_WORDS_A_BLOCK = 8  # a Philox block is four words of 64 bits, read as eight of 32
_LOW = (1 << 32) - 1
# The generator's constants (its authors' philox.h): what counters are multiplied by, and what keys grow by.
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


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
    words = bits.random_raw(len(images) * blocks * 4).view(np.uint32).reshape(len(images), -1)
    whole = words[:, : prod(shape)].reshape(len(images), *shape)
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
    begin, end = part.start * inner // _WORDS_A_BLOCK, -(-part.stop * inner // _WORDS_A_BLOCK)
    of_image = torch.arange(images.start, images.stop, device=device)[:, None] * _blocks(shape)
    # NumPy counts before it draws.
    words = _words(of_image + torch.arange(begin + 1, end + 1, device=device), step, key(seed, f"dropout {layer}"))
    first = part.start * inner - begin * _WORDS_A_BLOCK
    wanted = words[:, first : first + len(part) * inner]
    return (wanted >= _threshold(ratio)).reshape(len(images), len(part), *shape[1:])


def _blocks(shape: Shape) -> int:
    return -(-prod(shape) // _WORDS_A_BLOCK)


def _threshold(ratio: float) -> int:
    return min(round(ratio * 2**32), _LOW)


def _words(counters: Tensor, place: int, keys: tuple[int, int]) -> Tensor:
    """The words of some blocks, in single file: N x blocks to N x 8 blocks, each 0..2^32 - 1, int64."""
    zero = torch.zeros_like(counters)
    a, b, c, d = counters, zero, zero + _signed(place), zero
    for turn in range(_ROUNDS):
        k, m = (_signed(key + turn * step) for key, step in zip(keys, _WEYL, strict=True))
        (high_a, low_a), (high_c, low_c) = _product(a, _MULTIPLIERS[0]), _product(c, _MULTIPLIERS[1])
        a, b, c, d = high_c ^ b ^ k, low_c, high_a ^ d ^ m, low_a
    pairs = [half for word in (a, b, c, d) for half in (word & _LOW, _high(word))]
    return torch.stack(pairs, dim=-1).flatten(-2)


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The high and the low 64 bits of a product of unsigned numbers of 64 bits; int64, whose overflow wraps around."""
    low, high, f_low, f_high = x & _LOW, _high(x), factor & _LOW, factor >> 32
    below, left, right = low * f_low, low * f_high, high * f_low
    carry = _high(below) + (left & _LOW) + (right & _LOW)
    return high * f_high + _high(left) + _high(right) + _high(carry), x * _signed(factor)


def _high(x: Tensor) -> Tensor:
    return (x >> 32) & _LOW


def _signed(number: int) -> int:
    """An unsigned number of 64 bits as the signed one of the same bits."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
