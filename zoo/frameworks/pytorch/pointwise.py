"""Functions of single numbers as torch.nn's modules, or ours where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from torch import nn

from zoo.axes import affine_shape, axis_index
from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call, unless
from zoo.geometry import power_constant
from zoo.layers import (
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
    Shape,
    Sigmoid,
    TanH,
    Unary,
)
from zoo.parameters import layer_parameters


def call(layer: Pointwise, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    shape = inputs[0]
    match layer:
        case ReLU():
            return Call(make=nn.LeakyReLU, args=(layer.negative_slope,)) if layer.negative_slope else Call(make=nn.ReLU)
        case PReLU():
            return Call(make=modules.SharedPReLU) if layer.shared else Call(make=nn.PReLU, args=(shape[0],))
        case Unary():
            return _unary(layer)
        case Sigmoid():
            return Call(make=nn.Sigmoid)
        case TanH():
            return Call(make=nn.Tanh)
        case Power():
            fixed = power_constant(layer)
            if fixed is not None:
                return Call(make=modules.Fill, args=(fixed,))
            return Call(make=modules.Power, args=(layer.power, layer.scale, layer.shift))
        case Dropout():
            return Call(make=nn.Dropout, args=(layer.ratio,))
        case Eltwise():
            coefficients = (layer.coeffs,) if layer.coeffs else ()
            return Call(make=modules.Eltwise, args=(layer.operation, *coefficients))
        case Scale():
            options = unless(not layer.bias, bias=True)
            if len(inputs) == 2:
                rows = layer_parameters(layer, inputs)
                options: dict[str, object] = {"bias": rows[0].shape} if rows else {}
                trailing = len(shape) - axis_index(layer.name, layer.axis, shape) - len(inputs[1])
                return Call(make=modules.Multiply, args=(trailing,), options=options)
            return Call(make=modules.Scale, args=_affine(layer, shape), options=options)
        case Axpy():
            return Call(make=modules.Axpy)
        case Bias():
            if len(inputs) == 2:
                trailing = len(shape) - axis_index(layer.name, layer.axis, shape) - len(inputs[1])
                return Call(make=modules.Add, args=(trailing,))
            return Call(make=modules.Bias, args=_affine(layer, shape))
        case _:
            assert_never(layer)


# Function -> the module that takes the function's numbers.
_UNARY: dict[Function, type[nn.Module]] = {
    "abs": modules.Abs,
    "bnll": nn.Softplus,
    "clip": modules.Clip,
    "elu": nn.ELU,
    "exp": modules.Exp,
    "log": modules.Log,
    "swish": modules.Swish,
    "threshold": modules.Threshold,
}


def _unary(layer: Unary) -> Call:
    return Call(make=_UNARY[layer.function], args=layer.numbers)


def _affine(layer: Scale | Bias, shape: Shape) -> tuple[Shape, int]:
    """The shape of the parameter, and over how many axes it is broadcast after its own."""
    size = affine_shape(layer, shape)
    return size, len(shape) + 1 - axis_index(layer.name, layer.axis, shape) - len(size)
