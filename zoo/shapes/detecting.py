"""Boxes, and pooling inside them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from math import prod
from typing import assert_never

from zoo.axes import shape_text
from zoo.errors import SpecError
from zoo.layers import Detecting, DetectionOutput, Pair, PriorBox, PSROIPool, ROIPool, Shape
from zoo.parameters import Parameter
from zoo.shapes.base import inputs_of


def output_shape(layer: Detecting, inputs: Sequence[Shape]) -> Shape:
    """The family's part of `zoo.shapes.output_shape`."""
    inputs_of(layer, inputs, 3 if isinstance(layer, DetectionOutput) else 2)
    match layer:
        case PriorBox():
            return (2, 4 * prior_count(layer) * prod(map_size(layer.name, inputs[0])))
        case DetectionOutput():
            _check_detection(layer, inputs)
            return (1, 1, 7)
        case ROIPool():
            _check_regions(layer.name, inputs)
            if min(layer.size) < 1:
                raise SpecError(layer.name, f"needs bins, got {layer.size[0]} x {layer.size[1]}")
            return (inputs[0][0], *layer.size)
        case PSROIPool():
            _check_regions(layer.name, inputs)
            if min(layer.channels, layer.group) < 1 or inputs[0][0] != layer.channels * layer.group**2:
                wanted = f"{layer.channels} x {layer.group} x {layer.group} channels"
                raise SpecError(layer.name, f"needs {wanted}, got {shape_text(inputs[0])}")
            return (layer.channels, layer.group, layer.group)
        case _:
            assert_never(layer)


def parameters(layer: Detecting) -> tuple[Parameter, ...]:
    """The family's part of `zoo.shapes.layer_parameters`."""
    match layer:
        case PriorBox() | DetectionOutput() | ROIPool() | PSROIPool():
            return ()
        case _:
            assert_never(layer)


def map_size(layer: str, shape: Shape) -> Pair:
    """Height and width of a C x H x W activation."""
    if len(shape) != 3:
        raise SpecError(layer, f"needs a C x H x W input, got {shape_text(shape)}")
    return shape[1], shape[2]


def prior_ratios(layer: PriorBox) -> list[float]:
    """The ratios of a `PriorBox`, 1 first; what is given twice counts once."""
    ratios, rising = [1.0], [1.0]
    for ratio in layer.ratios:
        at = bisect_left(rising, ratio)
        if all(abs(ratio - known) >= 1e-6 for known in rising[max(at - 1, 0) : at + 1]):
            new = [ratio, 1 / ratio] if layer.flip else [ratio]
            ratios += new
            for number in new:
                insort(rising, number)
    return ratios


def prior_count(layer: PriorBox) -> int:
    """How many boxes a `PriorBox` puts around a pixel; refuses sizes and variances that cannot be."""
    # prior_box_layer.cpp, LayerSetUp
    if not layer.min_sizes or min(layer.min_sizes) <= 0 or min(layer.ratios, default=1) <= 0:
        raise SpecError(layer.name, "needs min_size, and sizes and ratios above 0")
    pairs = zip(layer.min_sizes, layer.max_sizes, strict=False)
    if len(layer.max_sizes) not in (0, len(layer.min_sizes)) or any(high <= low for low, high in pairs):
        raise SpecError(layer.name, "needs a max_size for each min_size, and greater, or none")
    if len(layer.variances) not in (1, 4) or min(layer.variances) <= 0:
        raise SpecError(layer.name, f"needs one variance or four, above 0, got {layer.variances}")
    if min((*(layer.image or ()), *(layer.step or ())), default=1) <= 0:
        raise SpecError(layer.name, "the size of the image and the step must be positive")
    return len(prior_ratios(layer)) * len(layer.min_sizes) + len(layer.max_sizes)


def _check_detection(layer: DetectionOutput, inputs: Sequence[Shape]) -> None:
    places, scores, priors = inputs
    count = priors[1] // 4 if len(priors) == 2 and priors[0] == 2 else 0
    boxes = count * (1 if layer.share_location else layer.classes)
    if layer.classes < 1 or not count or priors[1] % 4:
        raise SpecError(layer.name, f"needs classes, and prior boxes of 2 x 4 P, got {shape_text(priors)}")
    if prod(places) != 4 * boxes or prod(scores) != count * layer.classes:
        told = f"{shape_text(places)} offsets and {shape_text(scores)} scores"
        raise SpecError(layer.name, f"{told} do not fit {count} prior boxes of {layer.classes} classes")
    if layer.background < 0 and layer.share_location:
        # detection_output_layer.cpp marks shared boxes with the label -1.
        raise SpecError(layer.name, "needs a background label of 0 or more, for all classes share their boxes")
    if layer.top_k == 0 or (layer.classes == 1 and layer.background == 0):
        raise SpecError(layer.name, "looks for nothing: top_k is 0, or its one class is the background")
    if layer.overlap < 0 or not 0 < layer.eta <= 1:
        raise SpecError(layer.name, f"overlap must be at least 0 and eta in (0, 1], got {layer.overlap}, {layer.eta}")


def _check_regions(layer: str, inputs: Sequence[Shape]) -> None:
    map_size(layer, inputs[0])
    if prod(inputs[1]) != 5:
        raise SpecError(layer, f"needs regions of 5 numbers (image, x1, y1, x2, y2), got {shape_text(inputs[1])}")
