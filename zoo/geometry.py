"""The arithmetic of single kinds: where a window goes, how large what comes out is, what is cut and in which order.

Shapes are without the batch axis; what is impossible is refused by layer name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

import numpy as np

from zoo.axes import axis_index, shape_text
from zoo.errors import SpecError
from zoo.layers import (
    Conv,
    Crop,
    Deconv,
    Detecting,
    DetectionOutput,
    Interp,
    Pair,
    Permute,
    Pool,
    PoolMask,
    Power,
    PriorBox,
    PSROIPool,
    Reshape,
    ROIPool,
    Rounding,
    Shape,
    Unpool,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Where a sliding window goes: ``out`` positions, reading ``before`` and ``after`` pixels outside the image.

    ``after`` is what the last window really reads, overhang of rounded-up sizes included; it is negative where the
    last rows are not read at all. Pairs are (height, width).
    """

    kernel: Pair
    stride: Pair
    before: Pair
    after: Pair
    out: Pair


def window(layer: Conv | Pool | PoolMask, shape: Shape) -> Window:
    """The window of a convolution or pooling layer over a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    pooling = isinstance(layer, Pool | PoolMask)
    if pooling and layer.global_pool:
        kernel, stride, pad, rounding = (shape[1], shape[2]), (1, 1), (0, 0), "floor"
    else:
        kernel, stride, pad, rounding = layer.kernel, layer.stride, layer.pad, layer.rounding
    dilation = (1, 1) if pooling else layer.dilation
    if min(*kernel, *stride, *dilation) < 1 or min(pad) < 0:
        raise SpecError(layer.name, "kernel, stride and dilation must be at least 1, pad at least 0")
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    clip = pooling and max(pad) > 0
    if pooling and (pad[0] >= kernel[0] or pad[1] >= kernel[1]):
        raise SpecError(layer.name, f"pad {pad} must be smaller than the pooling kernel {kernel}")
    out, after = [0, 0], [0, 0]
    for i, side in enumerate("HW"):
        size = shape[1 + i]
        # Caffe's rounding up makes one position of a window that reaches past the edge by less than a stride.
        beyond = stride[i] - 1 if pooling and rounding == "ceil" else 0
        if reach[i] > size + 2 * pad[i] + beyond:
            raise SpecError(
                layer.name,
                f"kernel reaches over {reach[i]} pixels, but its padded input has {side} = {size + 2 * pad[i]}",
            )
        out[i] = _positions(size + 2 * pad[i] - reach[i], stride[i], rounding)
        # Caffe drops a last window that starts in the padding, on both axes, as soon as either has a pad.
        if clip and (out[i] - 1) * stride[i] >= size + pad[i]:
            out[i] -= 1
        after[i] = (out[i] - 1) * stride[i] + reach[i] - size - pad[i]
    return Window(kernel=kernel, stride=stride, before=pad, after=(after[0], after[1]), out=(out[0], out[1]))


def _positions(free: int, stride: int, rounding: Rounding) -> int:
    return (free + (stride - 1 if rounding == "ceil" else 0)) // stride + 1


def interp_size(layer: Interp, shape: Shape) -> Pair:
    """Height and width of what an `Interp` makes of a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    cut = layer.pad_beg + layer.pad_end
    if max(layer.pad_beg, layer.pad_end) > 0 or min(shape[1:]) + cut < 1 or min(layer.zoom, layer.shrink) < 1:
        raise SpecError(layer.name, "pads must be at most 0 and leave something, zoom and shrink at least 1")
    sides = [side + cut for side in shape[1:]]
    if layer.size is not None and (layer.zoom == 1) == (layer.shrink == 1):
        sides = [*layer.size]
    else:
        shrunk = [(side - 1) // layer.shrink + 1 for side in sides]
        sides = [side + (side - 1) * (layer.zoom - 1) for side in shrunk]
    if min(sides) < 1:
        raise SpecError(layer.name, f"height and width must be positive, got {shape_text(tuple(sides))}")
    return sides[0], sides[1]


def cuts(layer: Crop, inputs: Sequence[Shape]) -> list[tuple[int, int]]:
    """Where a `Crop` begins and ends, an axis after the batch each; along the batch see `first_cut`."""
    shape, size = inputs
    axis = axis_index(layer.name, layer.axis, shape)
    offsets = layer.offsets if len(layer.offsets) != 1 else layer.offsets * (len(shape) + 1 - axis)
    offsets = offsets or (0,) * (len(shape) + 1 - axis)
    if len(size) != len(shape) or len(offsets) != len(shape) + 1 - axis:
        told = f"{len(layer.offsets)} offsets from axis {axis}"
        raise SpecError(layer.name, f"cannot crop {shape_text(shape)} to {shape_text(size)} with {told}")
    if axis == 0:
        offsets, axis = offsets[1:], 1
    found = [(0, side) for side in shape[: axis - 1]]
    found += [(start, start + side) for start, side in zip(offsets, size[axis - 1 :], strict=True)]
    if any(start < 0 or stop > side for (start, stop), side in zip(found, shape, strict=True)):
        raise SpecError(layer.name, f"offsets {offsets} and {shape_text(size)} reach past {shape_text(shape)}")
    return found


def first_cut(layer: Crop, shape: Shape) -> int | None:
    """Where a `Crop` to the size of its second input begins along the first axis; None where that is left whole."""
    if axis_index(layer.name, layer.axis, shape) != 0:
        return None
    return layer.offsets[0] if layer.offsets else 0


def reshaped(layer: Reshape, shape: Shape) -> Shape:
    """What a `Reshape` makes of a shape, both without the batch axis."""
    rank = len(shape) + 1
    start = layer.axis if layer.axis >= 0 else layer.axis + rank + 1
    end = rank if layer.num_axes == -1 else start + layer.num_axes
    if not 0 <= start <= end <= rank:
        told = f"axes {layer.axis} and {layer.num_axes} more"
        raise SpecError(layer.name, f"{told} do not exist in a batch of {shape_text(shape)}")
    dims = list(layer.dims)
    told = f"{shape_text(shape)} to dims {' '.join(map(str, dims)) or 'none'}"
    if any(dim < -1 or (dim == 0 and start + i >= rank) for i, dim in enumerate(dims)) or dims.count(-1) > 1:
        raise SpecError(layer.name, f"cannot reshape {told}: of each axis a size, 0 for the same, or once -1")
    # The batch is open: it is kept, or it becomes whatever the others leave.
    first, rest = dims[0] if start == 0 and dims else 0, dims[1:] if start == 0 else dims
    if start == 0 and (not dims or end == 0):
        raise SpecError(layer.name, f"cannot reshape {told}: the batch must keep the first place")
    at = max(start, 1)
    items = (1, *shape)
    made = [*items[1:start], *(items[at + i] if dim == 0 else dim for i, dim in enumerate(rest)), *items[end:]]
    if -1 in made and first == 0:
        made[made.index(-1)] = prod(shape) // -prod(made) if prod(made) else 0
    if min(made, default=1) < 1 or (first == 0 and prod(made) != prod(shape)):
        raise SpecError(layer.name, f"cannot reshape {told}: as many numbers must come out, an item of the batch each")
    return tuple(made)


def permutation(layer: Permute, shape: Shape) -> tuple[int, ...]:
    """The whole order of a `Permute`, the batch included."""
    rank, order = len(shape) + 1, layer.order
    if len(set(order)) != len(order) or any(not 0 <= axis < rank for axis in order):
        raise SpecError(layer.name, f"order {order} names an axis twice, or one that N x {shape_text(shape)} has not")
    full = (*order, *(axis for axis in range(rank) if axis not in order))
    if full[0] != 0:
        raise SpecError(layer.name, f"order {full} moves the batch, which stays open; it must begin with 0")
    return full


def deconv_size(layer: Deconv, shape: Shape) -> Pair:
    """Height and width of what a `Deconv` makes of a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    if min(*layer.kernel, *layer.stride, *layer.dilation) < 1 or min(layer.pad) < 0:
        raise SpecError(layer.name, "kernel, stride and dilation must be at least 1, pad at least 0")
    check_groups(layer, shape)
    sides = zip(shape[1:], layer.kernel, layer.stride, layer.pad, layer.dilation, strict=True)
    height, width = (s * (n - 1) + d * (k - 1) + 1 - 2 * p for n, k, s, p, d in sides)
    if min(height, width) < 1:
        raise SpecError(layer.name, f"pad {layer.pad} leaves nothing: {height} x {width}")
    return height, width


def unpooled(layer: Unpool, shape: Shape) -> Pair:
    """Height and width of what an `Unpool` makes of a (C, H, W) input."""
    if len(shape) != 3:
        raise SpecError(layer.name, f"needs a C x H x W input, got {shape_text(shape)}")
    sides = zip(shape[1:], layer.scale, layer.pad_out, strict=True)
    height, width = layer.size or tuple(side * scale - pad for side, scale, pad in sides)
    if min(height, width) < 1 or min(layer.scale) < 1 or min(layer.pad_out) < 0:
        raise SpecError(layer.name, f"height and width must be positive, got {height} x {width}")
    return height, width


def check_groups(layer: Conv | Deconv, shape: Shape) -> None:
    """Refuse groups that do not divide the channels."""
    if layer.groups < 1 or shape[0] % layer.groups or layer.out_channels % layer.groups or layer.out_channels < 1:
        raise SpecError(layer.name, f"{layer.groups} groups do not divide {shape[0]} -> {layer.out_channels} channels")


def detected(layer: Detecting, inputs: Sequence[Shape]) -> Shape:
    """What a layer of the family makes of the activations it reads, without the batch axis."""
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


def map_size(layer: str, shape: Shape) -> Pair:
    """Height and width of a C x H x W activation."""
    if len(shape) != 3:
        raise SpecError(layer, f"needs a C x H x W input, got {shape_text(shape)}")
    return shape[1], shape[2]


def prior_ratios(layer: PriorBox) -> list[float]:
    """The ratios of a `PriorBox`, 1 first; what is given twice counts once."""
    ratios = [1.0]
    for ratio in layer.ratios:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if layer.flip else [ratio]
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
    if layer.overlap < 0 or not 0 < layer.eta <= 1:
        raise SpecError(layer.name, f"overlap must be at least 0 and eta in (0, 1], got {layer.overlap}, {layer.eta}")


def _check_regions(layer: str, inputs: Sequence[Shape]) -> None:
    map_size(layer, inputs[0])
    if prod(inputs[1]) != 5:
        raise SpecError(layer, f"needs regions of 5 numbers (image, x1, y1, x2, y2), got {shape_text(inputs[1])}")


def power_constant(layer: Power) -> float | None:
    """What a `Power` is everywhere, where it does not read its input: power times scale is 0 in float32."""
    if np.float32(layer.scale) * np.float32(layer.power) != 0:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.power(np.float64(layer.shift), layer.power))
