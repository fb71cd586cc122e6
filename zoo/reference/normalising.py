"""Normalisation over neighbours, the batch or an axis."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Softmax
from zoo.reference.arrays import Float64, along, by_maps, by_parts, by_places
from zoo.shapes import map_size


def apply(layer: Normalising, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    match layer:
        case LRN():
            if layer.region == "within":
                return by_maps(partial(_lrn, layer), x, map_size(layer.name, x.shape[1:]))
            return by_places(partial(_lrn, layer), x)
        case BatchNorm():
            return _batch_norm(layer, x, parameters)
        case MVN():
            return _mvn(layer, x)
        case Normalize():
            axes = tuple(range(1, x.ndim)) if layer.across_spatial else (1,)
            norm = np.sqrt(layer.eps + (x * x).sum(axis=axes, keepdims=True))
            return along(x, 0 if layer.shared else 1, parameters["weight"]) * x / norm
        case Softmax():
            y = x - x.max(axis=layer.axis, keepdims=True)
            np.exp(y, out=y)
            y /= y.sum(axis=layer.axis, keepdims=True)
            return y
        case _:
            assert_never(layer)


def _lrn(layer: LRN, x: Float64, y: Float64) -> None:
    reach, squares = layer.size // 2, x * x
    if layer.region == "within":
        total, count = _around(_around(squares, 2, reach), 3, reach), layer.size**2
    else:
        towers = squares.reshape(len(x), layer.towers, -1, *x.shape[2:])
        total, count = _around(towers, 2, reach).reshape(x.shape), layer.size
    total *= layer.alpha / count
    total += layer.k
    if layer.beta == 0.75:  # as most networks have it: two roots are quicker than a power
        total *= np.sqrt(total, out=squares)
        np.divide(x, np.sqrt(total, out=total), out=y)
    else:
        np.multiply(x, np.power(total, -layer.beta, out=total), out=y)


def _around(x: Float64, axis: int, reach: int) -> Float64:
    """The sum of every number and of its neighbours along an axis, as far as `reach` and as there are any."""
    y = x.copy()
    total, others = np.moveaxis(y, axis, 0), np.moveaxis(x, axis, 0)
    for i in range(1, min(reach + 1, len(total))):
        total[i:] += others[:-i]
        total[:-i] += others[i:]
    return y


def _batch_norm(layer: BatchNorm, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean = x.mean(axis=axes) if layer.batch_stats else parameters["mean"]
    variance = x.var(axis=axes) if layer.batch_stats else parameters["variance"]
    return by_parts(_standard, x, along(x, 1, mean), np.sqrt(along(x, 1, variance) + layer.eps))


def _standard(x: Float64, mean: Float64, deviation: Float64) -> Float64:
    y = x - mean
    y /= deviation
    return y


def _mvn(layer: MVN, x: Float64) -> Float64:
    x = x.reshape(*x.shape, *[1] * (4 - x.ndim))
    axes = (1, 2, 3) if layer.across_channels else (2, 3)
    centred = x - x.mean(axis=axes, keepdims=True)
    if not layer.normalize_variance:
        return centred
    return centred / (np.sqrt((centred * centred).mean(axis=axes, keepdims=True)) + layer.eps)
