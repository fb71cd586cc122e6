"""Sums of products with a kernel of learnt numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from zoo.layers.base import Named, Pair, Rounding

__all__ = ["Conv", "Deconv", "Dense", "Embed", "Weighted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conv(Named):
    """2-D cross-correlation, zero padded; parameters ``weight`` (O, I/groups, H, W) and ``bias`` (O,).

    ``rounding="ceil"`` rounds the output size up and reads zeros past the bottom and right edge, as
    cuda-convnet did in 2012; every other framework rounds down. As in Caffe, a kernel that overhangs its padded input
    by less than a stride has one position, and reads zeros past those edges.
    """

    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = True
    rounding: Rounding = "floor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deconv(Named):
    """The transpose of a 2-D cross-correlation: ``y[o, s i - p + d u] += x[c, i] w[c, o, u]``, plus the bias.

    Parameters ``weight`` (I, O/groups, H, W), the input's channels first, and ``bias`` (O,). A side gets
    ``stride (n - 1) + dilation (kernel - 1) + 1 - 2 pad`` pixels; those that nothing reaches hold the bias.
    """

    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense(Named):
    """``y = W x + b`` over the axes from ``axis`` on, flattened C, H, W; ``weight`` (O, I), ``bias`` (O,)."""

    out_features: int
    bias: bool = True
    axis: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Embed(Named):
    """``y[..., :] = W[int(x)] (+ b)``: one axis more, of ``out_features``; ``weight`` (rows, O), ``bias`` (O,).

    x is cut towards 0; a row past the table is taken as the nearest that there is.
    """

    rows: int
    out_features: int
    bias: bool = True


Weighted: TypeAlias = Conv | Deconv | Dense | Embed
