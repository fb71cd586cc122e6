"""Numbers set in relation to their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from zoo.layers.base import Named

__all__ = ["LRN", "MVN", "BatchNorm", "Normalising", "Normalize", "Softmax"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LRN(Named):
    """Local response normalisation, ``x * (k + alpha/n * sum(x^2))^-beta``.

    ``region="across"``: the window is ``size`` channels (odd), n = size; ``towers`` equal blocks of channels are
    normalised apart, so that a window stops at the tower boundary (2012 paper, section 3.3 and the two-GPU code).
    ``region="within"``: the window is size x size pixels of the same map, zero padded, n = size^2.
    """

    size: int
    alpha: float
    beta: float
    k: float = 1.0
    towers: int = 1
    region: Literal["across", "within"] = "across"


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchNorm(Named):
    """``(x - mean) / sqrt(variance + eps)`` a channel; parameters ``mean`` and ``variance`` (C,), no affine part.

    ``batch_stats`` takes both (biased variance) from the batch at hand, as Caffe's ``use_global_stats: false``.
    """

    eps: float = 1e-5
    batch_stats: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Softmax(Named):
    """``exp(x) / sum(exp(x))`` along ``axis``."""

    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MVN(Named):
    """``x - mean``, divided by ``sqrt(mean((x - mean)^2)) + eps`` unless that is turned off; always four axes.

    Means are over H and W, or over C, H and W with ``across_channels``; missing axes count as 1 x 1 behind the others.
    """

    across_channels: bool = False
    normalize_variance: bool = True
    eps: float = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalize(Named):
    """``weight * x / sqrt(eps + sum(x^2))``, the sum over the channels of a pixel, or ``across_spatial``: of the image.

    Parameter ``weight``: one a channel (C,), or ``shared`` by all (no axes) (weiliu89/caffe, normalize_layer.cpp).
    """

    across_spatial: bool = True
    shared: bool = True
    eps: float = 1e-10


Normalising: TypeAlias = LRN | BatchNorm | MVN | Normalize | Softmax
