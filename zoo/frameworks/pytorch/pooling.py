"""Pooling as torch.nn's modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from torch import nn

from zoo.axes import axis_index
from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call, pads, short, unless
from zoo.geometry import interp_size, unpooled, window
from zoo.layers import ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Shape, Unpool


def call(layer: Pooling, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    shape = inputs[0]
    match layer:
        case Pool():
            return _pool(layer, shape)
        case PoolMask():
            place = window(layer, shape)
            args = (short(place.kernel), short(place.stride), pads(place))
            return Call(make=modules.PoolMask, args=args)
        case Unpool():
            return Call(make=modules.Unpool, args=(unpooled(layer, shape),))
        case Interp():
            return Call(make=modules.Interp, args=(interp_size(layer, shape), layer.pad_beg, layer.pad_end))
        case Reduction():
            axis = axis_index(layer.name, layer.axis, shape)
            return Call(make=modules.Reduction, args=(layer.operation, axis, layer.coeff))
        case ArgMax():
            return Call(make=modules.ArgMax, args=(layer.top_k, layer.out_max_val, layer.axis))
        case _:
            assert_never(layer)


def _pool(layer: Pool, shape: Shape) -> Call:
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
