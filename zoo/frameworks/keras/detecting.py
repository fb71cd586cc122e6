"""Boxes, and pooling inside them: the row of each kind."""

from __future__ import annotations

from dataclasses import fields
from typing import assert_never

from zoo.frameworks.keras.calls import Call, canonical
from zoo.frameworks.keras.site import Site
from zoo.layers import Detecting, DetectionOutput, PriorBox, PSROIPool, ROIPool
from zoo.shapes import map_size, prior_ratios


def call(layer: Detecting, at: Site) -> Call:
    """The family's part of `zoo.frameworks.keras.table.calls`."""
    match layer:
        case PriorBox():
            feature, image = (map_size(layer.name, shape) for shape in at.shapes)
            image = layer.image or image
            step = layer.step or (image[0] / feature[0], image[1] / feature[1])
            ratios = tuple(ratio for ratio in prior_ratios(layer) if abs(ratio - 1) >= 1e-6)
            sizes = {"min_sizes": layer.min_sizes, "max_sizes": layer.max_sizes, "ratios": ratios}
            options = {"offset": layer.offset, "clip": layer.clip, "variances": layer.variances}
            return canonical("PriorBox", **sizes, image=image, step=step, **options)
        case DetectionOutput():
            settings = [field.name for field in fields(layer) if field.name not in ("name", "inputs")]
            return canonical("DetectionOutput", **{name: getattr(layer, name) for name in settings})
        case ROIPool():
            return canonical("ROIPooling", size=layer.size, scale=layer.scale)
        case PSROIPool():
            return canonical("PSROIPooling", channels=layer.channels, group=layer.group, scale=layer.scale)
        case _:
            assert_never(layer)
