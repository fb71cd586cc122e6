"""Boxes as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from zoo.frameworks.pytorch import modules
from zoo.frameworks.pytorch.calls import Call
from zoo.geometry import map_size, prior_ratios
from zoo.layers import Detecting, DetectionOutput, PriorBox, PSROIPool, ROIPool, Shape


def call(layer: Detecting, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    match layer:
        case PriorBox():
            feature, image = (map_size(layer.name, shape) for shape in inputs)
            image = layer.image or image
            step = layer.step or (image[0] / feature[0], image[1] / feature[1])
            ratios = tuple(ratio for ratio in prior_ratios(layer) if abs(ratio - 1) >= 1e-6)
            options = {"step": step, "offset": layer.offset, "clip": layer.clip, "variances": layer.variances}
            args = (layer.min_sizes, layer.max_sizes, ratios, image)
            return Call(make=modules.PriorBox, args=args, options=options)
        case DetectionOutput():
            options = {
                name: getattr(layer, name)
                for name in ("code", "variance_encoded", "overlap", "eta", "top_k", "keep", "confidence")
            }
            args = (layer.classes, layer.share_location, layer.background)
            return Call(make=modules.DetectionOutput, args=args, options=options)
        case ROIPool():
            return Call(make=modules.ROIPool, args=(layer.size, layer.scale))
        case PSROIPool():
            return Call(make=modules.PSROIPool, args=(layer.channels, layer.group, layer.scale))
        case _:
            assert_never(layer)
