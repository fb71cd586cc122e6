"""Pooling, with every border written out."""

from __future__ import annotations

from math import prod

import numpy as np

from zoo.arrays import Array
from zoo.frameworks.onnx.builder import Builder, pads_of
from zoo.layers import LOWEST, Pooling, Shape
from zoo.shapes import Window, window


def add(g: Builder, layer: Pooling, x: str, source: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    if layer.global_pool:
        g.last(layer, "GlobalMaxPool" if layer.mode == "max" else "GlobalAveragePool", x)
        return
    at = window(layer, source)
    pads = pads_of(at)
    if any(end >= side for end, side in zip(pads[2:], at.kernel, strict=True)):
        # Some window holds no pixel at all, which the pooling operators refuse: pad beforehand.
        edges = g.integers(layer, "edges", 0, 0, *pads[:2], 0, 0, *pads[2:])
        fill = g.floats(layer, "fill", LOWEST if layer.mode == "max" else 0.0)
        x, pads = g.step(layer, "padded", "Pad", x, edges, fill), (0, 0, 0, 0)
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
