"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from functools import partial
from math import e
from typing import Any, assert_never

from zoo import layers
from zoo.frameworks.caffe.row import Row, Setting, plain_row
from zoo.layers import FUNCTIONS, Function
from zoo.wire.prototxt import Message, PrototxtError, Word

OPERATIONS = ("PROD", "SUM", "MAX")


def _read_eltwise(block: Message, name: str, inputs: tuple[str, ...]) -> layers.Eltwise:
    operation = block.enum("operation", "SUM", OPERATIONS)
    coeffs = tuple(block.numbers("coeff"))
    if len(inputs) < 2:
        raise PrototxtError(block.line, "has one bottom; an Eltwise takes two or more")
    # eltwise_layer.cpp passes over the coefficients of a MAX.
    if coeffs and (operation == "PROD" or len(coeffs) != len(inputs)):
        raise PrototxtError(block.line, "coeff belongs to SUM, one for each bottom")
    match operation:
        case "PROD":
            return layers.Eltwise(name=name, inputs=inputs, operation="prod")
        case "MAX":
            return layers.Eltwise(name=name, inputs=inputs, operation="max")
        case _:
            return layers.Eltwise(name=name, inputs=inputs, coeffs=coeffs)


def _read_unary(function: Function, block: Message, name: str, inputs: tuple[str, ...]) -> layers.Unary:
    fields = FUNCTIONS[function]
    numbers = {field: block.number(field, default) for field, default in fields.items()}
    if numbers.get("base") == -1:
        numbers["base"] = e
    return layers.Unary(name=name, inputs=inputs, function=function, numbers=tuple(numbers.values()))


def _write_unary(layer: layers.Unary) -> Message:
    block, fields = Message(), FUNCTIONS[layer.function]
    if layer.numbers != tuple(fields.values()):
        for field, number in zip(fields, layer.numbers, strict=True):
            block.add(field, -1.0 if (field, number) == ("base", e) else number)
    return block


def _read_relu6(block: Message, name: str, inputs: tuple[str, ...]) -> layers.Unary:
    return layers.Unary(name=name, inputs=inputs, function="clip", numbers=(0.0, 6.0))


def _write_eltwise(layer: layers.Eltwise) -> Message:
    return Message().add("operation", Word(layer.operation.upper())).add("coeff", *layer.coeffs)


_RELU = plain_row(layers.ReLU, "ReLU", "relu_param", Setting("negative_slope", 0.0), in_place=True)
_PRELU = plain_row(layers.PReLU, "PReLU", "prelu_param", Setting("channel_shared", False, "shared"), in_place=True)


def _unary(function: Function, type_: str, block: str = "") -> Row[layers.Unary]:
    read = partial(_read_unary, function)
    return Row(kind=layers.Unary, type=type_, block=block, read=read, write=_write_unary, in_place=function != "abs")


_UNARY: dict[Function, Row[layers.Unary]] = {
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
_RELU6 = Row(kind=layers.Unary, type="ReLU6", block="", read=_read_relu6, write=_write_unary, in_place=True)
_SIGMOID = plain_row(layers.Sigmoid, "Sigmoid", "sigmoid_param", in_place=True)
_TANH = plain_row(layers.TanH, "TanH", "tanh_param", in_place=True)
_NUMBERS = (Setting("power", 1.0), Setting("scale", 1.0), Setting("shift", 0.0))
_POWER = plain_row(layers.Power, "Power", "power_param", *_NUMBERS, in_place=True)
_RATIO = Setting("dropout_ratio", 0.5, "ratio", always=True)
_DROPOUT = plain_row(layers.Dropout, "Dropout", "dropout_param", _RATIO, in_place=True)
_ELTWISE = Row(kind=layers.Eltwise, type="Eltwise", block="eltwise_param", read=_read_eltwise, write=_write_eltwise)
_AXES = (Setting("axis", 1), Setting("num_axes", 1))
_SCALE = plain_row(layers.Scale, "Scale", "scale_param", *_AXES, Setting("bias_term", False, "bias"), in_place=True)
_BIAS = plain_row(layers.Bias, "Bias", "bias_param", *_AXES, in_place=True)
_AXPY = plain_row(layers.Axpy, "Axpy")
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


def row(layer: layers.Pointwise) -> Row[Any]:
    """The row of a layer of the family."""
    match layer:
        case layers.ReLU():
            return _RELU
        case layers.PReLU():
            return _PRELU
        case layers.Unary():
            return _UNARY[layer.function]
        case layers.Sigmoid():
            return _SIGMOID
        case layers.TanH():
            return _TANH
        case layers.Power():
            return _POWER
        case layers.Dropout():
            return _DROPOUT
        case layers.Eltwise():
            return _ELTWISE
        case layers.Scale():
            return _SCALE
        case layers.Axpy():
            return _AXPY
        case layers.Bias():
            return _BIAS
        case _:
            assert_never(layer)
