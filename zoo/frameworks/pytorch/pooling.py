"""Pooling as torch.nn's modules."""

from __future__ import annotations

from torch import nn

from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call, pads, short, unless
from zoo.layers import Pooling, Shape
from zoo.shapes import window


def call(layer: Pooling, shape: Shape) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    if layer.global_pool:
        return Call(make=nn.AdaptiveMaxPool2d if layer.mode == "max" else nn.AdaptiveAvgPool2d, args=(1,))
    place = window(layer, shape)
    # torch.nn follows the same rules, but takes no pad over half the kernel, and with no pad at all it drops a last
    # window that starts outside the image, which Caffe keeps (an empty window).
    empty = any((place.out[i] - 1) * place.stride[i] >= shape[1 + i] + place.before[i] for i in (0, 1))
    if empty or any(2 * pad > kernel for pad, kernel in zip(layer.pad, layer.kernel, strict=True)):
        if layer.mode == "max":
            return Call(make=modules.PaddedMaxPool2d, args=(short(place.kernel), short(place.stride), pads(place)))
        return Call(make=modules.PaddedAvgPool2d, args=(place.kernel, place.stride, pads(place), place.before))
    return Call(
        make=nn.MaxPool2d if layer.mode == "max" else nn.AvgPool2d,
        args=(short(layer.kernel), short(layer.stride)),
        options={
            **unless(layer.pad == (0, 0), padding=short(layer.pad)),
            **unless(layer.rounding == "floor", ceil_mode=True),
        },
    )
