"""Telling initial values from trained ones: by their spread, their shape, and a bias that nothing has moved."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from converters.weights import Array
from zoo.recipe import TRUNCATED

# Kurtosis tells the distributions apart: E[x^4] / E[x^2]^2.
_UNIFORM, _NORMAL, _TRUNCATED = 1.8, 3.0, 2.3627


def initialiser(theirs: Mapping[str, Array], right: Mapping[str, Array]) -> str | None:
    """The initialiser that a layer's weights look drawn from, or None.

    Asked for all of: weights unlike the right ones (no correlation, nor the same numbers in another order), with the
    mean, the spread and the kurtosis of a known initialiser within sampling error, and a bias that is constant or drawn
    with the weights. Trained weights have heavier tails and biases of their own.

    Args:
        theirs: ``weight`` (O, ...) and perhaps ``bias``, as the subject has them.
        right: as they should be.
    """
    weight, bias = theirs["weight"], theirs.get("bias")
    flat = np.asarray(weight, np.float64).reshape(-1)
    fan_in, fan_out = prod(weight.shape[1:]), prod((weight.shape[0], *weight.shape[2:]))
    if not flat.any():
        return "zeros"
    if (
        flat.size < 64
        or _rearranged(flat, right["weight"])
        or abs(_correlation(flat, right["weight"])) > max(0.05, 4 / flat.size**0.5)
    ):
        return None
    bound = fan_in**-0.5
    if bias is not None and not (np.ptp(bias) == 0 or (np.abs(bias).max() <= bound and np.ptp(bias) > bound)):
        return None
    deviation = float(flat.std())
    if abs(flat.mean()) > 5 * deviation / flat.size**0.5:
        return None
    kurtosis = float(np.mean(flat**4) / np.mean(flat**2) ** 2)
    return next(
        (
            name
            for name, expected, shape in _known(fan_in, fan_out)
            if abs(deviation / expected - 1) < 5 * ((shape - 1) / 4 / flat.size) ** 0.5 + 1e-3
            and abs(kurtosis - shape) < 0.02 + 30 / flat.size**0.5
        ),
        None,
    )


def _rearranged(a: Array, b: Array) -> bool:
    """Whether these are the same numbers in another order: then they are no initial values, whatever they look like."""
    other = np.asarray(b, np.float64).reshape(-1)
    return all(abs(float((a**n).sum() - (other**n).sum())) <= 1e-9 * float((other**n).sum()) for n in (2, 4))


def _correlation(a: Array, b: Array) -> float:
    other = np.asarray(b, np.float64).reshape(-1)
    spread = float(a.std() * other.std())
    return float(np.mean((a - a.mean()) * (other - other.mean()))) / spread if spread else 0.0


def _known(fan_in: int, fan_out: int) -> list[tuple[str, float, float]]:
    """Name, standard deviation and kurtosis of what frameworks initialise with."""
    return [
        ("PyTorch's default, U(+-1 / sqrt(fan in))", (1 / (3 * fan_in)) ** 0.5, _UNIFORM),
        ("Glorot's uniform", (2 / (fan_in + fan_out)) ** 0.5, _UNIFORM),
        ("Glorot's normal", (2 / (fan_in + fan_out)) ** 0.5, _NORMAL),
        ("Glorot's normal, cut at two deviations", (2 / (fan_in + fan_out)) ** 0.5, _TRUNCATED),
        ("Caffe's xavier, U(+-sqrt(3 / fan in))", fan_in**-0.5, _UNIFORM),
        ("He's normal (fan in)", (2 / fan_in) ** 0.5, _NORMAL),
        ("He's normal (fan out)", (2 / fan_out) ** 0.5, _NORMAL),
        ("He's uniform (fan in)", (2 / fan_in) ** 0.5, _UNIFORM),
        *((f"N(0, {deviation:g})", deviation, _NORMAL) for deviation in (0.01, 0.005, 0.03, 0.02, 0.05)),
        *((f"N(0, {d:g}), cut at two deviations", d * TRUNCATED, _TRUNCATED) for d in (0.005, 0.01, 0.02, 0.05, 0.1)),
    ]
