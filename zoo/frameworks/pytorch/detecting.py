"""Boxes, and pooling inside them: the row of each kind, and its module, of which ``torch.nn`` has none.

Each stands alone but for the functions at the end: the source writer copies its text with those that it calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from zoo import layers
from zoo.frameworks.pytorch.calls import Call
from zoo.layers import Shape
from zoo.shapes import map_size, prior_ratios


def call(layer: layers.Detecting, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    match layer:
        case layers.PriorBox():
            feature, image = (map_size(layer.name, shape) for shape in inputs)
            image = layer.image or image
            step = layer.step or (image[0] / feature[0], image[1] / feature[1])
            ratios = tuple(ratio for ratio in prior_ratios(layer) if abs(ratio - 1) >= 1e-6)
            options = {"step": step, "offset": layer.offset, "clip": layer.clip, "variances": layer.variances}
            args = (layer.min_sizes, layer.max_sizes, ratios, image)
            return Call(make=PriorBox, args=args, options=options)
        case layers.DetectionOutput():
            options = {
                name: getattr(layer, name)
                for name in ("code", "variance_encoded", "overlap", "eta", "top_k", "keep", "confidence")
            }
            args = (layer.classes, layer.share_location, layer.background)
            return Call(make=DetectionOutput, args=args, options=options)
        case layers.ROIPool():
            return Call(make=ROIPool, args=(layer.size, layer.scale))
        case layers.PSROIPool():
            return Call(make=PSROIPool, args=(layer.channels, layer.group, layer.scale))
        case _:
            assert_never(layer)


class PriorBox(nn.Module):
    """SSD's boxes of fixed sizes around every pixel of a map, as shares of the image, and their variances.

    Sizes are cut to whole numbers, pairs are (height, width), and the ratio 1 is not among the ratios.
    """

    def __init__(
        self,
        min_sizes: tuple[float, ...],
        max_sizes: tuple[float, ...],
        ratios: tuple[float, ...],
        image: tuple[int, int],
        step: tuple[float, float],
        offset: float,
        clip: bool,
        variances: tuple[float, ...],
    ) -> None:
        super().__init__()
        sizes = []
        for i, least in enumerate(map(int, min_sizes)):
            sizes.append((float(least), float(least)))
            if max_sizes:
                sizes.append((math.sqrt(least * int(max_sizes[i])),) * 2)
            sizes += [(least / math.sqrt(ratio), least * math.sqrt(ratio)) for ratio in ratios]
        self.sizes, self.image, self.step, self.offset, self.clip = sizes, image, step, offset, clip
        self.variances = variances * (4 // len(variances))

    def forward(self, feature: Tensor, image: Tensor) -> Tensor:
        """Two maps, of which the sizes count alone, to 1 x 2 x (H * W * sizes * 4)."""
        height, width = feature.shape[2:]
        rows, columns = (
            (torch.arange(count, dtype=feature.dtype, device=feature.device) + self.offset) * step
            for count, step in zip((height, width), self.step, strict=True)
        )
        half = torch.tensor(self.sizes, dtype=feature.dtype, device=feature.device) / 2
        centre = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)[:, :, None]
        low, high = ((centre + half * sign) / half.new_tensor(self.image) for sign in (-1, 1))
        boxes = torch.cat([low.flip(-1), high.flip(-1)], -1)
        boxes = boxes.clamp(0, 1) if self.clip else boxes
        variances = half.new_tensor(self.variances).expand_as(boxes)
        return torch.stack([boxes.flatten(), variances.flatten()])[None]


class DetectionOutput(nn.Module):
    """SSD's detections: boxes decoded, and of each class the best taken that do not overlap a better one."""

    def __init__(
        self,
        classes: int,
        share_location: bool,
        background: int,
        code: str,
        variance_encoded: bool,
        overlap: float,
        eta: float,
        top_k: int,
        keep: int,
        confidence: float | None,
    ) -> None:
        super().__init__()
        self.classes, self.share_location, self.background = classes, share_location, background
        self.code, self.variance_encoded = code, variance_encoded
        self.overlap, self.eta, self.top_k, self.keep, self.confidence = overlap, eta, top_k, keep, confidence

    def decode(self, offsets: Tensor, boxes: Tensor, variances: Tensor) -> Tensor:
        """Corners of N x P x L boxes."""
        moved = offsets if self.variance_encoded else offsets * variances
        size = boxes[..., 2:] - boxes[..., :2]
        if self.code == "corner":
            return boxes + moved
        if self.code == "corner_size":
            return boxes + moved * torch.cat([size, size], -1)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + moved[..., :2] * size
        half = moved[..., 2:].exp() * size / 2
        return torch.cat([centre - half, centre + half], -1)

    def taken(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Which boxes of one class of one image are taken, by falling score."""
        order = scores.argsort(descending=True, stable=True)
        if self.confidence is not None:
            order = order[scores[order] > self.confidence]
        order = order[: self.top_k] if self.top_k > -1 else order
        low, high = boxes[order, :2], boxes[order, 2:]
        area = (high - low).clamp(min=0).prod(-1)
        taken: list[int] = []
        most = self.overlap
        for i in range(len(order)):
            common = torch.minimum(high[i], high[taken]) - torch.maximum(low[i], low[taken])
            shared = torch.where((common > 0).all(-1), common.prod(-1), 0)
            if bool((shared <= most * (area[i] + area[taken] - shared)).all()):
                taken.append(i)
                most *= self.eta if self.eta < 1 and most > 0.5 else 1.0
        return order[taken]

    def forward(self, places: Tensor, scores: Tensor, priors: Tensor) -> Tensor:
        """Offsets, scores and prior boxes to 1 x 1 x M x 7: image, class, score, xmin, ymin, xmax, ymax."""
        boxes, variances = priors[0].reshape(2, -1, 1, 4)
        count, lists = len(places), 1 if self.share_location else self.classes
        corners = self.decode(places.reshape(count, len(boxes), lists, 4), boxes, variances)
        scores = scores.reshape(count, len(boxes), self.classes)
        rows = [self.of_image(image, corners[image], scores[image]) for image in range(count)]
        found = torch.cat([places.new_zeros((0, 7)), *rows])
        if not len(found):
            images = torch.arange(count, dtype=places.dtype, device=places.device)[:, None]
            found = torch.cat([images, images.new_full((count, 6), -1)], 1)
        return found[None, None]

    def of_image(self, image: int, corners: Tensor, scores: Tensor) -> Tensor:
        """The rows of one image."""
        rows = [corners.new_zeros((0, 7))]
        for label in range(self.classes):
            if label == self.background:
                continue
            boxes = corners[:, 0 if self.share_location else label]
            taken = self.taken(boxes, scores[:, label])
            words = corners.new_tensor([image, label]).expand(len(taken), 2)
            rows.append(torch.cat([words, scores[taken, label, None], boxes[taken]], 1))
        found = torch.cat(rows)
        if -1 < self.keep < len(found):
            found = found[found[:, 2].argsort(descending=True, stable=True)[: self.keep].sort().values]
        return found


class ROIPool(nn.Module):
    """The maxima of bins of each region: image, x1, y1, x2, y2; an empty bin is 0."""

    def __init__(self, size: tuple[int, int], scale: float) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """N x C x H x W and R x 5 to R x C x `size`."""
        regions = regions.reshape(-1, 5)
        corners = rounded(regions[:, 1:] * self.scale)
        zero = torch.zeros_like(corners[:, 0])
        within = []
        for axis in (0, 1):
            start, end = corners[:, 1 - axis], corners[:, 3 - axis]
            side = (end - start + 1).clamp(min=1) / self.size[axis]
            within.append(bins(zero, side, self.size[axis], x.shape[2 + axis], start))
        images = x[regions[:, 0].long().clamp(0, x.shape[0] - 1)]
        lowest = torch.finfo(x.dtype).min
        rows = [images.where(mask[:, None, :, None], lowest).amax(2) for mask in within[0].unbind(1)]
        lines = torch.stack(rows, 2)
        cells = [lines.where(mask[:, None, None, :], lowest).amax(3) for mask in within[1].unbind(1)]
        filled = within[0].any(-1)[:, None, :, None] & within[1].any(-1)[:, None, None, :]
        return torch.stack(cells, 3).where(filled, 0)


class PSROIPool(nn.Module):
    """The mean of bins of each region, every bin from a channel of its own; an empty one is 0."""

    def __init__(self, channels: int, group: int, scale: float) -> None:
        super().__init__()
        self.channels, self.group, self.scale = channels, group, scale

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """N x (channels * group * group) x H x W and R x 5 to R x channels x group x group."""
        regions = regions.reshape(-1, 5)
        near, far = rounded(regions[:, 1:3]) * self.scale, (rounded(regions[:, 3:]) + 1) * self.scale
        side, zero = (far - near).clamp(min=0.1) / self.group, torch.zeros_like(near[:, 0])
        rows, columns = (
            bins(near[:, 1 - axis], side[:, 1 - axis], self.group, x.shape[2 + axis], zero).to(x.dtype)
            for axis in (0, 1)
        )
        images = x[regions[:, 0].long().clamp(0, x.shape[0] - 1)]
        maps = images.unflatten(1, (self.channels, self.group, self.group))
        total = torch.einsum("rdijhw,rih,rjw->rdij", maps, rows, columns)
        return total / (rows.sum(-1)[:, None, :, None] * columns.sum(-1)[:, None, None, :]).clamp(min=1)


def bins(start: Tensor, side: Tensor, count: int, limit: int, base: Tensor) -> Tensor:
    """Which of `limit` rows belong to each of `count` bins of each region, R x count x limit."""
    at = torch.arange(count + 1, dtype=side.dtype, device=side.device) * side[:, None] + start[:, None]
    low, high = at[:, :-1].floor() + base[:, None], at[:, 1:].ceil() + base[:, None]
    row = torch.arange(limit, device=side.device)
    return (row >= low[..., None]) & (row < high[..., None])


def rounded(x: Tensor) -> Tensor:
    """To whole numbers, halves away from zero."""
    return torch.copysign((x.abs() + 0.5).floor(), x)
