"""Every number by itself, or together with those at its own place in another activation or a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from math import e
from typing import Final, Literal, TypeAlias

from zoo.layers.base import Named

__all__ = [
    "FUNCTIONS",
    "Axpy",
    "Bias",
    "Dropout",
    "Eltwise",
    "Function",
    "PReLU",
    "Pointwise",
    "Power",
    "ReLU",
    "Scale",
    "Sigmoid",
    "TanH",
    "Unary",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReLU(Named):
    """``max(x, 0) + negative_slope * min(x, 0)``."""

    negative_slope: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sigmoid(Named):
    """``1 / (1 + exp(-x))``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TanH(Named):
    """``tanh(x)``."""


Function: TypeAlias = Literal["abs", "bnll", "clip", "elu", "exp", "log", "swish", "threshold"]

# Function of a `Unary` -> the numbers it takes, with Caffe's defaults (caffe.proto; a base of -1 there means e).
FUNCTIONS: Final[dict[Function, dict[str, float]]] = {
    "abs": {},
    "bnll": {},
    "clip": {"min": 0.0, "max": 0.0},
    "elu": {"alpha": 1.0},
    "exp": {"base": e, "scale": 1.0, "shift": 0.0},
    "log": {"base": e, "scale": 1.0, "shift": 0.0},
    "swish": {"beta": 1.0},
    "threshold": {"threshold": 0.0},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Unary(Named):
    """A ``function`` of single numbers; ``numbers`` are its own, in the order of `FUNCTIONS`.

    * ``abs``: ``|x|``; ``bnll``: ``log(1 + exp(x))``.
    * ``clip``: ``max(min, y)`` of ``y = min(x, max)``; min where y is NaN, or min is the greater.
    * ``elu``: ``max(x, 0) + alpha * (exp(min(x, 0)) - 1)``.
    * ``exp``: ``base ^ (shift + scale * x)``; ``log``: ``log(shift + scale * x) / log(base)``.
    * ``swish``: ``x / (1 + exp(-beta * x))``.
    * ``threshold``: 1 where x is greater than the threshold, else 0.
    """

    function: Function
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PReLU(Named):
    """``max(x, 0) + slope * min(x, 0)``; parameter ``slope``, one a channel (C,), or one for all (no axes)."""

    shared: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Power(Named):
    """``(shift + scale * x) ^ power``; where scale or power is 0, a constant that does not read ``x``."""

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropout(Named):
    """The identity at inference; in training drops a share ``ratio`` and scales the rest by ``1 / (1 - ratio)``."""

    ratio: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Eltwise(Named):
    """Inputs of one shape combined: ``sum`` (weighted by ``coeffs``, default all 1), ``prod`` or ``max``.

    A ``max`` takes the second input where the first is not greater, then each other one that is greater: as in Caffe,
    what NaN does depends on the order.
    """

    operation: Literal["sum", "prod", "max"] = "sum"
    coeffs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale(Named):
    """``x * weight (+ bias)``, broadcast from ``axis`` on over ``num_axes`` axes (-1: all the rest).

    With two inputs the second one, its first axis included, is the multiplier, laid along the first from ``axis`` on,
    and there is no ``weight``; the ``bias`` has its shape, less a batch axis.
    """

    axis: int = 1
    num_axes: int = 1
    bias: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bias(Named):
    """``x + bias``, broadcast from ``axis`` on over ``num_axes`` axes; two inputs as in `Scale`."""

    axis: int = 1
    num_axes: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Axpy(Named):
    """``a x + y`` of three inputs, a factor a channel first: C or C x 1 x 1 (hujie-frank/SENet, axpy_layer.cpp)."""


Pointwise: TypeAlias = ReLU | PReLU | Unary | Sigmoid | TanH | Power | Dropout | Eltwise | Scale | Bias | Axpy
