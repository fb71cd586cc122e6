"""Boxes: priors as constants, NonMaxSuppression, MaxRoiPool, and sums over masks of bins."""

from __future__ import annotations

from math import prod
from typing import assert_never

import numpy as np

from zoo.errors import UnsupportedError
from zoo.frameworks.onnx.builder import Builder
from zoo.layers import LOWEST, Detecting, DetectionOutput, PriorBox, PSROIPool, ROIPool, Shape
from zoo.reference.detecting import prior_boxes
from zoo.shapes import map_size

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType

# So many operators more for each, where a detection's bound of the overlap falls.
_MOST_BOUNDS = 64
_TAKEN, _TINY, _TURNED = 9.0, 1e-30, (0, 2, 1)


def add(g: Builder, layer: Detecting, inputs: tuple[str, ...], shapes: list[Shape]) -> None:
    """The family's part of `zoo.frameworks.onnx.table.add_layer`."""
    if not isinstance(layer, PriorBox):
        g.needs(layer, 13, "its operators in these forms")
    match layer:
        case PriorBox():
            feature, image = (map_size(layer.name, shape) for shape in shapes)
            g.last(layer, "Constant", value=prior_boxes(layer, feature, image).astype(np.float32))
        case DetectionOutput():
            _detection(g, layer, inputs, shapes)
        case ROIPool():
            _roi_pool(g, layer, inputs)
        case PSROIPool():
            _psroi_pool(g, layer, inputs, shapes[0])
        case _:
            assert_never(layer)


def _column(g: Builder, layer: Detecting, what: str, source: str, start: int, stop: int, axis: int = 1) -> str:
    bounds = [g.integers(layer, f"{what}_{end}", at) for end, at in (("from", start), ("to", stop), ("axis", axis))]
    return g.step(layer, what, "Slice", source, *bounds)


def _images(g: Builder, layer: Detecting, features: str, regions: str) -> str:
    """The image of each region, R x 1: the nearest one where there is none of that number."""
    size = g.step(layer, "batch", "Gather", g.step(layer, "shape", "Shape", features), g.integers(layer, "first", 0))
    last = g.step(layer, "last_image", "Sub", size, g.integers(layer, "one", 1))
    number = g.step(layer, "image", "Cast", _column(g, layer, "image_number", regions, 0, 1), to=_INT64)
    number = g.step(layer, "image_least", "Max", number, g.integers(layer, "zero", 0))
    return g.step(layer, "image_there", "Min", number, last)


def _roi_pool(g: Builder, layer: ROIPool, inputs: tuple[str, ...]) -> None:
    regions = g.reshape(layer, "regions", inputs[1], -1, 5)
    image = g.step(layer, "image_float", "Cast", _images(g, layer, inputs[0], regions), to=_FLOAT)
    corners = _column(g, layer, "corners", regions, 1, 5)
    regions = g.step(layer, "rois", "Concat", image, corners, axis=1)
    g.last(layer, "MaxRoiPool", inputs[0], regions, pooled_shape=layer.size, spatial_scale=float(layer.scale))


def _rounded(g: Builder, layer: Detecting, what: str, source: str) -> str:
    """To whole numbers, halves away from zero; Round takes the even one."""
    half = g.step(
        layer, f"{what}_up", "Add", g.step(layer, f"{what}_size", "Abs", source), g.floats(layer, "half", 0.5)
    )
    whole = g.step(layer, f"{what}_floor", "Floor", half)
    return g.step(layer, what, "Mul", g.step(layer, f"{what}_sign", "Sign", source), whole)


