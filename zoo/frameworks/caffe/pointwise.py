"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from functools import partial
from math import e
from typing import Any, assert_never

from zoo.frameworks.caffe.row import Row, plain, unless
from zoo.layers import (
    FUNCTIONS,
    Axpy,
    Bias,
    Dropout,
    Eltwise,
    Function,
    Pointwise,
    Power,
    PReLU,
    ReLU,
    Scale,
    Sigmoid,
    TanH,
    Unary,
)
from zoo.wire.prototxt import Message, PrototxtError, Word

_ELTWISE_OPERATIONS = ("PROD", "SUM", "MAX")


def _read_power(block: Message, name: str, inputs: tuple[str, ...]) -> Power:
    power, scale, shift = block.number("power", 1.0), block.number("scale", 1.0), block.number("shift", 0.0)
    return Power(name=name, inputs=inputs, power=power, scale=scale, shift=shift)


def _read_eltwise(block: Message, name: str, inputs: tuple[str, ...]) -> Eltwise:
    operation = block.enum("operation", "SUM", _ELTWISE_OPERATIONS)
    coeffs = tuple(block.numbers("coeff"))
    if len(inputs) < 2:
        raise PrototxtError(block.line, "has one bottom; an Eltwise takes two or more")
    # eltwise_layer.cpp passes over the coefficients of a MAX.
    if coeffs and (operation == "PROD" or len(coeffs) != len(inputs)):
        raise PrototxtError(block.line, "coeff belongs to SUM, one for each bottom")
    match operation:
        case "PROD":
            return Eltwise(name=name, inputs=inputs, operation="prod")
        case "MAX":
            return Eltwise(name=name, inputs=inputs, operation="max")
        case _:
            return Eltwise(name=name, inputs=inputs, coeffs=coeffs)


def _read_scale(block: Message, name: str, inputs: tuple[str, ...]) -> Scale:
    axis, num_axes = block.integer("axis", 1), block.integer("num_axes", 1)
    return Scale(name=name, inputs=inputs, axis=axis, num_axes=num_axes, bias=block.flag("bias_term", False))


def _read_bias(block: Message, name: str, inputs: tuple[str, ...]) -> Bias:
    return Bias(name=name, inputs=inputs, axis=block.integer("axis", 1), num_axes=block.integer("num_axes", 1))


def _read_relu(block: Message, name: str, inputs: tuple[str, ...]) -> ReLU:
    return ReLU(name=name, inputs=inputs, negative_slope=block.number("negative_slope", 0.0))


def _write_relu(layer: ReLU) -> Message:
    return unless(Message(), "negative_slope", layer.negative_slope, 0.0)


def _read_prelu(block: Message, name: str, inputs: tuple[str, ...]) -> PReLU:
    return PReLU(name=name, inputs=inputs, shared=block.flag("channel_shared", False))


def _write_prelu(layer: PReLU) -> Message:
    return unless(Message(), "channel_shared", layer.shared, False)


def _read_unary(function: Function, block: Message, name: str, inputs: tuple[str, ...]) -> Unary:
    fields = FUNCTIONS[function]
    if function == "clip" and block.fields and len(block.fields) < len(fields):
        raise PrototxtError(block.line, "clip_param needs both min and max")
    numbers = {field: block.number(field, default) for field, default in fields.items()}
    if numbers.get("base") == -1:
        numbers["base"] = e
    return Unary(name=name, inputs=inputs, function=function, numbers=tuple(numbers.values()))


def _write_unary(layer: Unary) -> Message:
    block, fields = Message(), FUNCTIONS[layer.function]
    if layer.numbers != tuple(fields.values()):
        for field, number in zip(fields, layer.numbers, strict=True):
            block.add(field, -1.0 if (field, number) == ("base", e) else number)
    return block


def _read_relu6(block: Message, name: str, inputs: tuple[str, ...]) -> Unary:
    return Unary(name=name, inputs=inputs, function="clip", numbers=(0.0, 6.0))


def _read_sigmoid(block: Message, name: str, inputs: tuple[str, ...]) -> Sigmoid:
    return Sigmoid(name=name, inputs=inputs)


def _read_tanh(block: Message, name: str, inputs: tuple[str, ...]) -> TanH:
    return TanH(name=name, inputs=inputs)


