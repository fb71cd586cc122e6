"""Prior boxes, detections, and pooling inside regions. Where Caffe decides by float32 numbers, so does this."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import sqrt
from typing import assert_never

import numpy as np

from zoo.arrays import Array
from zoo.layers import Detecting, DetectionOutput, Pair, PriorBox, PSROIPool, ROIPool
from zoo.reference.arrays import Float64
from zoo.shapes import map_size, prior_ratios


def apply(layer: Detecting, inputs: Sequence[Float64]) -> Float64:
    """One layer of the family; see `zoo.reference.apply`."""
    match layer:
        case PriorBox():
            feature, image = (map_size(layer.name, x.shape[1:]) for x in inputs)
            return prior_boxes(layer, feature, image)
        case DetectionOutput():
            return _detect(layer, *inputs)
        case ROIPool():
            return _roi_pool(layer, *inputs)
        case PSROIPool():
            return _psroi_pool(layer, *inputs)
        case _:
            assert_never(layer)


def prior_boxes(layer: PriorBox, feature: Pair, image: Pair) -> Float64:
    """What a `PriorBox` makes of a feature map and an image of these heights and widths, 1 x 2 x K."""
    height, width = layer.image or image
    step = layer.step or (height / feature[0], width / feature[1])
    sizes = list[tuple[float, float]]()
    for i, given in enumerate(layer.min_sizes):
        least = int(given)
        sizes.append((least, least))
        if layer.max_sizes:
            side = sqrt(least * int(layer.max_sizes[i]))
            sizes.append((side, side))
        sizes += [(least / sqrt(ratio), least * sqrt(ratio)) for ratio in prior_ratios(layer) if abs(ratio - 1) >= 1e-6]
    rows, columns = (((np.arange(feature[i]) + layer.offset) * step[i])[:, None] for i in (0, 1))
    high, wide = (np.array([size[i] for size in sizes]) / 2 for i in (0, 1))
    top, bottom, left, right = rows - high, rows + high, columns - wide, columns + wide
    boxes = np.empty((*feature, len(sizes), 4))
    boxes[..., 0], boxes[..., 2] = left / width, right / width
    boxes[..., 1], boxes[..., 3] = top[:, None] / height, bottom[:, None] / height
    boxes = np.clip(boxes, 0, 1) if layer.clip else boxes
    variances = np.broadcast_to(np.array(layer.variances, float), boxes.shape)
    return np.stack([boxes.ravel(), variances.ravel()])[None]


def _decoded(layer: DetectionOutput, offsets: Float64, boxes: Float64, variances: Float64) -> Float64:
    """Corners of boxes (4, N, P, L), from the offsets of as many, prior boxes and variances (4, P, 1)."""
    moved = offsets if layer.variance_encoded else offsets * variances[:, None]
    boxes = boxes[:, None]
    size = boxes[2:] - boxes[:2]
    match layer.code:
        case "corner":
            return boxes + moved
        case "corner_size":
            return boxes + moved * np.concatenate([size, size])
        case "center_size":
            centre = (boxes[:2] + boxes[2:]) / 2 + moved[:2] * size
            with np.errstate(over="ignore"):
                half = np.exp(moved[2:]) * size / 2
            return np.concatenate([centre - half, centre + half])


def _detect(layer: DetectionOutput, places: Float64, scores: Float64, priors: Float64) -> Float64:
    boxes, variances = priors[0].reshape(2, -1, 4, 1).swapaxes(1, 2)
    offsets = np.moveaxis(places.reshape(len(places), boxes.shape[1], -1, 4), 3, 0)
    corners, scores = _decoded(layer, offsets, boxes, variances), scores.reshape(len(scores), boxes.shape[1], -1)
    rows = list[list[float]]()
    for image in range(len(places)):
        found = [
            (label, scores[image, i, label], i)
            for label in range(layer.classes)
            if label != layer.background
            for i in _taken(layer, corners[:, image, :, 0 if layer.share_location else label], scores[image, :, label])
        ]
        if -1 < layer.keep < len(found):
            best = sorted(range(len(found)), key=lambda i: -found[i][1])[: layer.keep]
            found = [found[i] for i in sorted(best)]
        rows += [
            [image, label, score, *corners[:, image, i, 0 if layer.share_location else label]]
            for label, score, i in found
        ]
    if not rows:
        rows = [[image, *[-1.0] * 6] for image in range(len(places))]
    return np.array(rows)[None, None]


# Of so many boxes at a time it is found what they share with all that follow.
_TOGETHER = 64


def _taken(layer: DetectionOutput, boxes: Float64, scores: Float64) -> list[int]:
    """The boxes (4, P) of one class of one image that are taken, by falling score."""
    order = np.argsort(-scores, kind="stable")
    if layer.confidence is not None:
        order = order[scores[order] > np.float32(layer.confidence)]
    order = order[: layer.top_k] if layer.top_k > -1 else order
    taken, most = list[int](), layer.overlap
    boxes = boxes[:, order]
    worst = np.zeros(len(order))  # the most that each shares with a box already taken
    for first in range(0, len(order), _TOGETHER):
        others = worst[first:]
        for i, shared in enumerate(_overlaps(boxes[:, first : first + _TOGETHER], boxes[:, first:])):
            if others[i] <= most:
                taken.append(int(order[first + i]))
                np.maximum(others, shared, out=others)
                most *= layer.eta if layer.eta < 1 and most > 0.5 else 1.0
    return taken


def _overlaps(some: Float64, others: Float64) -> Float64:
    """Intersection over union, S x P, of boxes (4, S) and (4, P); one whose corners are exchanged meets none."""
    some = some[:, :, None]
    wide, high = np.minimum(some[2:], others[2:, None]) - np.maximum(some[:2], others[:2, None])
    common = np.maximum(wide, 0) * np.maximum(high, 0)
    whole = _area(some) + _area(others) - common
    return np.divide(common, whole, out=np.zeros(common.shape), where=common > 0)


def _area(boxes: Float64) -> Float64:
    left, top, right, bottom = boxes
    return (right - left) * (bottom - top)


def _rounded(x: Float64) -> Float64:
    """To whole numbers, halves away from zero, as C does it."""
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _images(regions: Float64, count: int) -> list[int]:
    """The image of each region (R x 5); the nearest one where there is none of that number."""
    return [min(max(int(image), 0), count - 1) for image in regions[:, 0]]


def _roi_pool(layer: ROIPool, x: Float64, regions: Float64) -> Float64:
    regions = regions.reshape(-1, 5)
    corners = _rounded((regions[:, 1:].astype(np.float32) * np.float32(layer.scale)).astype(np.float64))
    y = np.zeros((len(regions), x.shape[1], *layer.size))
    for r, image in enumerate(_images(regions, len(x))):
        spans = list[Array]()
        for i, (start, end) in enumerate(((corners[r, 1], corners[r, 3]), (corners[r, 0], corners[r, 2]))):
            side = np.float32(max(end - start + 1, 1)) / np.float32(layer.size[i])
            at = np.arange(layer.size[i] + 1, dtype=np.float32) * side
            spans.append(np.clip(start + np.stack([np.floor(at[:-1]), np.ceil(at[1:])], 1), 0, x.shape[2 + i]))
        for (i, rows), (j, columns) in product(*(enumerate(span.astype(int)) for span in spans)):
            cell = x[image, :, slice(*rows), slice(*columns)]
            y[r, :, i, j] = cell.max(axis=(1, 2)) if cell.size else 0
    return y


def _psroi_pool(layer: PSROIPool, x: Float64, regions: Float64) -> Float64:
    regions, scale, group = regions.reshape(-1, 5), np.float32(layer.scale), layer.group
    near = _rounded(regions[:, 1:3]).astype(np.float32) * scale
    far = (_rounded(regions[:, 3:5]) + 1).astype(np.float32) * scale
    sides = np.maximum(far - near, np.float32(0.1)) / np.float32(group)
    maps = x.reshape(len(x), layer.channels, group, group, *x.shape[2:])
    y = np.zeros((len(regions), layer.channels, group, group))
    for r, image in enumerate(_images(regions, len(x))):
        spans = list[Array]()
        for i in (1, 0):
            at = np.arange(group + 1, dtype=np.float32) * sides[r, i] + near[r, i]
            spans.append(np.clip(np.stack([np.floor(at[:-1]), np.ceil(at[1:])], 1), 0, x.shape[3 - i]).astype(int))
        for (i, rows), (j, columns) in product(*map(enumerate, spans)):
            cell = maps[image, :, i, j, slice(*rows), slice(*columns)]
            y[r, :, i, j] = cell.mean(axis=(1, 2)) if cell.size else 0
    return y
