"""Random numbers that belong to a place, not to a process: the same on any number of devices.

Drawn from Philox, a counter-based generator (Salmon et al. 2011): the key is the seed and the use, the counter the
place. Any process can draw any part without drawing the rest.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.random import Generator, Philox

_MASK64 = (1 << 64) - 1


def key(seed: int, use: str) -> tuple[int, int]:
    """The two words of a generator's key."""
    return seed & _MASK64, zlib.crc32(use.encode())


def philox(seed: int, use: str, *place: int) -> Philox:
    """The bit generator of a seed, a use ("order", "crop", a layer's name) and up to two numbers of a place."""
    high = (*place, 0, 0)[:2]
    return Philox(key=np.array(key(seed, use), np.uint64), counter=[0, 0, high[0], high[1]])


def generator(seed: int, use: str, *place: int) -> Generator:
    """A NumPy generator of a place; see `philox`."""
    return Generator(philox(seed, use, *place))
