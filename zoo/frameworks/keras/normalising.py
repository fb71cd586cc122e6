"""Normalisation: the row of each kind."""

from __future__ import annotations

from typing import assert_never

from zoo.frameworks.keras.calls import Call, Value, canonical, own, unless
from zoo.frameworks.keras.site import Site, channel_axis, native_axis
from zoo.layers import LRN, MVN, BatchNorm, Normalising, Normalize, Softmax


def call(layer: Normalising, at: Site) -> Call:
    """The family's part of `zoo.frameworks.keras.table.calls`."""
    shape = at.shapes[0]
    match layer:
        case LRN():
            numbers: dict[str, Value] = {"alpha": layer.alpha, "beta": layer.beta, "k": layer.k}
            if layer.region == "within":
                return canonical("SpatialResponseNormalization", size=layer.size, **numbers)
            towers = unless(layer.towers == 1, towers=layer.towers)
            axis = channel_axis(shape)
            return own("LocalResponseNormalization", size=layer.size, **numbers, **towers, axis=axis)
        case BatchNorm():
            if layer.batch_stats:
                return canonical("BatchStatisticsNormalization", epsilon=layer.eps)
            options: dict[str, Value] = {"axis": channel_axis(shape), "epsilon": layer.eps}
            return Call(make="BatchNormalization", options={**options, "center": False, "scale": False})
        case Normalize():
            where = {"across_spatial": layer.across_spatial, "shared": layer.shared}
            return canonical("L2Normalization", **where, epsilon=layer.eps)
        case MVN():
            how = {"across_channels": layer.across_channels, "normalize_variance": layer.normalize_variance}
            return canonical("MeanVarianceNormalization", **how, epsilon=layer.eps)
        case Softmax():
            return Call(make="Softmax", options={"axis": native_axis(layer, layer.axis, shape)})
        case _:
            assert_never(layer)
