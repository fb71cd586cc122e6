"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import c_float
from typing import assert_never

from zoo import layers
from zoo.axes import affine_shape, axis_index, shape_text
from zoo.errors import SpecError
from zoo.layers import FUNCTIONS, Bias, Eltwise, Power, Scale, Shape, Unary
from zoo.parameters import Parameter, factor, slope, term
from zoo.shapes.base import inputs_of, one_input


def output_shape(layer: layers.Pointwise, inputs: Sequence[Shape]) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    match layer:
        case layers.ReLU() | layers.Sigmoid() | layers.TanH() | layers.Power():
            return one_input(layer, inputs)
        case layers.PReLU():
            shape = one_input(layer, inputs)
            if not 1 <= len(shape) <= 3:
                raise SpecError(layer.name, f"needs 2 to 4 axes with the batch, got N x {shape_text(shape)}")
            return shape
        case Unary():
            _check_unary(layer)
            return one_input(layer, inputs)
        case layers.Dropout():
            if not 0 <= layer.ratio < 1:
                raise SpecError(layer.name, f"ratio must be in [0, 1), got {layer.ratio}")
            return one_input(layer, inputs)
        case Eltwise():
            return _eltwise_shape(layer, inputs)
        case Scale() | Bias():
            return _affine_shape(layer, inputs)
        case layers.Axpy():
            a, x, y = inputs_of(layer, inputs, 3)
            if not x or x != y or a[:1] != x[:1] or math.prod(a[1:]) != 1:
                raise SpecError(layer.name, f"cannot compute a x + y of {', '.join(map(shape_text, inputs))}")
            return x
        case _:
            assert_never(layer)


def parameters(layer: layers.Pointwise, inputs: Sequence[Shape]) -> tuple[Parameter, ...]:
    """The family's part of `zoo.shapes.layer_parameters`."""
    shape = inputs[0]
    match layer:
        case layers.PReLU():
            return (slope(() if layer.shared else shape[:1]),)
        case Scale() if len(inputs) == 2:
            axis = axis_index(layer.name, layer.axis, shape)
            size = shape[axis - 1 : axis + len(inputs[1])] if axis else inputs[1]
            return (term(size, slim="beta", blob=0),) if layer.bias else ()
        case Scale():
            size = affine_shape(layer, shape)
            return (factor(size), term(size, slim="beta", blob=1)) if layer.bias else (factor(size),)
        case Bias():
            return () if len(inputs) == 2 else (term(affine_shape(layer, shape), slim="biases", blob=0),)
        case layers.ReLU() | layers.Sigmoid() | layers.TanH() | Unary() | Power():
            return ()
        case layers.Dropout() | Eltwise() | layers.Axpy():
            return ()
        case _:
            assert_never(layer)


def _eltwise_shape(layer: Eltwise, inputs: Sequence[Shape]) -> Shape:
    if any(other != inputs[0] for other in inputs):
        raise SpecError(layer.name, f"inputs differ in shape: {', '.join(map(shape_text, inputs))}")
    if layer.coeffs and (layer.operation != "sum" or len(layer.coeffs) != len(inputs)):
        raise SpecError(layer.name, f"{len(layer.coeffs)} coefficients for a {layer.operation} of {len(inputs)}")
    return inputs[0]


def _affine_shape(layer: Scale | Bias, inputs: Sequence[Shape]) -> Shape:
    if len(inputs) != 2:
        shape = one_input(layer, inputs)
        affine_shape(layer, shape)
        return shape
    shape, operand = inputs
    axis = axis_index(layer.name, layer.axis, shape)
    if operand != shape[axis : axis + len(operand)]:
        told = f"N x {shape_text(operand)} along axis {axis} of N x {shape_text(shape)}"
        raise SpecError(layer.name, f"the second input does not fit the first: {told}")
    return shape


def power_constant(layer: Power) -> float | None:
    """What a `Power` is everywhere, where it does not read its input: power times scale is 0 in float32."""
    if c_float(c_float(layer.scale).value * c_float(layer.power).value).value != 0:
        return None
    try:
        return math.pow(layer.shift, layer.power)
    except OverflowError:
        return math.inf
    except ValueError:  # C's pow: 0 to a negative power, and a root of a negative number
        return math.inf if layer.shift == 0 else math.nan


def _check_unary(layer: Unary) -> None:
    names = FUNCTIONS[layer.function]
    if len(layer.numbers) != len(names):
        told = ", ".join(names) or "none"
        raise SpecError(layer.name, f"{layer.function} takes {len(names)} numbers ({told}), got {len(layer.numbers)}")
    # exp_layer.cpp, log_layer.cpp: LayerSetUp
    if "base" in names and layer.numbers[0] <= 0:
        raise SpecError(layer.name, f"the base of {layer.function} must be positive, got {layer.numbers[0]:g}")
    if layer.function == "log" and layer.numbers[0] == 1:
        raise SpecError(layer.name, "the base of a logarithm cannot be 1")
