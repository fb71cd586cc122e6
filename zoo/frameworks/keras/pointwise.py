"""Functions of single numbers: the row of each kind."""

from __future__ import annotations

from typing import assert_never

from zoo import layers
from zoo.axes import affine_shape, axis_index
from zoo.frameworks.keras.calls import Call, Value, canonical, own, unless
from zoo.frameworks.keras.site import Site
from zoo.layers import FUNCTIONS
from zoo.shapes import layer_parameters, power_constant

_ELTWISE = {"sum": "Add", "prod": "Multiply", "max": "Maximum"}


def call(layer: layers.Pointwise, at: Site) -> Call:
    """The family's part of `zoo.frameworks.keras.table.calls`."""
    match layer:
        case layers.ReLU():
            return own("SlopedReLU", slope=layer.negative_slope) if layer.negative_slope else Call(make="ReLU")
        case layers.PReLU():
            return canonical("ChannelPReLU", **unless(not layer.shared, shared=True))
        case layers.Unary():
            return _unary(layer)
        case layers.Sigmoid():
            return Call(make="Activation", args={"activation": "sigmoid"})
        case layers.TanH():
            return Call(make="Activation", args={"activation": "tanh"})
        case layers.Power():
            fixed = power_constant(layer)
            numbers = {"power": layer.power, "scale": layer.scale, "shift": layer.shift}
            return own("Power", **numbers) if fixed is None else own("Fill", value=fixed)
        case layers.Dropout():
            return Call(make="Dropout", args={"rate": layer.ratio})
        case layers.Eltwise():
            if layer.coeffs:
                return own("WeightedSum", coefficients=layer.coeffs)
            return Call(make=_ELTWISE[layer.operation])
        case layers.Scale() | layers.Bias():
            return _beside(layer, at) if len(at.shapes) == 2 else _affine(layer, at)
        case layers.Axpy():
            return canonical("Axpy")
        case _:
            assert_never(layer)


def _unary(layer: layers.Unary) -> Call:
    match layer.function:
        case "bnll":
            return Call(make="Activation", args={"activation": "softplus"})
        case "elu":
            return Call(make="ELU", options={"alpha": layer.numbers[0]} if layer.numbers else {})
        case "abs":
            return own("Abs")
        case "clip":
            low, high = layer.numbers or tuple(FUNCTIONS["clip"].values())
            return own("Clip", low=low, high=high)
        case "exp" | "log" | "swish" | "threshold":
            numbers: dict[str, Value] = dict(zip(FUNCTIONS[layer.function], layer.numbers, strict=False))
            return own(layer.function.capitalize(), **numbers)
        case _:
            assert_never(layer.function)


def _affine(layer: layers.Scale | layers.Bias, at: Site) -> Call:
    shape = at.shapes[0]
    size = affine_shape(layer, shape)
    trailing = len(shape) + 1 - axis_index(layer.name, layer.axis, shape) - len(size)
    what = {"scale": isinstance(layer, layers.Scale), "center": isinstance(layer, layers.Bias) or layer.bias}
    return canonical("Affine", shape=size, trailing=trailing, **what)


def _beside(layer: layers.Scale | layers.Bias, at: Site) -> Call:
    first, second = at.shapes
    trailing = len(first) - axis_index(layer.name, layer.axis, first) - len(second)
    rows = layer_parameters(layer, at.shapes)
    bias = {"bias_shape": rows[0].shape} if rows else {}
    return canonical(
        "Beside", operation="prod" if isinstance(layer, layers.Scale) else "sum", trailing=trailing, **bias
    )
