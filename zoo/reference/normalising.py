"""Normalisation over neighbours, the batch or an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from zoo.arrays import Array
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Softmax
from zoo.reference.arrays import Float64, along


def apply(layer: Normalising, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    match layer:
        case LRN():
            return _lrn(layer, x)
        case BatchNorm():
            return _batch_norm(layer, x, parameters)
        case MVN():
            return _mvn(layer, x)
        case Normalize():
            axes = tuple(range(1, x.ndim)) if layer.across_spatial else (1,)
            norm = np.sqrt(layer.eps + (x * x).sum(axis=axes, keepdims=True))
            return along(x, 0 if layer.shared else 1, parameters["weight"]) * x / norm
        case Softmax():
            shifted = np.exp(x - x.max(axis=layer.axis, keepdims=True))
            return shifted / shifted.sum(axis=layer.axis, keepdims=True)
        case _:
            assert_never(layer)


def _lrn(layer: LRN, x: Float64) -> Float64:
    reach, squares = layer.size // 2, x * x
    if layer.region == "within":
        padded = np.pad(squares, [(0, 0), (0, 0), (reach, reach), (reach, reach)])
        total = sliding_window_view(padded, (layer.size, layer.size), axis=(2, 3)).sum(axis=(-2, -1))
        return x * (layer.k + layer.alpha / layer.size**2 * total) ** -layer.beta
    channels = x.shape[1] // layer.towers
    split = squares.reshape(x.shape[0], layer.towers, channels, *x.shape[2:])
    padded = np.pad(split, [(0, 0), (0, 0), (reach, reach), *[(0, 0)] * (x.ndim - 2)])
    total = np.zeros_like(split)
    for i in range(layer.size):
        total += padded[:, :, i : i + channels]
    return x * (layer.k + layer.alpha / layer.size * total.reshape(x.shape)) ** -layer.beta


def _batch_norm(layer: BatchNorm, x: Float64, parameters: Mapping[str, Array]) -> Float64:
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean = x.mean(axis=axes) if layer.batch_stats else parameters["mean"]
    variance = x.var(axis=axes) if layer.batch_stats else parameters["variance"]
    return (x - along(x, 1, mean)) / np.sqrt(along(x, 1, variance) + layer.eps)


def _mvn(layer: MVN, x: Float64) -> Float64:
    x = x.reshape(*x.shape, *[1] * (4 - x.ndim))
    axes = (1, 2, 3) if layer.across_channels else (2, 3)
    centred = x - x.mean(axis=axes, keepdims=True)
    if not layer.normalize_variance:
        return centred
    return centred / (np.sqrt((centred * centred).mean(axis=axes, keepdims=True)) + layer.eps)
