"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import Axpy, Bias, Dropout, Eltwise, Pointwise, Power, PReLU, ReLU, Scale, Sigmoid, TanH, Unary
from zoo.reference.arrays import Float64, along, by_parts
from zoo.shapes import power_constant


def apply(layer: Pointwise, inputs: Sequence[Float64], parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    x = inputs[0]
    match layer:
        case ReLU():
            return by_parts(partial(_relu, slope=layer.negative_slope), x)
        case PReLU():
            return by_parts(_below_zero, x, along(x, 0 if layer.shared else 1, parameters["slope"]))
        case Unary():
            return by_parts(partial(_unary, layer), x)
        case Sigmoid():
            return by_parts(_sigmoid, x)
        case TanH():
            return by_parts(np.tanh, x)
        case Power():
            return by_parts(partial(_power, layer), x)
        case Dropout():
            return x
        case Eltwise():
            return by_parts(lambda *parts: _eltwise(layer, parts), *inputs)
        case Scale():
            factor = along(x, layer.axis, inputs[1] if len(inputs) == 2 else parameters["weight"])
            if not layer.bias:
                return by_parts(np.multiply, x, factor)
            # The bias has no batch axis, wherever the factor comes from.
            return by_parts(_scaled, x, factor, along(x, layer.axis % x.ndim or 1, parameters["bias"]))
        case Axpy():
            a, x, y = inputs
            return by_parts(_scaled, x, a.reshape(*a.shape[:2], *[1] * (x.ndim - 2)), y)
        case Bias():
            return by_parts(np.add, x, along(x, layer.axis, inputs[1] if len(inputs) == 2 else parameters["bias"]))
        case _:
            assert_never(layer)


def _scaled(x: Float64, factor: Float64, added: Float64) -> Float64:
    y = x * factor
    y += added
    return y


def _relu(x: Float64, slope: float) -> Float64:
    if slope == 0 and x.min(initial=0.0) > -np.inf:  # or else it is 0 x -Inf below zero, which is NaN
        return np.maximum(x, 0)
    return _below_zero(x, slope)


def _below_zero(x: Float64, slope: float | Float64) -> Float64:
    """`x` above zero and `slope` times it below, without a choice at each number, which a processor cannot guess."""
    below = np.minimum(x, 0)
    below *= slope
    below += np.maximum(x, 0)
    return below


def _sigmoid(x: Float64) -> Float64:
    return 0.5 * (1 + np.tanh(0.5 * x))  # the same function as 1 / (1 + exp(-x)), without its overflow


def _unary(layer: Unary, x: Float64) -> Float64:
    match layer.function, layer.numbers:
        case "abs", ():
            return np.abs(x)
        case "bnll", ():
            return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))  # the same, without overflow
        case "clip", (low, high):
            # clip_layer.cpp, std::max(min, std::min(x, max)): what is not greater than min, NaN included, is min.
            capped = np.minimum(x, high)
            return np.where(capped > low, capped, low)
        case "elu", (alpha,):
            return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))
        case "exp", (base, scale, shift):
            with np.errstate(over="ignore"):
                return np.exp(np.log(base) * (scale * x + shift))
        case "log", (base, scale, shift):
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.log(scale * x + shift) / np.log(base)
        case "swish", (beta,):
            with np.errstate(invalid="ignore"):
                return x * _sigmoid(beta * x)
        case _, numbers:
            return (x > np.float32(numbers[0])).astype(np.float64)  # threshold_layer.cpp compares float32


def _power(layer: Power, x: Float64) -> Float64:
    """As power_layer.cpp: nothing is added where the shift is 0, so that -0 stays -0; a constant reads no input."""
    fixed = power_constant(layer)
    if fixed is not None:
        return np.full_like(x, fixed)
    scaled = layer.scale * x
    base = scaled + layer.shift if layer.shift else scaled
    with np.errstate(divide="ignore", invalid="ignore"):
        if layer.power in (-1, 1, 2):
            return base**layer.power
        # By an array of exponents: for a single 0.5, NumPy takes the square root, which has another answer for -inf.
        return np.power(base, np.full_like(base, layer.power))


def _eltwise(layer: Eltwise, inputs: Sequence[Float64]) -> Float64:
    match layer.operation:
        case "sum":
            first, *others = zip(layer.coeffs or (1.0,) * len(inputs), inputs, strict=True)
            total = first[0] * first[1]
            for coeff, x in others:
                total += x if coeff == 1 else coeff * x
            return total
        case "prod":
            return reduce(np.multiply, inputs)
        case "max":
            # eltwise_layer.cpp: the second unless the first is greater, then each other that is greater; NaN never is.
            best = np.where(inputs[0] > inputs[1], inputs[0], inputs[1]) if len(inputs) > 1 else inputs[0]
            for other in inputs[2:]:
                best = np.where(other > best, other, best)
            return best
