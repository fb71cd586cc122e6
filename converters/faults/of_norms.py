"""Faults of local response normalisation, and the one error of it that is nobody's fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from converters.faults.of_layers import dropped
from converters.faults.types import Edit, Fault, Site, only
from converters.metric import error
from converters.verdicts import DEFAULT_BUDGET, Diagnosis
from converters.weights import Array
from zoo import reference as oracle
from zoo.layers import LRN

# Float32's own error in a normalisation; no fault of a file.
RUNNING_SUM = "lrn_running_sum"


def _lrn(change: Callable[[LRN], Iterator[LRN]]) -> Callable[[Site], Iterator[Edit]]:
    def edits(_: Site, layer: LRN) -> Iterator[Edit]:
        for other in change(layer):
            if other != layer:
                yield Edit(layers=(other,))

    return only(LRN, edits)


def _numbers(layer: LRN) -> int:
    """How many numbers the window holds: what alpha is divided by."""
    return layer.size if layer.region == "across" else layer.size**2


def _alpha_not_divided(layer: LRN) -> Iterator[LRN]:
    yield replace(layer, alpha=layer.alpha * _numbers(layer))


def _alpha_divided_twice(layer: LRN) -> Iterator[LRN]:
    yield replace(layer, alpha=layer.alpha / _numbers(layer))


def _k_ignored(layer: LRN) -> Iterator[LRN]:
    yield replace(layer, k=1.0)


def _k_of_the_paper(layer: LRN) -> Iterator[LRN]:
    if layer.k == 1.0:
        yield replace(layer, k=2.0)


def _radius_for_size(layer: LRN) -> Iterator[LRN]:
    wide = replace(layer, size=2 * layer.size + 1)
    yield replace(wide, alpha=layer.alpha * wide.size / layer.size)  # alpha was divided by the right size
    yield replace(wide, alpha=layer.alpha * wide.size)  # alpha was not divided
    yield wide  # alpha is divided by the wrong size


def _across_towers(layer: LRN) -> Iterator[LRN]:
    yield replace(layer, towers=1)


def _inside_towers(layer: LRN) -> Iterator[LRN]:
    if layer.towers == 1 and layer.region == "across":
        yield replace(layer, towers=2)


def _other_region(layer: LRN) -> Iterator[LRN]:
    if layer.towers == 1:
        yield replace(layer, region="within" if layer.region == "across" else "across")


def _even_size(_: Site, layer: LRN) -> Iterator[Edit]:
    """A window of an even size: ONNX puts the odd channel after its middle, PyTorch before it."""
    for size in (layer.size - 1, layer.size + 1) if layer.region == "across" and layer.size > 1 else ():
        for before, where in (((size - 1) // 2, "after"), (size // 2, "before")):
            yield Edit(
                layers=(),
                feed=lambda x, size=size, before=before: _windowed(layer, x, size, before),
                also=f"{size} for {layer.size}, one channel more {where} its middle",
            )


def _windowed(layer: LRN, x: Array, size: int, before: int) -> Array:
    """LRN over `size` channels, `before` of them before the middle one."""
    split = (x * x).reshape(len(x), layer.towers, x.shape[1] // layer.towers, *x.shape[2:])
    padded = np.pad(split, [(0, 0), (0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)])
    total = np.add.reduce([padded[:, :, i : i + split.shape[2]] for i in range(size)]).reshape(x.shape)
    return x * (layer.k + layer.alpha / size * total) ** -layer.beta


def _beta(layer: LRN) -> Iterator[LRN]:
    yield replace(layer, beta=0.5)
    yield replace(layer, beta=1.0)


def running_sum(layer: LRN, read: Array, observed: Array, *, budget: float = DEFAULT_BUDGET) -> Diagnosis | None:
    """Whether a normalisation is off by float32's own error, and by nothing else.

    Caffe and ONNX Runtime slide the window: they add the square that enters and subtract the one that leaves. What a
    huge square rounded off, the sum never gets back. The reference sums each window afresh and is right.

    Args:
        layer: the normalisation, as it should be.
        read: what the subject fed it, N x C x ..., float32 to the last bit.
        observed: what it gave.
        budget: relative error that is no difference.

    Returns:
        A diagnosis whose ``fault`` is `RUNNING_SUM`; None where the layer is within the budget, or a running sum in
        float32 gives something else.
    """
    if layer.region != "across" or observed.shape != read.shape or not np.isfinite(observed).all():
        return None
    x = np.asarray(read, np.float64)
    off = error(observed, oracle.apply(layer, [x], {}))[0]
    if off <= budget:
        return None
    slid = [_slid(layer, x.astype(np.float32), fused) for fused in (False, True)]
    if not all(np.isfinite(y).all() for y in slid):
        return None
    # A vector loop may fuse product and sum, and do its last pixels without; the channels of a pixel go together.
    nearest = np.argmin([np.abs(y - observed).max(axis=1) for y in slid], axis=0)
    left = error(observed, np.where(np.expand_dims(nearest == 0, 1), *slid))[0]
    if left > budget:
        return None
    return Diagnosis(
        fault=RUNNING_SUM,
        layer=layer.name,
        message=(
            f"{layer.name}: float32's own error: this runtime keeps a running sum over the channels, and after a "
            f"square of {float((x * x).max()):.1e} left the window it is off by {off:.1e} of the layer's peak"
        ),
        remedy="the file is not at fault; a runtime that sums each window afresh has no such error",
        error=left,
    )


def _slid(layer: LRN, x: Array, fused: bool) -> Array:
    """LRN by a running sum in float32, product and sum rounded once (`fused`) or twice."""
    single, channels, reach = np.float32, x.shape[1] // layer.towers, layer.size // 2
    split = (x * x).reshape(len(x), layer.towers, channels, *x.shape[2:])
    squares = np.pad(split, [(0, 0), (0, 0), (reach, reach), *[(0, 0)] * (x.ndim - 2)])
    share = single(single(layer.alpha) / single(layer.size))

    def plus(total: Array, factor: np.floating, channel: int) -> Array:
        if fused:
            exact = np.float64(factor) * squares[:, :, channel].astype(np.float64)
            return (total.astype(np.float64) + exact).astype(single)
        return total + factor * squares[:, :, channel]

    total, scales = np.full_like(squares[:, :, 0], layer.k), list[Array]()
    with np.errstate(over="ignore", invalid="ignore"):
        for channel in range(layer.size):
            total = plus(total, share, channel)
        scales.append(total)
        for channel in range(1, channels):
            total = plus(plus(total, share, channel + layer.size - 1), -share, channel - 1)
            scales.append(total)
        return x * np.stack(scales, axis=2).reshape(x.shape) ** single(-layer.beta)


FAULTS = (
    Fault(
        name="lrn_alpha_not_divided",
        sentence="alpha was not divided by size (TensorFlow's convention)",
        remedy="give TensorFlow alpha / size; Caffe, ONNX and PyTorch divide it themselves",
        made_by="onnx2keras; hand-written TensorFlow ports; heuritech/convnets-keras before PR 6",
        family="layer",
        edits=_lrn(_alpha_not_divided),
    ),
    Fault(
        name="lrn_alpha_divided_twice",
        sentence="alpha was divided by size twice",
        remedy="hand alpha over undivided: this framework divides it itself (only TensorFlow does not)",
        made_by="weights of caffe-tensorflow (alpha 2e-05) put back into Caffe or PyTorch",
        family="layer",
        edits=_lrn(_alpha_divided_twice),
    ),
    Fault(
        name="lrn_k_ignored",
        sentence="k was ignored and taken as 1",
        remedy="set k (ONNX and TensorFlow: bias); or remove it: k 1, alpha / k, and a scale of k^-beta after it",
        made_by="OpenCV's Caffe importer, caffe-tensorflow, caffemodel2pytorch, caffe2onnx, OpenVINO before 2020",
        family="layer",
        edits=_lrn(_k_ignored),
    ),
    Fault(
        name="lrn_k_of_the_paper",
        sentence="k is 2, the paper's, where this network has 1, Caffe's default",
        remedy="leave k at 1: BVLC's networks were trained with it",
        made_by="ports of bvlc_alexnet that follow the paper",
        family="layer",
        edits=_lrn(_k_of_the_paper),
    ),
    Fault(
        name="lrn_radius_for_size",
        sentence="the size was taken for a radius, so that the window holds 2 * size + 1 channels",
        remedy="give TensorFlow depth_radius = (size - 1) / 2",
        made_by="onnx2keras; tensorflow/models PR 1536",
        family="layer",
        edits=_lrn(_radius_for_size),
    ),
    Fault(
        name="lrn_even_size",
        sentence="the window has an even size",
        remedy="set size as the network has it; an even window has no middle, and frameworks disagree about its place",
        made_by="local_size off by one; PyTorch's LocalResponseNorm takes even sizes, and ONNX's places them otherwise",
        family="layer",
        edits=only(LRN, _even_size),
    ),
    Fault(
        name="lrn_dropped",
        sentence="the normalisation is missing",
        remedy="add it: a converter without LRN leaves the layer out in silence",
        made_by="inisis/caffe2onnx, PytorchToCaffe, onnx2caffe, nobuco, MMdnn's PyTorch parser",
        family="layer",
        edits=dropped(LRN),
    ),
    Fault(
        name="lrn_across_towers",
        sentence="the window runs across all channels instead of stopping at the tower boundary",
        remedy="normalise each tower by itself: reshape to (N * towers, C / towers, H, W) around the LRN",
        made_by="every replica that puts both towers into one tensor, Caffe's first of all",
        family="layer",
        edits=_lrn(_across_towers),
    ),
    Fault(
        name="lrn_inside_towers",
        sentence="the window stops at a tower boundary instead of running across all channels",
        remedy="normalise all channels at once",
        made_by="ports of Caffe's networks that follow the two-GPU code",
        family="layer",
        edits=_lrn(_inside_towers),
    ),
    Fault(
        name="lrn_other_region",
        sentence="the window runs over pixels where it should run over channels, or the reverse",
        remedy="set norm_region (ACROSS_CHANNELS or WITHIN_CHANNEL) as the network has it",
        made_by="importers that do not read norm_region",
        family="layer",
        edits=_lrn(_other_region),
    ),
    Fault(
        name="lrn_beta",
        sentence="beta is another: a framework's default (TensorFlow: 0.5), or 1",
        remedy="set beta",
        made_by="calls of tf.nn.local_response_normalization without beta",
        family="layer",
        edits=_lrn(_beta),
    ),
)
