"""Convolutions and dense layers as Conv and Gemm."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from zoo.axes import axis_index
from zoo.frameworks.onnx.builder import Builder, pads_of, parameters, reshape_last
from zoo.layers import Conv, Deconv, Dense, Embed, Shape, Weighted
from zoo.shapes import window


def add(g: Builder, layer: Weighted, x: str, source: Shape, shape: Shape) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    match layer:
        case Conv():
            _conv(g, layer, x, source)
        case Deconv():
            _deconv(g, layer, x)
        case Dense():
            _dense(g, layer, x, source, shape)
        case Embed():
            _embed(g, layer, x)
        case _:
            assert_never(layer)


def _conv(g: Builder, layer: Conv, x: str, source: Shape) -> None:
    at = window(layer, source)
    g.last(
        layer,
        "Conv",
        x,
        *_weights(layer),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=pads_of(at),
        dilations=layer.dilation,
        group=layer.groups,
    )


def _deconv(g: Builder, layer: Deconv, x: str) -> None:
    g.last(
        layer,
        "ConvTranspose",
        x,
        *_weights(layer),
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=layer.pad * 2,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _dense(g: Builder, layer: Dense, x: str, source: Shape, shape: Shape) -> None:
    axis = axis_index(layer.name, layer.axis, source)
    rows = x if len(source) == 1 else g.step(layer, "rows", "Flatten", x, axis=axis)
    operands = [rows, *_weights(layer)]
    if not layer.bias and g.opset < 11:  # which wants one
        operands.append(g.floats(layer, "no_bias", np.zeros(layer.out_features)))
    if axis == 1:
        g.last(layer, "Gemm", *operands, transB=1)
    else:
        reshape_last(g, layer, g.step(layer, "product", "Gemm", *operands, transB=1), shape)


def _embed(g: Builder, layer: Embed, x: str) -> None:
    g.needs(layer, 13, "its operators in these forms")
    number = g.step(layer, "number", "Cast", x, to=7)  # TensorProto.INT64, cut towards 0
    number = g.step(layer, "at_least", "Max", number, g.integers(layer, "first", 0))
    number = g.step(layer, "at_most", "Min", number, g.integers(layer, "last", layer.rows - 1))
    weight, *bias = _weights(layer)
    if bias:
        g.last(layer, "Add", g.step(layer, "rows", "Gather", weight, number, axis=0), *bias)
    else:
        g.last(layer, "Gather", weight, number, axis=0)


def _weights(layer: Weighted) -> list[str]:
    return parameters(layer, "weight", "bias") if layer.bias else parameters(layer, "weight")
