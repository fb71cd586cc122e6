"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import Bias, Dropout, Eltwise, Pointwise, Power, ReLU, Scale, Sigmoid, TanH
from zoo.reference.arrays import Float64, along


def apply(layer: Pointwise, inputs: Sequence[Float64], parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    x = inputs[0]
    match layer:
        case ReLU():
            return np.where(x > 0, x, layer.negative_slope * x)
        case Sigmoid():
            return 0.5 * (1 + np.tanh(0.5 * x))  # the same function as 1 / (1 + exp(-x)), without its overflow
        case TanH():
            return np.tanh(x)
        case Power():
            return np.power(layer.shift + layer.scale * x, layer.power)
        case Dropout():
            return x
        case Eltwise():
            return _eltwise(layer, inputs)
        case Scale():
            scaled = x * along(x, layer.axis, inputs[1] if len(inputs) == 2 else parameters["weight"])
            # The bias has no batch axis, wherever the factor comes from.
            return scaled + along(x, layer.axis % x.ndim or 1, parameters["bias"]) if layer.bias else scaled
        case Bias():
            return x + along(x, layer.axis, inputs[1] if len(inputs) == 2 else parameters["bias"])
        case _:
            assert_never(layer)


def _eltwise(layer: Eltwise, inputs: Sequence[Float64]) -> Float64:
    match layer.operation:
        case "sum":
            coeffs = layer.coeffs or (1.0,) * len(inputs)
            return np.add.reduce([c * x for c, x in zip(coeffs, inputs, strict=True)])
        case "prod":
            return np.multiply.reduce(list(inputs))
        case "max":
            return np.maximum.reduce(list(inputs))
