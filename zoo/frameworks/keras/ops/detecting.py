"""What Keras has no layer for, of the detecting kinds; see `zoo.frameworks.keras.ops`."""

# What Keras says of its types is true of symbolic tensors alone.
# pyright: basic, reportArgumentType=false, reportOperatorIssue=false, reportOptionalIterable=false
# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOptionalSubscript=false

import math

import keras
import numpy as np
from keras import ops

from zoo.frameworks.keras.ops.base import Canonical


@keras.saving.register_keras_serializable("alexnet_zoo")
class PriorBox(Canonical):
    """SSD's boxes of fixed sizes around every pixel of a map, as shares of the image, and their variances.

    Sizes are cut to whole numbers, pairs are (height, width), and the ratio 1 is not among the ratios.
    """

    def __init__(self, min_sizes, max_sizes, ratios, image, step, offset=0.5, clip=False, variances=(0.1,), **kwargs):
        super().__init__(**kwargs)
        self.min_sizes, self.max_sizes, self.ratios = tuple(min_sizes), tuple(max_sizes), tuple(ratios)
        self.image, self.step, self.offset, self.clip = tuple(image), tuple(step), offset, clip
        self.variances = tuple(variances) * (4 // len(variances))

    def sizes(self):
        """Height and width of every box around a pixel."""
        found = []
        for i, least in enumerate(map(int, self.min_sizes)):
            found.append((least, least))
            if self.max_sizes:
                found.append((math.sqrt(least * int(self.max_sizes[i])),) * 2)
            found += [(least / math.sqrt(ratio), least * math.sqrt(ratio)) for ratio in self.ratios]
        return np.array(found)

    def compute(self, feature, image):
        """Two maps, of which the sizes count alone, to 1 x 2 x (H * W * sizes * 4)."""
        rows, columns = ((np.arange(feature.shape[2 + i]) + self.offset) * self.step[i] for i in (0, 1))
        centre = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)[:, :, None]
        low, high = ((centre + sign * self.sizes() / 2) / np.array(self.image) for sign in (-1, 1))
        boxes = np.concatenate([low[..., ::-1], high[..., ::-1]], -1)
        boxes = np.clip(boxes, 0, 1) if self.clip else boxes
        variances = np.broadcast_to(np.array(self.variances), boxes.shape)
        return ops.convert_to_tensor(np.stack([boxes.ravel(), variances.ravel()])[None].astype("float32"))


