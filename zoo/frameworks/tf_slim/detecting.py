"""Boxes, in canonical order but for the maps."""

from __future__ import annotations

from typing import assert_never

from zoo.frameworks.tf_slim.calls import Expression, call
from zoo.frameworks.tf_slim.site import Site, canonical, native
from zoo.layers import Detecting, DetectionOutput, PriorBox, PSROIPool, ROIPool
from zoo.shapes import map_size, prior_ratios


def expression(layer: Detecting, at: Site) -> Expression:
    """The family's part of `zoo.frameworks.tf_slim.table.Table.expression`."""
    match layer:
        case PriorBox():
            return _prior_box(layer, at)
        case DetectionOutput():
            read = [canonical(x, shape) for x, shape in zip(at.inputs, at.shapes, strict=True)]
            boxes = [layer.classes, layer.share_location, layer.background, layer.code, layer.variance_encoded]
            most = [layer.overlap, layer.eta, layer.top_k, layer.keep, layer.confidence]
            return native(call("detection_output", *read, *boxes, *most, scope=at.scope), at.shape)
        case ROIPool():
            return call("roi_pool", at.inputs[0], _regions(at), [*layer.size], layer.scale, scope=at.scope)
        case PSROIPool():
            numbers = (layer.channels, layer.group, layer.scale)
            return call("psroi_pool", at.inputs[0], _regions(at), *numbers, scope=at.scope)
        case _:
            assert_never(layer)


def _prior_box(layer: PriorBox, at: Site) -> Expression:
    feature, image = (map_size(layer.name, shape) for shape in at.shapes)
    image = layer.image or image
    step = layer.step or (image[0] / feature[0], image[1] / feature[1])
    ratios = [ratio for ratio in prior_ratios(layer) if abs(ratio - 1) >= 1e-6]
    variances = [*layer.variances] * (4 // len(layer.variances))
    sizes = [[*layer.min_sizes], [*layer.max_sizes], ratios]
    return call("prior_box", [*feature], [*image], *sizes, [*step], layer.offset, layer.clip, variances, scope=at.scope)


def _regions(at: Site) -> Expression:
    return call("tf.reshape", canonical(at.inputs[1], at.shapes[1]), [-1, 5])