def _psroi_pool(g: Builder, layer: PSROIPool, inputs: tuple[str, ...], shape: Shape) -> None:
    regions, scale = g.reshape(layer, "regions", inputs[1], -1, 5), g.floats(layer, "scale", layer.scale)
    near = _rounded(g, layer, "near", _column(g, layer, "near_corner", regions, 1, 3))
    far = _rounded(g, layer, "far", _column(g, layer, "far_corner", regions, 3, 5))
    near = g.step(layer, "near_scaled", "Mul", near, scale)
    far = g.step(layer, "far_scaled", "Mul", g.step(layer, "past", "Add", far, g.floats(layer, "next", 1.0)), scale)
    size = g.step(layer, "size", "Max", g.step(layer, "span", "Sub", far, near), g.floats(layer, "least", 0.1))
    side = g.step(layer, "side", "Div", size, g.floats(layer, "bins", layer.group))
    masks = [_bins(g, layer, near, side, axis, shape[1 + axis]) for axis in (0, 1)]
    image = g.reshape(layer, "image_list", _images(g, layer, inputs[0], regions), -1)
    maps = g.step(layer, "maps", "Gather", inputs[0], image, axis=0)
    maps = g.reshape(layer, "bin_maps", maps, -1, layer.channels, layer.group, layer.group, *shape[1:])
    lines = g.step(layer, "lines", "Einsum", maps, masks[0], equation="rdijhw,rih->rdijw")
    total = g.step(layer, "total", "Einsum", lines, masks[1], equation="rdijw,rjw->rdij")
    rows, columns = (
        g.step(layer, f"count{axis}", "ReduceSum", mask, g.integers(layer, f"sum{axis}", 2), keepdims=1 - axis)
        for axis, mask in enumerate(masks)
    )
    columns = g.step(layer, "columns", "Unsqueeze", columns, g.integers(layer, "middle", 1))
    count = g.step(layer, "count", "Max", g.step(layer, "area", "Mul", rows, columns), g.floats(layer, "some", 1.0))
    # R x 1 x group x group: the same for every channel.
    g.last(layer, "Div", total, g.step(layer, "counts", "Unsqueeze", count, g.integers(layer, "channel", 1)))


def _bins(g: Builder, layer: PSROIPool, near: str, side: str, axis: int, limit: int) -> str:
    """1 where a row belongs to a bin, 0 elsewhere: R x group x limit."""
    begin = _column(g, layer, f"near{axis}", near, 1 - axis, 2 - axis)
    step = _column(g, layer, f"side{axis}", side, 1 - axis, 2 - axis)
    at = g.step(layer, f"at{axis}", "Mul", step, g.floats(layer, f"steps{axis}", np.arange(layer.group + 1)[None]))
    at = g.step(layer, f"edges{axis}", "Add", at, begin)
    low = g.step(layer, f"low{axis}", "Floor", _column(g, layer, f"starts{axis}", at, 0, layer.group))
    high = g.step(layer, f"high{axis}", "Ceil", _column(g, layer, f"ends{axis}", at, 1, layer.group + 1))
    low, high = (
        g.step(layer, f"{name}_wide", "Unsqueeze", name, g.integers(layer, f"{name}_axis", 2)) for name in (low, high)
    )
    row = g.floats(layer, f"row{axis}", np.arange(limit))
    below = g.step(layer, f"below{axis}", "Less", row, low)
    inside = g.step(layer, f"before{axis}", "Less", row, high)
    inside = g.step(layer, f"inside{axis}", "And", g.step(layer, f"after{axis}", "Not", below), inside)
    return g.step(layer, f"mask{axis}", "Cast", inside, to=_FLOAT)


def _detection(g: Builder, layer: DetectionOutput, inputs: tuple[str, ...], shapes: list[Shape]) -> None:
    if len(_bounds(layer)) > _MOST_BOUNDS:
        told = f"its eta of {layer.eta:g} lowers the threshold more than {_MOST_BOUNDS} times"
        raise UnsupportedError(f"layer {layer.name!r} (DetectionOutput): {told}, and each takes operators of its own")
    count = prod(shapes[1]) // layer.classes
    labels = [label for label in range(layer.classes) if label != layer.background]
    corners, scores = _lists(g, layer, inputs, count, labels)
    taken = _suppressed(g, layer, corners, scores, count)
    # A row each of what is taken: its list, which is a class of an image, and its box.
    which, box = (
        g.reshape(layer, f"{what}_numbers", _column(g, layer, what, taken, at, at + 1), -1)
        for what, at in (("list", 0), ("box", 2))
    )
    classes = g.integers(layer, "class_count", len(labels))
    image = g.step(layer, "image", "Div", which, classes)
    label = g.step(layer, "class", "Mod", which, classes)
    place = g.step(layer, "place", "Add", g.step(layer, "offset", "Mul", which, g.integers(layer, "P", count)), box)
    score = g.step(layer, "score", "Gather", g.reshape(layer, "all_scores", scores, -1), place)
    corner = g.step(layer, "corner", "Gather", g.reshape(layer, "all_corners", corners, -1, 4), place, axis=0)
    names = g.step(layer, "name", "Gather", g.floats(layer, "names", np.array(labels, np.float32)), label)
    words = [g.step(layer, "image_name", "Cast", image, to=_FLOAT), names, score]
    columns = [g.reshape(layer, f"column{i}", word, -1, 1) for i, word in enumerate(words)]
    rows = g.step(layer, "rows", "Concat", *columns, corner, axis=1)
    if layer.keep > -1:
        rows = _best_of_images(g, layer, rows, place, scores, len(labels) * count)
    rows = _or_none(g, layer, rows, inputs[0])
    g.last(layer, "Reshape", rows, g.integers(layer, "shape", 1, 1, -1, 7))