@keras.saving.register_keras_serializable("alexnet_zoo")
class DetectionOutput(Canonical):
    """SSD's detections: boxes decoded, and of each class the best taken that do not overlap a better one.

    How many there are is known only when it runs: on JAX it runs outside of `jit` alone.
    """

    def __init__(
        self,
        classes,
        share_location,
        background,
        code,
        variance_encoded,
        overlap,
        eta,
        top_k,
        keep,
        confidence=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.classes, self.share_location, self.background = classes, share_location, background
        self.code, self.variance_encoded, self.overlap, self.eta = code, variance_encoded, overlap, eta
        self.top_k, self.keep, self.confidence = top_k, keep, confidence

    def compute_output_shape(self, input_shape):
        """As many rows as there are detections, whatever way images lie: 1 x 1 x M x 7."""
        return (1, None, 7, 1) if self.data_format == "channels_last" else (1, 1, None, 7)

    def decoded(self, offsets, boxes, variances):
        """Corners of boxes, N x P x L x 4, from as many offsets and from prior boxes and variances, P x 1 x 4."""
        moved = offsets if self.variance_encoded else offsets * variances
        size = boxes[..., 2:] - boxes[..., :2]
        if self.code == "corner":
            return boxes + moved
        if self.code == "corner_size":
            return boxes + moved * ops.concatenate([size, size], -1)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + moved[..., :2] * size
        half = ops.exp(moved[..., 2:]) * size / 2
        return ops.concatenate([centre - half, centre + half], -1)

    def taken(self, boxes, valid):
        """Which boxes of B lists (B x K x 4, the best first) are taken: those that overlap no better one taken."""
        low, high, count = boxes[..., :2], boxes[..., 2:], boxes.shape[1]
        area = ops.prod(ops.maximum(high - low, 0.0), -1)

        def step(i, state):
            taken, most = state
            at = ops.reshape(ops.convert_to_tensor(i, "int32"), (1,))
            common = ops.minimum(ops.take(high, at, axis=1), high) - ops.maximum(ops.take(low, at, axis=1), low)
            shared = ops.where(ops.all(common > 0, -1), ops.prod(common, -1), 0.0)
            over = shared > most * (ops.take(area, at, axis=1) + area - shared)
            met = ops.any(ops.logical_and(taken, over), -1, keepdims=True)
            mine = ops.logical_and(ops.take(valid, at, axis=1), ops.logical_not(met))
            taken = ops.logical_or(taken, ops.logical_and(mine, ops.equal(ops.arange(count), at)))
            return taken, ops.where(ops.logical_and(mine, most > 0.5), most * self.eta, most)

        none = ops.zeros_like(valid)
        return ops.fori_loop(0, count, step, (none, ops.zeros_like(area[:, :1]) + self.overlap))[0]

    def compute(self, places, scores, priors):
        """N x (P * 4), of each class apart unless they share locations, N x (P * classes) and 1 x 2 x (P * 4)."""
        total = priors.shape[2] // 4
        priors = ops.reshape(priors[0], (2, total, 1, 4))
        labels = [label for label in range(self.classes) if label != self.background]
        offsets = ops.reshape(places, (-1, total, 1 if self.share_location else self.classes, 4))
        corners = ops.transpose(self.decoded(offsets, priors[0], priors[1]), (0, 2, 1, 3))
        corners = ops.take(corners, [0] * len(labels) if self.share_location else labels, axis=1)
        scores = ops.take(ops.transpose(ops.reshape(scores, (-1, total, self.classes)), (0, 2, 1)), labels, axis=1)
        # Lists of each class of each image, the best first.
        count = min(self.top_k, total) if self.top_k > -1 else total
        scores, corners = ops.reshape(scores, (-1, total)), ops.reshape(corners, (-1, total, 4))
        order = ops.argsort(-scores, axis=-1)[:, :count]
        best = ops.take_along_axis(scores, order, axis=1)
        boxes = ops.take_along_axis(corners, ops.expand_dims(order, 2), axis=1)
        lowest = float(np.finfo("float32").min)
        valid = best > (lowest if self.confidence is None else self.confidence)
        rows = len(labels) * count
        taken, best = (ops.reshape(x, (-1, rows)) for x in (self.taken(boxes, valid), best))
        if -1 < self.keep < rows:
            rank = ops.argsort(ops.argsort(-ops.where(taken, best, lowest), axis=-1), axis=-1)
            taken = ops.logical_and(taken, rank < self.keep)
        return self.listed(taken, np.repeat(labels, count).astype("float32"), best, ops.reshape(boxes, (-1, rows, 4)))

    def listed(self, taken, names, scores, boxes):
        """The rows of the boxes that are taken, of N lists; where no image has any, one of -1 an image."""
        images = ops.expand_dims(ops.arange(ops.shape(scores)[0], dtype="float32"), 1)
        words = [ops.zeros_like(scores) + images, ops.zeros_like(scores) + ops.convert_to_tensor(names), scores]
        found = ops.reshape(ops.concatenate([ops.stack(words, -1), boxes], -1), (-1, 7))
        none = ops.concatenate([images] + [ops.zeros_like(images) - 1] * 6, 1)
        empty = ops.logical_and(ops.logical_not(ops.any(taken)), images[:, 0] >= 0)
        listed = ops.nonzero(ops.concatenate([ops.reshape(taken, (-1,)), empty], 0))[0]
        return ops.take(ops.concatenate([found, none], 0), listed, axis=0)[None, None]


class RegionPooling(Canonical):
    """What pooling inside regions has in common: image, x1, y1, x2, y2 a row."""

    def rounded(self, x):
        """To whole numbers, halves away from zero."""
        return ops.sign(x) * ops.floor(ops.abs(x) + 0.5)

    def bins(self, start, side, count, limit, base):
        """Which of `limit` rows belong to each of `count` bins of each region, R x count x limit."""
        at = ops.arange(count + 1, dtype="float32") * ops.expand_dims(side, 1) + ops.expand_dims(start, 1)
        base = ops.expand_dims(base, 1)
        low = ops.expand_dims(ops.floor(at[:, :-1]) + base, 2)
        high = ops.expand_dims(ops.ceil(at[:, 1:]) + base, 2)
        row = ops.arange(limit, dtype="float32")
        return ops.logical_and(row >= low, row < high)

    def images(self, x, regions):
        """The image of each region; the nearest one where there is none of that number."""
        numbers = ops.cast(regions[:, 0], "int32")
        return ops.take(x, ops.minimum(ops.maximum(numbers, 0), ops.shape(x)[0] - 1), axis=0)


@keras.saving.register_keras_serializable("alexnet_zoo")
class ROIPooling(RegionPooling):
    """The maxima of bins of each region: image, x1, y1, x2, y2; an empty bin is 0."""

    def __init__(self, size, scale, **kwargs):
        super().__init__(**kwargs)
        self.size, self.scale = tuple(size), scale

    def compute(self, x, regions):
        """N x C x H x W and R x 5 to R x C x `size`."""
        regions = ops.reshape(regions, (-1, 5))
        corners, within = self.rounded(regions[:, 1:] * self.scale), []
        for axis in (0, 1):
            start, end = corners[:, 1 - axis], corners[:, 3 - axis]
            side = ops.maximum(end - start + 1, 1) / self.size[axis]
            within.append(self.bins(ops.zeros_like(start), side, self.size[axis], x.shape[2 + axis], start))
        images, lowest = self.images(x, regions), float(np.finfo("float32").min)
        masks = [within[0][:, i, None, :, None] for i in range(self.size[0])]
        lines = ops.stack([ops.max(ops.where(mask, images, lowest), 2) for mask in masks], 2)
        masks = [within[1][:, i, None, None, :] for i in range(self.size[1])]
        cells = ops.stack([ops.max(ops.where(mask, lines, lowest), 3) for mask in masks], 3)
        rows, columns = (ops.any(mask, -1) for mask in within)
        return ops.where(ops.logical_and(rows[:, None, :, None], columns[:, None, None, :]), cells, 0.0)


@keras.saving.register_keras_serializable("alexnet_zoo")
class PSROIPooling(RegionPooling):
    """The mean of bins of each region, every bin from a channel of its own; an empty one is 0."""

    def __init__(self, channels, group, scale, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.group, self.scale = channels, group, scale

    def compute(self, x, regions):
        """N x (channels * group * group) x H x W and R x 5 to R x channels x group x group."""
        regions, group = ops.reshape(regions, (-1, 5)), self.group
        near = self.rounded(regions[:, 1:3]) * self.scale
        side = ops.maximum((self.rounded(regions[:, 3:]) + 1) * self.scale - near, 0.1) / group
        rows, columns = (
            ops.cast(self.bins(near[:, i], side[:, i], group, x.shape[3 - i], ops.zeros_like(near[:, i])), "float32")
            for i in (1, 0)
        )
        images = self.images(x, regions)
        maps = ops.reshape(images, (-1, self.channels, group, group, *x.shape[2:]))
        total = ops.einsum("rdijhw,rih,rjw->rdij", maps, rows, columns)
        count = ops.sum(rows, -1)[:, None, :, None] * ops.sum(columns, -1)[:, None, None, :]
        return total / ops.maximum(count, 1.0)
