"""Functions of single numbers, and of numbers at one place."""

from __future__ import annotations

from typing import assert_never

from zoo.axes import affine_shape, axis_index
from zoo.frameworks.onnx.builder import Builder
from zoo.layers import Bias, Dropout, Eltwise, Pointwise, Power, ReLU, Scale, Shape, Sigmoid, TanH


def add(g: Builder, layer: Pointwise, inputs: tuple[str, ...], shapes: list[Shape]) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    x = inputs[0]
    match layer:
        case ReLU():
            if layer.negative_slope:
                g.last(layer, "LeakyRelu", x, alpha=layer.negative_slope)
            else:
                g.last(layer, "Relu", x)
        case Sigmoid():
            g.last(layer, "Sigmoid", x)
        case TanH():
            g.last(layer, "Tanh", x)
        case Power():
            _power(g, layer, x)
        case Dropout():
            g.last(layer, "Dropout", x, g.floats(layer, "ratio", layer.ratio))
        case Eltwise():
            _eltwise(g, layer, inputs)
        case Scale():
            weight = _operand(g, layer, "weight", inputs, shapes)
            if layer.bias:
                scaled = g.step(layer, "scaled", "Mul", x, weight)
                g.last(layer, "Add", scaled, _operand(g, layer, "bias", inputs, shapes))
            else:
                g.last(layer, "Mul", x, weight)
        case Bias():
            g.last(layer, "Add", x, _operand(g, layer, "bias", inputs, shapes))
        case _:
            assert_never(layer)


def _power(g: Builder, layer: Power, x: str) -> None:
    steps = [("Mul", "scale", layer.scale, 1.0), ("Add", "shift", layer.shift, 0.0), ("Pow", "power", layer.power, 1.0)]
    needed = [(op, what, value) for op, what, value, neutral in steps if value != neutral]
    if not needed:
        g.last(layer, "Identity", x)
    for op, what, value in needed:
        constant = g.floats(layer, what, value)
        if what == needed[-1][1]:
            g.last(layer, op, x, constant)
        else:
            x = g.step(layer, f"{what}_done", op, x, constant)


def _eltwise(g: Builder, layer: Eltwise, inputs: tuple[str, ...]) -> None:
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


def _operand(g: Builder, layer: Scale | Bias, kind: str, inputs: tuple[str, ...], shapes: list[Shape]) -> str:
    """What is multiplied or added, shaped to broadcast over the first input."""
    rank = len(shapes[0]) + 1
    if len(inputs) == 2 and (kind == "weight" or isinstance(layer, Bias)):
        name, sizes, start = inputs[1], (-1, *shapes[1]), 0
    elif len(inputs) == 2:
        name, sizes, start = f"{layer.name}.{kind}", shapes[1], 1
    else:
        name, sizes = f"{layer.name}.{kind}", affine_shape(layer, shapes[0])
        start = axis_index(layer.name, layer.axis, shapes[0])
    tail = rank - start - len(sizes)
    return g.reshape(layer, f"{kind}_spread", name, *sizes, *[1] * tail) if tail else name