def _lists(
    g: Builder, layer: DetectionOutput, inputs: tuple[str, ...], count: int, labels: list[int]
) -> tuple[str, str]:
    """Corners (lists x P x 4) and scores (lists x 1 x P), a list for each class that is looked for of each image."""
    each = 1 if layer.share_location else layer.classes
    offsets = g.reshape(layer, "offsets", inputs[0], -1, count, each, 4)
    boxes, variances = (
        g.reshape(layer, what, _column(g, layer, f"{what}_row", inputs[2], at, at + 1), count, 1, 4)
        for what, at in (("boxes", 0), ("variances", 1))
    )
    moved = offsets if layer.variance_encoded else g.step(layer, "moved", "Mul", offsets, variances)
    corners = g.step(layer, "by_class", "Transpose", _corners(g, layer, boxes, moved), perm=(0, 2, 1, 3))
    chosen = g.integers(layer, "classes", *labels)
    if layer.share_location:
        zeros = g.integers(layer, "shared", *[0] * len(labels))
        corners = g.step(layer, "corners", "Gather", corners, zeros, axis=1)
    else:
        corners = g.step(layer, "corners", "Gather", corners, chosen, axis=1)
    scores = g.reshape(layer, "scores", inputs[1], -1, count, layer.classes)
    scores = g.step(layer, "scores_by_class", "Transpose", scores, perm=(0, 2, 1))
    scores = g.step(layer, "chosen", "Gather", scores, chosen, axis=1)
    return g.reshape(layer, "box_lists", corners, -1, count, 4), g.reshape(layer, "score_lists", scores, -1, 1, count)


def _corners(g: Builder, layer: DetectionOutput, boxes: str, moved: str) -> str:
    if layer.code == "corner":
        return g.step(layer, "decoded", "Add", boxes, moved)
    low, high = (_column(g, layer, f"prior_{at}", boxes, at, at + 2, axis=2) for at in (0, 2))
    size = g.step(layer, "prior_size", "Sub", high, low)
    if layer.code == "corner_size":
        sizes = g.step(layer, "sizes", "Concat", size, size, axis=2)
        return g.step(layer, "decoded", "Add", boxes, g.step(layer, "moved_by", "Mul", moved, sizes))
    shift, growth = (_column(g, layer, f"moved_{at}", moved, at, at + 2, axis=3) for at in (0, 2))
    half = g.floats(layer, "half", 0.5)
    centre = g.step(layer, "prior_centre", "Mul", g.step(layer, "prior_sum", "Add", low, high), half)
    centre = g.step(layer, "centre", "Add", centre, g.step(layer, "shift", "Mul", shift, size))
    grown = g.step(layer, "grown", "Mul", g.step(layer, "growth", "Exp", growth), size)
    reach = g.step(layer, "reach", "Mul", grown, half)
    ends = g.step(layer, "low", "Sub", centre, reach), g.step(layer, "high", "Add", centre, reach)
    return g.step(layer, "decoded", "Concat", *ends, axis=3)


