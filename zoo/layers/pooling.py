"""One number a window, nothing learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from zoo.layers.base import Named, Pair, Rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool(Named):
    """Pooling with Caffe's window rules (BVLC caffe, ``pooling_layer.cpp``).

    Padding and NaN never win a ``max``; an ``ave`` divides by the window clipped to the *padded* image. With any pad, a
    last window that would start at or past ``size + pad`` is dropped. ``global_pool`` takes the whole image as the
    window.
    """

    mode: Literal["max", "ave"]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    rounding: Rounding = "ceil"
    global_pool: bool = False


Pooling: TypeAlias = Pool

# What Caffe starts a maximum from, and so what it answers for a window that holds no pixel (pooling_layer.cpp): the
# lowest float32.
LOWEST: Final = -3.4028234663852886e38
