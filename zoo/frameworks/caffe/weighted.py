"""Convolution and InnerProduct."""

from __future__ import annotations

from typing import Any, assert_never

from zoo.frameworks.caffe.row import Row, read_pair, required, unless, write_pair
from zoo.layers import Conv, Dense, Weighted
from zoo.wire.prototxt import Message, PrototxtError


def _read_conv(block: Message, name: str, inputs: tuple[str, ...]) -> Conv:
    if block.integer("axis", 1) not in (1, -3):
        raise PrototxtError(block.line, "convolution needs axis 1, the channels of N x C x H x W")
    return Conv(
        name=name,
        inputs=inputs,
        out_channels=required(block, "num_output"),
        kernel=read_pair(block, "kernel_size", "kernel", None),
        stride=read_pair(block, "stride", "stride", 1),
        pad=read_pair(block, "pad", "pad", 0),
        dilation=read_pair(block, "dilation", "", 1),
        groups=block.integer("group", 1),
        bias=block.flag("bias_term", True),
    )


def _read_dense(block: Message, name: str, inputs: tuple[str, ...]) -> Dense:
    return Dense(
        name=name,
        inputs=inputs,
        out_features=required(block, "num_output"),
        bias=block.flag("bias_term", True),
        axis=block.integer("axis", 1),
    )


def _write_conv(layer: Conv) -> Message:
    block = Message().add("num_output", layer.out_channels)
    unless(block, "bias_term", layer.bias, True)
    write_pair(block, "pad", "pad", layer.pad, 0)
    write_pair(block, "kernel_size", "kernel", layer.kernel, None)
    write_pair(block, "stride", "stride", layer.stride, 1)
    if layer.dilation != (1, 1):
        block.add("dilation", *layer.dilation[: 1 if layer.dilation[0] == layer.dilation[1] else 2])
    return unless(block, "group", layer.groups, 1)


def _write_dense(layer: Dense) -> Message:
    block = Message().add("num_output", layer.out_features)
    unless(block, "bias_term", layer.bias, True)
    return unless(block, "axis", layer.axis, 1)


_CONVOLUTION = Row(kind=Conv, type="Convolution", block="convolution_param", read=_read_conv, write=_write_conv)
_INNER_PRODUCT = Row(kind=Dense, type="InnerProduct", block="inner_product_param", read=_read_dense, write=_write_dense)
ROWS: tuple[Row[Any], ...] = (_CONVOLUTION, _INNER_PRODUCT)


def row(layer: Weighted) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case Conv():
            return _CONVOLUTION
        case Dense():
            return _INNER_PRODUCT
        case _:
            assert_never(layer)