def _suppressed(g: Builder, layer: DetectionOutput, corners: str, scores: str, count: int) -> str:
    """The boxes that are taken, K x 3: list, 0, place in it. Lists in order, and in each the best first."""
    most = count
    if -1 < layer.top_k < count:
        most = layer.top_k
        best, places = g.steps(layer, ("best", "places"), "TopK", scores, g.integers(layer, "k", most), axis=2)
        size = g.step(layer, "lists", "Shape", scores)
        lowest = g.step(layer, "lowest", "Expand", g.floats(layer, "least", LOWEST), size)
        scores = g.step(layer, "top", "ScatterElements", lowest, places, best, axis=2)
    # A box whose corners are exchanged overlaps none in Caffe; ONNX would put them right. One without an area is none.
    low, high = (_column(g, layer, f"corner_{at}", corners, at, at + 2, axis=2) for at in (0, 2))
    proper = g.step(layer, "proper", "Concat", low, g.step(layer, "far", "Max", low, high), axis=2)
    least = LOWEST if layer.confidence is None else layer.confidence
    lowered = _bounds(layer)
    if lowered[1:]:
        proper, scores = _taken_by_turns(g, layer, proper, scores, count, lowered, least)
    limits = [g.integers(layer, "most", most), g.floats(layer, "overlap", lowered[-1:])]
    return g.step(layer, "taken", "NonMaxSuppression", proper, scores, *limits, g.floats(layer, "confidence", [least]))


def _bounds(layer: DetectionOutput) -> list[float]:
    """The bound of the overlap before each box that is taken; the last one stays."""
    bounds = [layer.overlap]
    while layer.eta < 1 and bounds[-1] > 0.5 and len(bounds) <= _MOST_BOUNDS:
        bounds.append(bounds[-1] * layer.eta)
    return bounds


def _taken_by_turns(
    g: Builder, layer: DetectionOutput, corners: str, scores: str, count: int, bounds: list[float], least: float
) -> tuple[str, str]:
    """Corners and scores for the last bound, after as many boxes of each list as there are bounds before it.

    A box that is taken keeps its score and loses its extent, so that it meets none; one that meets it by more than the
    bound loses its score: the bound only falls, so what is past it now is when its turn comes.
    """
    low, high = (_column(g, layer, f"turn_{at}", corners, at, at + 2, axis=2) for at in (0, 2))
    area = _area(g, layer, g.step(layer, "extent", "Sub", high, low))
    zero, lowest, taken = (g.floats(layer, f"turns_{value:g}", value) for value in (0.0, LOWEST, _TAKEN))
    numbers, confident = g.integers(layer, "numbers", *range(count)), g.floats(layer, "sure", least)
    # The most that each shares with a box already taken, or that it is one.
    worst = g.step(layer, "met_none", "Expand", zero, g.step(layer, "scores_size", "Shape", scores))
    for bound in bounds[:-1]:
        left = g.step(layer, "left", "Where", _past(g, layer, worst, bound), lowest, scores)
        first = g.step(layer, "first_left", "ArgMax", left, axis=2, keepdims=1)
        is_sure = g.step(layer, "is_sure", "Greater", left, confident)
        one = g.step(layer, "turn", "And", g.step(layer, "is_first", "Equal", numbers, first), is_sure)
        met = _met(g, layer, one, (low, high, area), zero)
        worst = g.step(layer, "worst", "Where", one, taken, g.step(layer, "worse", "Max", worst, met))
    kept = _past(g, layer, worst, 1.0)
    others = g.step(layer, "others", "Not", kept)
    is_closed = g.step(layer, "is_closed", "And", _past(g, layer, worst, bounds[-1]), others)
    high = g.step(layer, "shrunk", "Where", _as_rows(g, layer, kept, zero), low, high)
    corners = g.step(layer, "corners_left", "Concat", low, high, axis=2)
    return corners, g.step(layer, "scores_left", "Where", is_closed, lowest, scores)


def _met(g: Builder, layer: DetectionOutput, one: str, boxes: tuple[str, str, str], zero: str) -> str:
    """The intersection over union of one box of each list, if any, with all of it: lists x 1 x P.

    Args:
        g: the graph.
        layer: the layer.
        one: which it is, lists x 1 x P.
        boxes: their low and high corners and areas.
        zero: the constant.
    """
    rows = _as_rows(g, layer, one, zero)
    alone = [g.step(layer, "only", "Where", rows, value, zero) for value in boxes]
    low, high, area = (g.reduce(layer, "its", "ReduceSum", value, [1], keepdims=True) for value in alone)
    near, far = g.step(layer, "near", "Max", boxes[0], low), g.step(layer, "far", "Min", boxes[1], high)
    common = _area(g, layer, g.step(layer, "common", "Max", g.step(layer, "across", "Sub", far, near), zero))
    whole = g.step(layer, "whole", "Sub", g.step(layer, "both", "Add", boxes[2], area), common)
    some = g.step(layer, "some_area", "Max", whole, g.floats(layer, "tiny", _TINY))
    return g.step(layer, "share_row", "Transpose", g.step(layer, "share", "Div", common, some), perm=_TURNED)


