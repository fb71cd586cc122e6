"""Boxes: where they may lie, which of them hold something, and what a map shows inside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from zoo.layers.base import Named, Pair

__all__ = ["Code", "Detecting", "DetectionOutput", "PSROIPool", "PriorBox", "ROIPool"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorBox(Named):
    """Boxes of fixed sizes around every pixel of the first input, as shares of the second, the image: 1 x 2 x K.

    Row 0: xmin, ymin, xmax, ymax of a box after the other; row 1: four variances a box. By row, column and size: a
    square of ``min_size``; with ``max_sizes`` one of the root of min times max; then, for each ratio but 1, min times
    its root wide and over its root high. ``flip`` adds ``1 / ratio`` after each new one. Sizes are cut to whole
    numbers. Centres stand ``step`` pixels (height, width) apart, or what divides the image evenly, from ``offset`` on.
    ``image`` (height, width) counts instead of the second input's size. ``clip``: into 0..1. (weiliu89/caffe, branch
    ssd, prior_box_layer.cpp)
    """

    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    flip: bool = True
    clip: bool = False
    variances: tuple[float, ...] = (0.1,)
    image: Pair | None = None
    step: tuple[float, float] | None = None
    offset: float = 0.5


Code: TypeAlias = Literal["corner", "center_size", "corner_size"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionOutput(Named):
    """What is found where: offsets N x 4 P (L), scores N x P classes and prior boxes 1 x 2 x 4 P make 1 x 1 x M x 7.

    A row is image, class, score, xmin, ymin, xmax, ymax; by image, class, falling score. ``share_location``: one box
    a prior for all classes (L = 1), or one a class. Offsets times their variances (``variance_encoded``: as they are)
    move the prior's corners, in its own size with ``corner_size``; or, with ``center_size``, its centre in its own
    size, which is multiplied by their exponential. Of each class but ``background``, the ``top_k`` best (-1: all) of
    the scores above ``confidence`` are taken by falling score, but for those that overlap a box already taken by more
    than ``overlap`` (intersection over union); an ``eta`` below 1 lowers that after each taken box while it is above
    0.5. Of an image the ``keep`` best remain (-1: all). Where nothing at all is found: N rows of image and -1.

    How many rows there are is not known beforehand: to `zoo.shapes` it is one, and no layer may read it.
    (weiliu89/caffe, branch ssd, detection_output_layer.cpp, bbox_util.cpp)
    """

    classes: int
    share_location: bool = True
    background: int = 0
    code: Code = "corner"
    variance_encoded: bool = False
    overlap: float = 0.3
    eta: float = 1.0
    top_k: int = -1
    keep: int = -1
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ROIPool(Named):
    """The maxima of ``size`` bins of each region: features and regions R x 5 make R x C x ``size``; an empty bin is 0.

    A region is image, x1, y1, x2, y2. Corners times ``scale`` are rounded, halves away from zero, and both belong to
    it; it is at least 1 x 1. Bin i holds rows floor(i b) to ceil((i + 1) b), b being the height over their number in
    float32 (rbgirshick/caffe-fast-rcnn, roi_pooling_layer.cpp).
    """

    size: Pair
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PSROIPool(Named):
    """The mean of each bin of a region, every bin from a channel of its own: R x ``channels`` x ``group`` x ``group``.

    Bin (i, j) of channel d reads channel ``(d group + i) group + j``. Corners are rounded, the far one plus 1, and
    then scaled; a region is at least 0.1 x 0.1. Bin i holds rows floor(i b + start) to ceil((i + 1) b + start), all in
    float32; an empty one is 0 (daijifeng001/caffe-rfcn, psroi_pooling_layer.cu).
    """

    channels: int
    group: int
    scale: float


Detecting: TypeAlias = PriorBox | DetectionOutput | ROIPool | PSROIPool
