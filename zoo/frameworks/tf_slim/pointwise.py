"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from math import log
from typing import assert_never

from zoo.axes import axis_index
from zoo.frameworks.tf_slim.calls import Expression, Name, call
from zoo.frameworks.tf_slim.site import Site, activation_beside, canonical, native, parameter
from zoo.layers import Axpy, Bias, Dropout, Eltwise, Pointwise, Power, PReLU, ReLU, Scale, Sigmoid, TanH, Unary
from zoo.shapes import layer_parameters, power_constant


def expression(layer: Pointwise, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    x, scope = at.inputs[0], at.scope
    match layer:
        case ReLU(negative_slope=0.0):
            return call("tf.nn.relu", x, name=scope)
        case ReLU():
            return call("tf.nn.leaky_relu", x, alpha=layer.negative_slope, name=scope)
        case PReLU():
            return _prelu(layer, at)
        case Unary():
            return _unary(layer, x, scope)
        case Sigmoid():
            return call("tf.nn.sigmoid", x, name=scope)
        case TanH():
            return call("tf.nn.tanh", x, name=scope)
        case Power():
            return _power(layer, x, scope)
        case Dropout():
            keep = Name("dropout_keep_prob") if layer.ratio == at.dropout else 1 - layer.ratio
            return call("slim.dropout", x, keep, is_training=Name("is_training"), scope=scope)
        case Eltwise():
            return _eltwise(layer, [*at.inputs], scope)
        case Axpy():
            a, scaled, y = at.inputs
            shape = at.shapes[1]
            factor = call("tf.reshape", canonical(a, at.shapes[0]), [-1, shape[0], *[1] * (len(shape) - 1)])
            return call("tf.add", call("tf.multiply", scaled, native(factor, shape)), y, name=scope)
        case Scale() | Bias():
            return _affine(layer, at)
        case _:
            assert_never(layer)


def _affine(layer: Scale | Bias, at: Site) -> Expression:
    """A product, a sum or both, with the parameters that the layer has, else with the second activation."""
    result, shape, rows = at.inputs[0], at.shapes[0], layer_parameters(layer, at.shapes)
    axis = axis_index(layer.name, layer.axis, shape)
    operands = [parameter(f"{at.scope}/{row.slim}", row, axis or 1, shape) for row in rows]
    if len(at.inputs) == 2:
        operands.insert(0, activation_beside(at.inputs[1], axis, at.shapes[1], shape))
    functions = ["tf.add"] if isinstance(layer, Bias) else ["tf.multiply", "tf.add"]
    for i, (function, operand) in enumerate(zip(functions, operands, strict=False)):
        last = i == len(functions) - 1
        result = call(function, result, operand, name=at.scope if last else None)
    return result


def _prelu(layer: PReLU, at: Site) -> Expression:
    x, shape, (row,) = at.inputs[0], at.shapes[0], layer_parameters(layer, at.shapes)
    slope = parameter(f"{at.scope}/{row.slim}", row, 1, shape)
    return call("tf.add", call("tf.nn.relu", x), call("tf.multiply", slope, call("tf.minimum", x, 0.0)), name=at.scope)


def _unary(layer: Unary, x: Expression, scope: str) -> Expression:
    match layer.function, layer.numbers:
        case "abs", ():
            return call("tf.abs", x, name=scope)
        case "bnll", ():
            return call("tf.nn.softplus", x, name=scope)
        case "elu", (alpha,):
            below = call("tf.multiply", call("tf.nn.elu", call("tf.minimum", x, 0.0)), alpha)
            return call("tf.add", call("tf.nn.relu", x), below, name=scope)
        case "exp", (base, scale, shift):
            # As exp_layer.cpp: what overflows is the factor that reads x.
            power = call("tf.exp", call("tf.multiply", x, scale * log(base)))
            return call("tf.multiply", power, base**shift, name=scope)
        case "log", (base, scale, shift):
            read = call("tf.add", call("tf.multiply", x, scale), shift)
            return call("tf.divide", call("tf.log", read), log(base), name=scope)
        case "swish", (beta,):
            return call("tf.multiply", x, call("tf.nn.sigmoid", call("tf.multiply", x, beta)), name=scope)
        case _:
            return call(layer.function, x, *layer.numbers, scope=scope)


def _power(layer: Power, x: Expression, scope: str) -> Expression:
    fixed = power_constant(layer)
    if fixed is not None:
        return call("tf.fill", call("tf.shape", x), fixed, name=scope)
    if layer.scale != 1:
        x = call("tf.multiply", x, layer.scale)
    if layer.shift != 0:
        x = call("tf.add", x, layer.shift)
    return call("tf.pow", x, layer.power, name=scope) if layer.power != 1 else call("tf.identity", x, name=scope)


def _eltwise(layer: Eltwise, inputs: list[Expression], scope: str) -> Expression:
    if layer.operation == "sum":
        coeffs = layer.coeffs or (1.0,) * len(inputs)
        terms = [x if c == 1 else call("tf.multiply", x, c) for x, c in zip(inputs, coeffs, strict=True)]
        return call("tf.add_n", terms, name=scope)
    made, function = inputs[0], "tf.multiply" if layer.operation == "prod" else "tf.maximum"
    for other in inputs[1:]:
        made = call(function, made, other)
    return call("tf.identity", made, name=scope)
