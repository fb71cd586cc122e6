"""Convolutions and dense layers as torch.nn's modules."""

from __future__ import annotations

from math import prod
from typing import assert_never

from torch import nn

from zoo.axes import axis_index
from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call, pads, short, unless
from zoo.geometry import window
from zoo.layers import Conv, Deconv, Dense, Embed, Shape, Weighted


def call(layer: Weighted, shape: Shape) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    match layer:
        case Conv():
            return _conv(layer, shape)
        case Deconv():
            return _deconv(layer, shape)
        case Dense():
            return _dense(layer, shape)
        case Embed():
            return Call(
                make=modules.Embed, args=(layer.rows, layer.out_features), options=unless(layer.bias, bias=False)
            )
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
        return Call(make=modules.PaddedConv2d, args=args, options={"pads": pads(place), **options})
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
