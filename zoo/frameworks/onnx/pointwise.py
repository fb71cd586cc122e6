"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from math import log
from typing import TypeAlias, assert_never

from zoo import layers
from zoo.axes import affine_shape, axis_index
from zoo.frameworks.onnx.builder import Builder
from zoo.layers import Layer, Shape
from zoo.shapes import layer_parameters, power_constant


def add(g: Builder, layer: layers.Pointwise, inputs: tuple[str, ...], shapes: list[Shape]) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    x = inputs[0]
    match layer:
        case layers.ReLU():
            slope = layer.negative_slope
            g.last(layer, "LeakyRelu" if slope else "Relu", x, **({"alpha": slope} if slope else {}))
        case layers.PReLU():
            slope, spread = f"{layer.name}.slope", len(shapes[0]) > 1 and not layer.shared
            ones = [1] * (len(shapes[0]) - 1)
            g.last(layer, "PRelu", x, g.reshape(layer, "slope_spread", slope, -1, *ones) if spread else slope)
        case layers.Unary():
            _unary(g, layer, x)
        case layers.Sigmoid():
            g.last(layer, "Sigmoid", x)
        case layers.TanH():
            g.last(layer, "Tanh", x)
        case layers.Power():
            _power(g, layer, x)
        case layers.Dropout():
            _dropout(g, layer, x)
        case layers.Eltwise():
            _eltwise(g, layer, inputs)
        case layers.Scale():
            weight = _operand(g, layer, "weight", inputs, shapes)
            if layer.bias:
                scaled = g.step(layer, "scaled", "Mul", x, weight)
                g.last(layer, "Add", scaled, _operand(g, layer, "bias", inputs, shapes))
            else:
                g.last(layer, "Mul", x, weight)
        case layers.Axpy():
            a, x, y = inputs
            factor = g.reshape(layer, "factor", a, -1, shapes[1][0], *[1] * (len(shapes[1]) - 1))
            g.last(layer, "Add", g.step(layer, "scaled", "Mul", factor, x), y)
        case layers.Bias():
            g.last(layer, "Add", x, _operand(g, layer, "bias", inputs, shapes))
        case _:
            assert_never(layer)


def _dropout(g: Builder, layer: layers.Dropout, x: str) -> None:
    if g.opset < 12:
        g.last(layer, "Dropout", x, ratio=float(layer.ratio))
    else:
        g.last(layer, "Dropout", x, g.floats(layer, "ratio", layer.ratio))


def _unary(g: Builder, layer: layers.Unary, x: str) -> None:
    match layer.function, layer.numbers:
        case "abs", ():
            g.last(layer, "Abs", x)
        case "bnll", ():
            g.last(layer, "Softplus", x)
        case "clip", (low, high):
            # ONNX leaves open what Clip makes of NaN, and gives max where min is the greater.
            least = g.floats(layer, "min", low)
            capped = g.step(layer, "capped", "Min", x, g.floats(layer, "max", high))
            g.last(layer, "Where", g.step(layer, "inside", "Greater", capped, least), capped, least)
        case "elu", (alpha,):
            g.last(layer, "Elu", x, alpha=float(alpha))
        case "exp", (base, scale, shift):
            # As exp_layer.cpp: what overflows is the factor that reads x.
            _chain(g, layer, x, ("Mul", "scale", scale * log(base), 1.0), ("Exp",), ("Mul", "factor", base**shift, 1.0))
        case "log", (base, scale, shift):
            read = [("Mul", "scale", scale, 1.0), ("Add", "shift", shift, 0.0)]
            _chain(g, layer, x, *read, ("Log",), ("Mul", "factor", 1 / log(base), 1.0))
        case "swish", (beta,):
            scaled = x if beta == 1 else g.step(layer, "scaled", "Mul", x, g.floats(layer, "beta", beta))
            g.last(layer, "Mul", x, g.step(layer, "gate", "Sigmoid", scaled))
        case _, numbers:
            above = g.step(layer, "above", "Greater", x, g.floats(layer, "threshold", numbers[0]))
            g.last(layer, "Cast", above, to=1)  # TensorProto.FLOAT


# One operator of a chain, with its second operand by name and value, and the value that changes nothing.
_Step: TypeAlias = tuple[str] | tuple[str, str, float, float]


def _chain(g: Builder, layer: Layer, x: str, *steps: _Step) -> None:
    """Operators one after the other, without those that change nothing."""
    needed = [step for step in steps if len(step) == 1 or step[2] != step[3]]
    if not needed:
        g.last(layer, "Identity", x)
    for i, step in enumerate(needed):
        operands = [x] if len(step) == 1 else [x, g.floats(layer, step[1], step[2])]
        if i == len(needed) - 1:
            g.last(layer, step[0], *operands)
        else:
            x = g.step(layer, f"{step[-1] if len(step) == 1 else step[1]}_done".lower(), step[0], *operands)


def _power(g: Builder, layer: layers.Power, x: str) -> None:
    fixed = power_constant(layer)
    if fixed is not None:
        g.last(layer, "Expand", g.floats(layer, "value", fixed), g.step(layer, "size", "Shape", x))
        return
    scaled = [("Mul", "scale", layer.scale, 1.0), ("Add", "shift", layer.shift, 0.0)]
    _chain(g, layer, x, *scaled, ("Pow", "power", layer.power, 1.0))


def _eltwise(g: Builder, layer: layers.Eltwise, inputs: tuple[str, ...]) -> None:
    match layer.operation:
        case "sum":
            coefficients = layer.coeffs or (1.0,) * len(inputs)
            terms = [
                x if c == 1 else g.step(layer, f"term{i}", "Mul", x, g.floats(layer, f"coefficient{i}", c))
                for i, (x, c) in enumerate(zip(inputs, coefficients, strict=True))
            ]
            g.last(layer, "Sum", *terms)
        case "max":
            g.last(layer, "Max", *inputs)
        case "prod" if len(inputs) == 1:
            g.last(layer, "Identity", *inputs)
        case "prod":
            product = inputs[0]
            for i, x in enumerate(inputs[1:-1]):
                product = g.step(layer, f"product{i}", "Mul", product, x)
            g.last(layer, "Mul", product, inputs[-1])


def _operand(
    g: Builder, layer: layers.Scale | layers.Bias, kind: str, inputs: tuple[str, ...], shapes: list[Shape]
) -> str:
    """What is multiplied or added, shaped to broadcast over the first input."""
    rank = len(shapes[0]) + 1
    if len(inputs) == 2 and (kind == "weight" or isinstance(layer, layers.Bias)):
        name, sizes, start = inputs[1], (-1, *shapes[1]), axis_index(layer.name, layer.axis, shapes[0])
    elif len(inputs) == 2:
        (row,) = layer_parameters(layer, shapes)
        name, sizes = f"{layer.name}.{kind}", row.shape
        start = axis_index(layer.name, layer.axis, shapes[0]) or 1
    else:
        name, sizes = f"{layer.name}.{kind}", affine_shape(layer, shapes[0])
        start = axis_index(layer.name, layer.axis, shapes[0])
    tail = rank - start - len(sizes)
    return g.reshape(layer, f"{kind}_spread", name, *sizes, *[1] * tail) if tail else name
