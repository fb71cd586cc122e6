"""Convolution, Deconvolution and InnerProduct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, assert_never

from zoo.frameworks.caffe.row import MANY, Row, Setting, plain_row, read_pair, required, unless, write_pair
from zoo.layers import Conv, Deconv, Dense, Embed, Weighted
from zoo.wire.prototxt import Message, PrototxtError

ConvKind = TypeVar("ConvKind", Conv, Deconv)


def _read_conv(kind: Callable[..., ConvKind], block: Message, name: str, inputs: tuple[str, ...]) -> ConvKind:
    kernel = read_pair(block, "kernel_size", "kernel", None)
    if block.message("weight_filler").string("type") == "bilinear" and kernel[0] != kernel[1]:
        raise PrototxtError(
            block.line, f"a bilinear weight_filler needs a square kernel, got {kernel[0]} x {kernel[1]}"
        )
    return kind(
        name=name,
        inputs=inputs,
        out_channels=required(block, "num_output"),
        kernel=kernel,
        stride=read_pair(block, "stride", "stride", 1),
        pad=read_pair(block, "pad", "pad", 0),
        dilation=read_pair(block, "dilation", "", 1),
        groups=block.integer("group", 1),
        bias=block.flag("bias_term", True),
    )


def _read_depthwise(block: Message, name: str, inputs: tuple[str, ...]) -> Conv:
    fields = {field: values for field, values in block.fields.items() if field not in ("num_output", "group")}
    return _read_conv(Conv, Message(line=block.line, fields=fields).add("num_output", 1), name, inputs)


def _write_conv(layer: Conv | Deconv) -> Message:
    block = Message().add("num_output", layer.out_channels)
    unless(block, "bias_term", layer.bias, True)
    write_pair(block, "pad", "pad", layer.pad, 0)
    write_pair(block, "kernel_size", "kernel", layer.kernel, None)
    write_pair(block, "stride", "stride", layer.stride, 1)
    if layer.dilation != (1, 1):
        block.add("dilation", *layer.dilation[: 1 if layer.dilation[0] == layer.dilation[1] else 2])
    return unless(block, "group", layer.groups, 1)


_CONVOLUTION = Row(
    kind=Conv,
    type="Convolution",
    block="convolution_param",
    read=partial(_read_conv, Conv),
    write=_write_conv,
    tops=MANY,
)
_DECONVOLUTION = Row(
    kind=Deconv,
    type="Deconvolution",
    block="convolution_param",
    read=partial(_read_conv, Deconv),
    write=_write_conv,
    tops=MANY,
)
_BIAS, _OUTPUTS = Setting("bias_term", True, "bias"), Setting("num_output", None, "out_features")
_EMBED = plain_row(Embed, "Embed", "embed_param", _OUTPUTS, Setting("input_dim", None, "rows"), _BIAS)
# sp2823's conv_dw_layer.cpp: one kernel a channel, whatever num_output and group say; see `reader`, which knows C.
_DEPTHWISE = Row(
    kind=Conv, type="ConvolutionDepthwise", block="convolution_param", read=_read_depthwise, write=_write_conv
)
# yonghenglh6's depthwise_conv_layer: an ordinary Convolution by another routine.
_GROUPED = replace(_CONVOLUTION, type="DepthwiseConvolution")
_INNER_PRODUCT = plain_row(Dense, "InnerProduct", "inner_product_param", _OUTPUTS, _BIAS, Setting("axis", 1))
ROWS: tuple[Row[Any], ...] = (_CONVOLUTION, _DECONVOLUTION, _DEPTHWISE, _GROUPED, _INNER_PRODUCT, _EMBED)


def row(layer: Weighted) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case Conv():
            return _CONVOLUTION
        case Deconv():
            return _DECONVOLUTION
        case Dense():
            return _INNER_PRODUCT
        case Embed():
            return _EMBED
        case _:
            assert_never(layer)
