"""Pooling, with every border written out, and what else makes one number of many."""

from __future__ import annotations

from math import prod
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.axes import axis_index
from zoo.frameworks.onnx.builder import Builder, pads_of
from zoo.layers import LOWEST, ArgMax, Interp, Pool, Pooling, PoolMask, Reduction, Shape, Unpool
from zoo.shapes import Window, interp_size, window


def add(g: Builder, layer: Pooling, inputs: tuple[str, ...], shapes: list[Shape], shape: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    x, source = inputs[0], shapes[0]
    match layer:
        case Pool():
            _pool(g, layer, x, source)
        case PoolMask():
            g.needs(layer, 13, "its operators in these forms")
            _pool_mask(g, layer, x, source)
        case Unpool():
            g.needs(layer, 13, "its operators in these forms")
            _unpool(g, layer, inputs, source, shape)
        case Interp():
            _interp(g, layer, x, source)
        case Reduction():
            _reduction(g, layer, x, source, shape)
        case ArgMax():
            _arg_max(g, layer, x, source, shape)
        case _:
            assert_never(layer)


def _interp(g: Builder, layer: Interp, x: str, source: Shape) -> None:
    g.needs(layer, 11, "a bilinear Resize with aligned corners")
    height, width = interp_size(layer, source)
    if layer.pad_beg or layer.pad_end:
        ends = [side + layer.pad_end for side in source[1:]]
        x = g.slice(layer, "cut", x, [-layer.pad_beg] * 2, ends, [2, 3])
    # By sizes, which want the batch as well: it is read off the input.
    batch = g.step(layer, "batch", "Gather", g.step(layer, "source", "Shape", x), g.integers(layer, "first", 0))
    sizes = g.step(layer, "sizes", "Concat", batch, g.integers(layer, "size", source[0], height, width), axis=0)
    options = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    # Before operator set 13 what is not given had to be there, and empty.
    none = g.floats(layer, "not_given", []) if g.opset < 13 else ""
    g.last(layer, "Resize", x, none, none, sizes, **options)


def _reduction(g: Builder, layer: Reduction, x: str, source: Shape, shape: Shape) -> None:
    axis = axis_index(layer.name, layer.axis, source)
    rows = g.reshape(layer, "rows", x, -1, *source[: axis - 1], prod(source[axis - 1 :]))
    if layer.operation == "asum":
        rows = g.step(layer, "sizes", "Abs", rows)
    elif layer.operation == "sumsq":
        rows = g.step(layer, "squares", "Mul", rows, rows)
    total = g.reduce(layer, "total", "ReduceSum", rows, [axis], keepdims=False)
    count = prod(source[axis - 1 :]) if layer.operation == "mean" else 1
    g.last(layer, "Mul", total, g.floats(layer, "coeff", layer.coeff / count))


def _arg_max(g: Builder, layer: ArgMax, x: str, source: Shape, shape: Shape) -> None:
    axis, size = 1, prod(source)
    if layer.axis is not None:
        axis = axis_index(layer.name, layer.axis, source)
        size = source[axis - 1] if axis else 0
    else:
        x = g.step(layer, "rows", "Flatten", x, axis=1)
    g.needs(layer, 10, "a Slice that goes backwards")
    # Backwards: of equals TopK takes the first, Caffe the last.
    ends = [g.integers(layer, what, value) for what, value in (("last", -1), ("past", -(1 << 63)), ("axis", axis))]
    turned = g.step(layer, "turned", "Slice", x, *ends, g.integers(layer, "step", -1))
    best, order = g.steps(layer, ("best", "order"), "TopK", turned, g.integers(layer, "k", layer.top_k), axis=axis)
    place = g.step(layer, "place", "Cast", order, to=1)  # TensorProto.FLOAT
    end = g.floats(layer, "end", size - 1) if axis else _last_of_batch(g, layer, x)
    counted = g.step(layer, "counted", "Sub", end, place)
    if layer.axis is not None:
        g.last(layer, "Identity", best if layer.out_max_val else counted)
        return
    both = g.step(layer, "both", "Concat", counted, best, axis=1) if layer.out_max_val else counted
    g.last(layer, "Reshape", both, g.integers(layer, "shape", -1, *shape))


def _last_of_batch(g: Builder, layer: ArgMax, x: str) -> str:
    size = g.step(layer, "size", "Gather", g.step(layer, "sizes", "Shape", x), g.integers(layer, "batch", 0))
    return g.step(layer, "end", "Sub", g.step(layer, "items", "Cast", size, to=1), g.floats(layer, "one", 1.0))


def _pool_mask(g: Builder, layer: PoolMask, x: str, source: Shape) -> None:
    at = window(layer, source)
    pads = pads_of(at)
    edges = g.integers(layer, "edges", 0, 0, *pads[:2], 0, 0, *pads[2:])
    padded = g.step(layer, "padded", "Pad", x, edges, g.floats(layer, "fill", LOWEST))
    names, options = ("best", "places"), {"kernel_shape": at.kernel, "strides": at.stride}
    best, places = g.steps(layer, names, "MaxPool", padded, **options)
    # Places are counted through all of the padded batch.
    height, width = (source[1 + i] + pads[i] + pads[2 + i] for i in (0, 1))
    wide = g.integers(layer, "wide", width)
    within = g.step(layer, "within", "Mod", places, g.integers(layer, "area", height * width))
    row = g.step(
        layer, "row", "Sub", g.step(layer, "padded_row", "Div", within, wide), g.integers(layer, "top", pads[0])
    )
    column = g.step(layer, "padded_column", "Mod", within, wide)
    start = g.step(layer, "start", "Mul", row, g.integers(layer, "width", source[2]))
    place = g.step(layer, "sum", "Add", start, column)
    place = g.step(layer, "place", "Sub", place, g.integers(layer, "left", pads[1]))
    place = g.step(layer, "number", "Cast", place, to=1)  # TensorProto.FLOAT
    is_pixel = g.step(layer, "is_pixel", "Greater", best, g.floats(layer, "least", LOWEST))
    g.last(layer, "Where", is_pixel, place, g.floats(layer, "none", -1.0))


def _unpool(g: Builder, layer: Unpool, inputs: tuple[str, ...], source: Shape, shape: Shape) -> None:
    count = prod(shape[1:])
    numbers, places = (
        g.reshape(layer, what, x, -1, source[0], prod(source[1:]))
        for what, x in zip(("numbers", "at"), inputs, strict=True)
    )
    place = g.step(layer, "place", "Cast", places, to=7)  # TensorProto.INT64
    place = g.step(layer, "at_least", "Max", place, g.integers(layer, "first", 0))
    place = g.step(layer, "at_most", "Min", place, g.integers(layer, "last", count - 1))
    batch = g.step(layer, "batch", "Gather", g.step(layer, "size", "Shape", numbers), g.integers(layer, "axis", 0))
    whole = g.step(layer, "whole", "Concat", batch, g.integers(layer, "map", source[0], count), axis=0)
    zeros = g.step(layer, "zeros", "Expand", g.floats(layer, "zero", 0.0), whole)
    # Where places meet, ONNX leaves open which stands; ONNX Runtime takes the last, as Caffe does.
    filled = g.step(layer, "filled", "ScatterElements", zeros, place, numbers, axis=2)
    g.last(layer, "Reshape", filled, g.integers(layer, "shape", -1, *shape))


def _pool(g: Builder, layer: Pool, x: str, source: Shape) -> None:
    if layer.global_pool:
        g.last(layer, "GlobalMaxPool" if layer.mode == "max" else "GlobalAveragePool", x)
        return
    at = window(layer, source)
    pads = pads_of(at)
    if any(end >= side for end, side in zip(pads[2:], at.kernel, strict=True)):
        # Some window holds no pixel at all, which the pooling operators refuse: pad beforehand.
        edges, fill = (0, 0, *pads[:2], 0, 0, *pads[2:]), LOWEST if layer.mode == "max" else 0.0
        x, pads = g.pad(layer, "padded", x, edges, fill), (0, 0, 0, 0)
    if layer.mode == "max":
        g.last(layer, "MaxPool", x, kernel_shape=at.kernel, strides=at.stride, pads=pads)
        return
    overhang = [after > before for after, before in zip(at.after, at.before, strict=True)]
    # With no padding at all, leaving the overhang out of the divisor is what count_include_pad = 0 says.
    plain = not any(overhang) or (max(at.before) == 0 and any(pads))
    average = {
        "kernel_shape": at.kernel,
        "strides": at.stride,
        "pads": pads,
        "count_include_pad": int(not any(overhang)),
    }
    if plain:
        g.last(layer, "AveragePool", x, **average)
        return
    whole = g.step(layer, "whole", "AveragePool", x, **average | {"count_include_pad": 1})
    g.last(layer, "Mul", whole, g.floats(layer, "share", _divisor_correction(at, source)))


def _divisor_correction(at: Window, source: Shape) -> Array:
    """Cells of a window / those of them inside the padded image, (H, W); infinite for a window that begins at its edge.

    Past the edge Caffe's count is negative (pooling_layer.cpp): zeros stay zeros there.
    """

    def inside(i: int) -> Array:
        start = np.arange(at.out[i]) * at.stride[i]
        return np.minimum(start + at.kernel[i], source[1 + i] + 2 * at.before[i]) - start

    with np.errstate(divide="ignore"):  # times the zeros in such a window it gives NaN, as in Caffe
        return prod(at.kernel) / np.outer(inside(0), inside(1)).astype(np.float32)