def _write_power(layer: Power) -> Message:
    block = unless(Message(), "power", layer.power, 1.0)
    unless(block, "scale", layer.scale, 1.0)
    return unless(block, "shift", layer.shift, 0.0)


def _read_dropout(block: Message, name: str, inputs: tuple[str, ...]) -> Dropout:
    return Dropout(name=name, inputs=inputs, ratio=block.number("dropout_ratio", 0.5))


def _write_dropout(layer: Dropout) -> Message:
    return Message().add("dropout_ratio", layer.ratio)


def _write_eltwise(layer: Eltwise) -> Message:
    return Message().add("operation", Word(layer.operation.upper())).add("coeff", *layer.coeffs)


def _write_affine(layer: Scale | Bias) -> Message:
    block = unless(Message(), "axis", layer.axis, 1)
    unless(block, "num_axes", layer.num_axes, 1)
    return unless(block, "bias_term", isinstance(layer, Scale) and layer.bias, False)


_RELU = Row(kind=ReLU, type="ReLU", block="relu_param", read=_read_relu, write=_write_relu, in_place=True)
_PRELU = Row(kind=PReLU, type="PReLU", block="prelu_param", read=_read_prelu, write=_write_prelu, in_place=True)


def _unary(function: Function, type_: str, block: str = "") -> Row[Unary]:
    read = partial(_read_unary, function)
    return Row(kind=Unary, type=type_, block=block, read=read, write=_write_unary, in_place=function != "abs")


_UNARY: dict[Function, Row[Unary]] = {
    "abs": _unary("abs", "AbsVal"),
    "bnll": _unary("bnll", "BNLL"),
    "clip": _unary("clip", "Clip", "clip_param"),
    "elu": _unary("elu", "ELU", "elu_param"),
    "exp": _unary("exp", "Exp", "exp_param"),
    "log": _unary("log", "Log", "log_param"),
    "swish": _unary("swish", "Swish", "swish_param"),
    "threshold": _unary("threshold", "Threshold", "threshold_param"),
}
# A fork's word (jolibrain's relu6_layer.cpp) for a Clip; written as one.
_RELU6 = Row(kind=Unary, type="ReLU6", block="", read=_read_relu6, write=_write_unary, in_place=True)
_SIGMOID = Row(kind=Sigmoid, type="Sigmoid", block="sigmoid_param", read=_read_sigmoid, write=plain, in_place=True)
_TANH = Row(kind=TanH, type="TanH", block="tanh_param", read=_read_tanh, write=plain, in_place=True)
_POWER = Row(kind=Power, type="Power", block="power_param", read=_read_power, write=_write_power, in_place=True)
_DROPOUT = Row(
    kind=Dropout, type="Dropout", block="dropout_param", read=_read_dropout, write=_write_dropout, in_place=True
)
_ELTWISE = Row(kind=Eltwise, type="Eltwise", block="eltwise_param", read=_read_eltwise, write=_write_eltwise)
_SCALE = Row(kind=Scale, type="Scale", block="scale_param", read=_read_scale, write=_write_affine, in_place=True)


def _read_axpy(block: Message, name: str, inputs: tuple[str, ...]) -> Axpy:
    return Axpy(name=name, inputs=inputs)


_AXPY = Row(kind=Axpy, type="Axpy", block="", read=_read_axpy, write=plain)
_BIAS = Row(kind=Bias, type="Bias", block="bias_param", read=_read_bias, write=_write_affine, in_place=True)
ROWS: tuple[Row[Any], ...] = (
    _RELU,
    _PRELU,
    *_UNARY.values(),
    _RELU6,
    _SIGMOID,
    _TANH,
    _POWER,
    _DROPOUT,
    _ELTWISE,
    _SCALE,
    _BIAS,
    _AXPY,
)


def row(layer: Pointwise) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case ReLU():
            return _RELU
        case PReLU():
            return _PRELU
        case Unary():
            return _UNARY[layer.function]
        case Sigmoid():
            return _SIGMOID
        case TanH():
            return _TANH
        case Power():
            return _POWER
        case Dropout():
            return _DROPOUT
        case Eltwise():
            return _ELTWISE
        case Scale():
            return _SCALE
        case Axpy():
            return _AXPY
        case Bias():
            return _BIAS
        case _:
            assert_never(layer)