def _as_rows(g: Builder, layer: DetectionOutput, which: str, zero: str) -> str:
    """Lists x P x 1, of which boxes, lists x 1 x P."""
    turned = g.step(layer, "turned", "Transpose", g.step(layer, "as_float", "Cast", which, to=_FLOAT), perm=_TURNED)
    return g.step(layer, "rows", "Greater", turned, zero)


def _past(g: Builder, layer: DetectionOutput, worst: str, bound: float) -> str:
    return g.step(layer, "is_past", "Greater", worst, g.floats(layer, "bound", bound))


def _area(g: Builder, layer: DetectionOutput, sides: str) -> str:
    """Lists x P x 1, of sides of lists x P x 2."""
    return g.step(layer, "area", "Mul", *(_column(g, layer, f"side_{at}", sides, at, at + 1, axis=2) for at in (0, 1)))


def _best_of_images(g: Builder, layer: DetectionOutput, rows: str, place: str, scores: str, size: int) -> str:
    """The `keep` best rows of each image, in the order they have."""
    if layer.keep >= size:
        return rows
    score = g.reshape(layer, "kept_score", _column(g, layer, "score_column", rows, 2, 3), -1)
    whole = g.step(layer, "whole", "Shape", g.reshape(layer, "flat_scores", scores, -1))
    nothing = g.step(layer, "nothing", "Expand", g.floats(layer, "never", [LOWEST]), whole)
    found = g.step(layer, "found", "ScatterElements", nothing, place, score, axis=0)
    images = g.reshape(layer, "of_images", found, -1, size)
    _, best = g.steps(layer, ("best_scores", "best_places"), "TopK", images, g.integers(layer, "keep", layer.keep))
    zeros = g.step(layer, "zeros", "Expand", g.floats(layer, "no", 0.0), g.step(layer, "size", "Shape", images))
    ones = g.step(layer, "ones", "Expand", g.floats(layer, "yes", 1.0), g.step(layer, "best_size", "Shape", best))
    marks = g.step(layer, "marks", "ScatterElements", zeros, best, ones, axis=1)
    mine = g.step(layer, "mine", "Gather", g.reshape(layer, "flat_marks", marks, -1), place)
    is_kept = g.step(layer, "is_kept", "Greater", mine, g.floats(layer, "between", 0.5))
    return g.step(layer, "kept", "Compress", rows, is_kept, axis=0)


def _or_none(g: Builder, layer: DetectionOutput, rows: str, places: str) -> str:
    """The rows, or, where there is none, one of image and -1 an image."""
    first, zero, one = (g.integers(layer, what, at) for what, at in (("first", 0), ("zero", 0), ("one", 1)))
    batch = g.step(layer, "images", "Gather", g.step(layer, "places_size", "Shape", places), first)
    ends = [
        g.reshape(layer, f"{what}_number", value, *()) for what, value in (("from", zero), ("to", batch), ("by", one))
    ]
    numbers = g.step(layer, "image_numbers", "Cast", g.step(layer, "image_range", "Range", *ends), to=_FLOAT)
    size = g.step(layer, "none_size", "Concat", batch, g.integers(layer, "six", 6), axis=0)
    minus = g.step(layer, "minus", "Expand", g.floats(layer, "minus_one", -1.0), size)
    none = g.step(layer, "none", "Concat", g.reshape(layer, "image_column", numbers, -1, 1), minus, axis=1)
    total = g.step(layer, "total", "Gather", g.step(layer, "rows_size", "Shape", rows), first)
    is_none = g.step(layer, "is_none", "Cast", g.step(layer, "nothing_found", "Equal", total, zero), to=_INT64)
    end = g.step(layer, "none_end", "Mul", is_none, batch)
    none = g.step(layer, "none_rows", "Slice", none, zero, end)
    return g.step(layer, "found_rows", "Concat", rows, none, axis=0)
