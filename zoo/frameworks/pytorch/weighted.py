"""Convolutions and dense layers: the row of each kind, and the module that ``torch.nn`` lacks.

Each module stands alone: the source writer copies its text. Pads are (left, right, top, bottom).
"""

from __future__ import annotations

from math import prod
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo import layers
from zoo.axes import axis_index
from zoo.frameworks.pytorch.calls import Call, pads, short, unless
from zoo.layers import Conv, Deconv, Dense, Shape
from zoo.shapes import window


def call(layer: layers.Weighted, shape: Shape) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    match layer:
        case Conv():
            return _conv(layer, shape)
        case Deconv():
            return _deconv(layer, shape)
        case Dense():
            return _dense(layer, shape)
        case layers.Embed():
            return Call(make=Embed, args=(layer.rows, layer.out_features), options=unless(layer.bias, bias=False))
        case _:
            assert_never(layer)


def _conv(layer: Conv, shape: Shape) -> Call:
    place = window(layer, shape)
    args = (shape[0], layer.out_channels, short(layer.kernel))
    options: dict[str, object] = {
        **unless(layer.stride == (1, 1), stride=short(layer.stride)),
        **unless(layer.dilation == (1, 1), dilation=short(layer.dilation)),
        **unless(layer.groups == 1, groups=layer.groups),
        **unless(layer.bias, bias=False),
    }
    if any(after > before for after, before in zip(place.after, place.before, strict=True)):
        return Call(make=PaddedConv2d, args=args, options={"pads": pads(place), **options})
    return Call(make=nn.Conv2d, args=args, options={**unless(layer.pad == (0, 0), padding=short(layer.pad)), **options})


def _deconv(layer: Deconv, shape: Shape) -> Call:
    options: dict[str, object] = {
        **unless(layer.stride == (1, 1), stride=short(layer.stride)),
        **unless(layer.pad == (0, 0), padding=short(layer.pad)),
        **unless(layer.groups == 1, groups=layer.groups),
        **unless(layer.bias, bias=False),
        **unless(layer.dilation == (1, 1), dilation=short(layer.dilation)),
    }
    return Call(make=nn.ConvTranspose2d, args=(shape[0], layer.out_channels, short(layer.kernel)), options=options)


def _dense(layer: Dense, shape: Shape) -> Call:
    axis = axis_index(layer.name, layer.axis, shape)
    return Call(
        make=nn.Linear,
        args=(prod(shape[axis - 1 :]), layer.out_features),
        options=unless(layer.bias, bias=False),
        flatten=axis if axis < len(shape) else None,
    )


class PaddedConv2d(nn.Conv2d):
    """A convolution that first pads its input with zeros, each side by its own amount."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        pads: tuple[int, int, int, int],
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
        self.pads = pads

    def forward(self, input: Tensor) -> Tensor:
        """N x C x H x W to N x O x H' x W'."""
        # Not super(), which torch.jit.script cannot compile.
        return self._conv_forward(functional.pad(input, self.pads), self.weight, self.bias)


class Embed(nn.Module):
    """Rows of a table, by number: cut towards 0, and the nearest row where there is none of that number."""

    def __init__(self, rows: int, features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, features))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to one axis more."""
        rows = functional.embedding(x.long().clamp(0, self.weight.shape[0] - 1), self.weight)
        return rows if self.bias is None else rows + self.bias
