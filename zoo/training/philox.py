"""`zoo.philox` on any device: the words of NumPy's Philox4x64-10, bit for bit, by torch's arithmetic of whole numbers.

Nothing crosses over to an accelerator: a place is a number that both sides know.
"""

from __future__ import annotations

import torch
from torch import Tensor

WORDS_A_BLOCK = 8  # a Philox block is four words of 64 bits, read as eight of 32
WORDS = 1 << 32  # how many values a word has
_LOW = WORDS - 1
# The generator's constants (its authors' philox.h): what counters are multiplied by, and what keys grow by.
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


def words(blocks: Tensor, place: int, keys: tuple[int, int]) -> Tensor:
    """The words of some blocks, in single file: N x blocks to N x 8 blocks, each 0..2^32 - 1, int64.

    Args:
        blocks: numbers of blocks, from 0, int64.
        place: the first number of the place; see `zoo.philox.philox`.
        keys: `zoo.philox.key`.
    """
    zero = torch.zeros_like(blocks)
    a, b, c, d = blocks + 1, zero, zero + _signed(place), zero  # NumPy counts before it draws
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
