"""Functions of single numbers: the row of each kind, and the modules that ``torch.nn`` lacks.

Each module stands alone: the source writer copies its text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from zoo import layers
from zoo.axes import affine_shape, axis_index
from zoo.frameworks.pytorch.calls import Call, unless
from zoo.layers import Function, Shape, Unary
from zoo.shapes import layer_parameters, power_constant


def call(layer: layers.Pointwise, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    shape = inputs[0]
    match layer:
        case layers.ReLU():
            return Call(make=nn.LeakyReLU, args=(layer.negative_slope,)) if layer.negative_slope else Call(make=nn.ReLU)
        case layers.PReLU():
            return Call(make=SharedPReLU) if layer.shared else Call(make=nn.PReLU, args=(shape[0],))
        case Unary():
            return _unary(layer)
        case layers.Sigmoid():
            return Call(make=nn.Sigmoid)
        case layers.TanH():
            return Call(make=nn.Tanh)
        case layers.Power():
            fixed = power_constant(layer)
            if fixed is not None:
                return Call(make=Fill, args=(fixed,))
            return Call(make=Power, args=(layer.power, layer.scale, layer.shift))
        case layers.Dropout():
            return Call(make=nn.Dropout, args=(layer.ratio,))
        case layers.Eltwise():
            coefficients = (layer.coeffs,) if layer.coeffs else ()
            return Call(make=Eltwise, args=(layer.operation, *coefficients), listed=True)
        case layers.Scale():
            if len(inputs) == 2:
                rows = layer_parameters(layer, inputs)
                options = {"bias": rows[0].shape} if rows else {}
                return Call(make=Multiply, args=(_behind(layer, inputs),), options=options)
            return Call(make=Scale, args=_affine(layer, shape), options=unless(not layer.bias, bias=True))
        case layers.Axpy():
            return Call(make=Axpy)
        case layers.Bias():
            if len(inputs) == 2:
                return Call(make=Add, args=(_behind(layer, inputs),))
            return Call(make=Bias, args=_affine(layer, shape))
        case _:
            assert_never(layer)


def _behind(layer: layers.Scale | layers.Bias, inputs: Sequence[Shape]) -> int:
    """Over how many axes the second activation is broadcast after its own."""
    return len(inputs[0]) - axis_index(layer.name, layer.axis, inputs[0]) - len(inputs[1])


def _affine(layer: layers.Scale | layers.Bias, shape: Shape) -> tuple[Shape, int]:
    """The shape of the parameter, and over how many axes it is broadcast after its own."""
    size = affine_shape(layer, shape)
    return size, len(shape) + 1 - axis_index(layer.name, layer.axis, shape) - len(size)


class Abs(nn.Module):
    """``|x|``."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x.abs()


class Clip(nn.Module):
    """``max(low, min(x, high))`` as Caffe does it: `low` where it is the greater, and in place of NaN."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        capped = x.clamp(max=self.high)
        return torch.where(capped > self.low, capped, self.low)


class Exp(nn.Module):
    """``base ** (shift + scale * x)``; what overflows is the factor that reads x, as in Caffe."""

    def __init__(self, base: float, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.factor = scale * math.log(base), base**shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return self.factor * torch.exp(self.scale * x)


class Log(nn.Module):
    """``log(shift + scale * x)`` to a base."""

    def __init__(self, base: float, scale: float, shift: float) -> None:
        super().__init__()
        self.factor, self.scale, self.shift = 1 / math.log(base), scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return self.factor * torch.log(self.scale * x + self.shift)


class Swish(nn.Module):
    """``x * sigmoid(beta * x)``."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x * torch.sigmoid(self.beta * x)


class Threshold(nn.Module):
    """1 where x is greater than the threshold, else 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return (x > self.threshold).to(x.dtype)


class SharedPReLU(nn.Module):
    """``max(x, 0) + weight * min(x, 0)`` with one slope for all, a number without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x.clamp(min=0) + self.weight * x.clamp(max=0)


class Power(nn.Module):
    """``(shift + scale * x) ** power``."""

    def __init__(self, power: float, scale: float, shift: float) -> None:
        super().__init__()
        self.power, self.scale, self.shift = power, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        scaled = self.scale * x
        base = scaled + self.shift if self.shift else scaled  # -0 stays -0
        # By a tensor of exponents: for a single 0.5, torch takes the square root, which has another answer for -inf.
        return base if self.power == 1 else base ** torch.full_like(base, self.power)


class Axpy(nn.Module):
    """``a * x + y``."""

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """One factor a channel, N x C or N x C x 1 x 1."""
        return a.reshape([a.shape[0], a.shape[1]] + [1] * (x.dim() - 2)) * x + y


class Eltwise(nn.Module):
    """Inputs of one shape combined: "sum" (each times its coefficient), "prod" or "max"."""

    def __init__(self, operation: str, coefficients: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.operation = operation
        self.coefficients = list(coefficients) or [1.0]  # of an empty list, torch.jit.script cannot tell the type

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Any shape, kept."""
        if len(self.coefficients) == len(inputs):
            inputs = [x * self.coefficients[i] for i, x in enumerate(inputs)]
        result = inputs[0]
        for x in inputs[1:]:
            if self.operation == "sum":
                result = result + x
            elif self.operation == "prod":
                result = result * x
            else:
                result = torch.maximum(result, x)
        return result


class Scale(nn.Module):
    """``x * weight (+ bias)``, broadcast over `trailing` last axes."""

    def __init__(self, shape: tuple[int, ...], trailing: int, bias: bool = False) -> None:
        super().__init__()
        self.broadcast = [*shape, *[1] * trailing] or [1]
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        x = x * self.weight.reshape(self.broadcast)
        return x if self.bias is None else x + self.bias.reshape(self.broadcast)


class Bias(nn.Module):
    """``x + bias``, broadcast over `trailing` last axes."""

    def __init__(self, shape: tuple[int, ...], trailing: int) -> None:
        super().__init__()
        self.broadcast = [*shape, *[1] * trailing] or [1]
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x + self.bias.reshape(self.broadcast)


class Multiply(nn.Module):
    """``x * factor``, broadcast over `trailing` last axes, plus a bias of shape `bias` where that is set."""

    def __init__(self, trailing: int, bias: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.trailing = trailing
        self.bias = None if bias is None else nn.Parameter(torch.zeros(bias))

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        """The factor has the first axes of x, the batch included; the shape of x is kept."""
        bias = self.bias
        for _ in range(self.trailing):
            factor = factor.unsqueeze(-1)
            bias = None if bias is None else bias.unsqueeze(-1)
        return x * factor if bias is None else x * factor + bias


class Add(nn.Module):
    """``x + term``, broadcast over `trailing` last axes."""

    def __init__(self, trailing: int) -> None:
        super().__init__()
        self.trailing = trailing

    def forward(self, x: Tensor, term: Tensor) -> Tensor:
        """The term has the first axes of x, the batch included; the shape of x is kept."""
        return x + term.reshape(list(term.shape) + [1] * self.trailing)


# Function -> the module that takes the function's numbers.
_UNARY: dict[Function, type[nn.Module]] = {
    "abs": Abs,
    "bnll": nn.Softplus,
    "clip": Clip,
    "elu": nn.ELU,
    "exp": Exp,
    "log": Log,
    "swish": Swish,
    "threshold": Threshold,
}


def _unary(layer: Unary) -> Call:
    return Call(make=_UNARY[layer.function], args=layer.numbers)


class Fill(nn.Module):
    """The same number everywhere, whatever is read."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return torch.full_like(x, self.value)
