"""One number of many, nothing learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from zoo.layers.base import Named, Pair, Rounding

__all__ = ["LOWEST", "ArgMax", "Interp", "Pool", "PoolMask", "Pooling", "Reduction", "Unpool"]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolMask(Named):
    """Where the maximum of each window of a max `Pool` stands, ``row * W + column``: the first of equals, -1 for none.

    Caffe's second top of a Pooling layer.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    rounding: Rounding = "ceil"
    global_pool: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpool(Named):
    """Numbers put where a `PoolMask` points, zeros elsewhere; where several meet, the last one stands.

    Height and width: ``size``, or each times ``scale`` less ``pad_out`` (caffe-segnet, upsample_layer.cpp).
    """

    scale: Pair = (2, 2)
    pad_out: Pair = (0, 0)
    size: Pair | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Interp(Named):
    """Bilinear to another size, the corners aligned: row i is read at ``i (n - 1) / (out - 1)``, at 0 if out is 1.

    First ``pad_beg`` and ``pad_end``, at most 0, cut that many rows and columns off. Then ``shrink`` alone gives
    ``(n - 1) // shrink + 1``, ``zoom`` alone ``n + (n - 1) (zoom - 1)``; otherwise ``size`` counts, or else a shrink
    and then a zoom (hszhao/PSPNet, interp_layer.cpp).
    """

    size: Pair | None = None
    zoom: int = 1
    shrink: int = 1
    pad_beg: int = 0
    pad_end: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduction(Named):
    """``coeff`` times the ``sum``, ``asum`` (of ``|x|``), ``sumsq`` (of squares) or ``mean`` from ``axis`` on."""

    operation: Literal["sum", "asum", "sumsq", "mean"] = "sum"
    axis: int = 0
    coeff: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ArgMax(Named):
    """Where the ``top_k`` greatest stand along ``axis``, greatest first; among equals, the last comes first.

    With ``out_max_val`` the numbers themselves. Without an axis an item is one row: 1 x top_k (x 1), or with
    ``out_max_val`` 2 x top_k (x 1), the places and then the numbers (BVLC caffe, ``argmax_layer.cpp``).
    """

    top_k: int = 1
    out_max_val: bool = False
    axis: int | None = None


Pooling: TypeAlias = Pool | PoolMask | Unpool | Interp | Reduction | ArgMax

# What Caffe starts a maximum from, and so what it answers for a window that holds no pixel (pooling_layer.cpp): the
# lowest float32.
LOWEST: Final = -3.4028234663852886e38
