"""Normalisation as torch.nn's modules."""

from __future__ import annotations

from typing import assert_never

from torch import nn

from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Shape, Softmax


def call(layer: Normalising, shape: Shape) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    match layer:
        case LRN():
            return _lrn(layer, shape)
        case BatchNorm():
            return _batch_norm(layer, shape)
        case Normalize():
            axes = tuple(range(1, len(shape) + 1)) if layer.across_spatial else (1,)
            size, trailing = ((), 0) if layer.shared else (shape[:1], len(shape) - 1)
            return Call(make=modules.Normalize, args=(size, trailing, axes, layer.eps))
        case MVN():
            return Call(make=modules.MVN, args=(layer.across_channels, layer.normalize_variance, layer.eps))
        case Softmax():
            return Call(make=nn.Softmax, options={"dim": axis_index(layer.name, layer.axis, shape)})
        case _:
            assert_never(layer)


def _lrn(layer: LRN, shape: Shape) -> Call:
    options: dict[str, object] = {"alpha": layer.alpha, "beta": layer.beta, "k": layer.k}
    if layer.region == "within":
        return Call(make=modules.SpatialLocalResponseNorm, args=(layer.size,), options=options)
    if layer.towers > 1 or len(shape) == 1:  # torch.nn's takes no N x C
        options["towers"] = layer.towers
        return Call(make=modules.TowerLocalResponseNorm, args=(layer.size,), options=options)
    return Call(make=nn.LocalResponseNorm, args=(layer.size,), options=options)


def _batch_norm(layer: BatchNorm, shape: Shape) -> Call:
    channels, makers = shape[0], {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
    if layer.batch_stats:
        return Call(make=modules.BatchStatisticsNorm, args=(channels, layer.eps))
    if len(shape) not in makers:
        raise UnsupportedError(f"layer {layer.name!r}: torch.nn normalises 2 to 5 axes, the batch included, not more")
    return Call(make=makers[len(shape)], args=(channels,), options={"eps": layer.eps, "affine": False})
