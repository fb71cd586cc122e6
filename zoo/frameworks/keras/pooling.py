"""Pooling, resizing and reductions: the row of each kind."""

from __future__ import annotations

from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.keras.calls import DATA_FORMAT, Call, canonical
from zoo.frameworks.keras.site import Site, short
from zoo.layers import ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Unpool
from zoo.shapes import Window, interp_size, unpooled, window


def call(layer: Pooling, at: Site) -> Call:
    """The family's part of `zoo.frameworks.keras.table.calls`."""
    shape = at.shapes[0]
    match layer:
        case Pool():
            return _pool(layer, window(layer, shape))
        case PoolMask():
            place = window(layer, shape)
            options = {"pool_size": place.kernel, "strides": place.stride, "pads": place.pads}
            return canonical("MaxPoolingPlaces", **options)
        case Unpool():
            return canonical("MaxUnpooling2D", size=unpooled(layer, shape))
        case Interp():
            cut = {"cut_begin": -layer.pad_beg, "cut_end": -layer.pad_end}
            return canonical("AlignedResizing", size=interp_size(layer, shape), **cut)
        case Reduction():
            axis = axis_index(layer.name, layer.axis, shape)
            return canonical("Reduction", operation=layer.operation, axis=axis, coefficient=layer.coeff)
        case ArgMax():
            return canonical("ArgMax", top_k=layer.top_k, values=layer.out_max_val, axis=layer.axis)
        case _:
            assert_never(layer)


def _pool(layer: Pool, place: Window) -> Call:
    word = "Max" if layer.mode == "max" else "Average"
    if layer.global_pool:
        return Call(make=f"Global{word}Pooling2D", options={"keepdims": True, "data_format": DATA_FORMAT})
    if any(map(any, place.pads)):
        options = {"pool_size": place.kernel, "strides": place.stride, "pads": place.pads}
        margin = {} if layer.mode == "max" else {"margin": place.before}
        return canonical(f"Padded{word}Pooling2D", **options, **margin)
    return Call(
        make=f"{word}Pooling2D",
        args={"pool_size": short(layer.kernel)},
        options={"strides": short(layer.stride), "data_format": DATA_FORMAT},
    )
