"""Where a sliding window goes, of a convolution or a pooling layer."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import SpecError
from zoo.layers import Conv, Pair, Pool, PoolMask, Rounding, Shape
from zoo.shapes.base import check_image


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

    @property
    def pads(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right)): what must be put around the image; rows that no window reads need nothing."""
        (top, left), (bottom, right) = self.before, self.after
        return (top, max(bottom, 0)), (left, max(right, 0))


def window(layer: Conv | Pool | PoolMask, shape: Shape) -> Window:
    """The window of a convolution or pooling layer over a (C, H, W) input."""
    check_image(layer, shape)
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
        # Caffe makes one position of a window that reaches past the edge by less than a stride, where it rounds up, and
        # of a kernel always: the division of conv_layer.cpp is C's, towards zero.
        beyond = 0 if pooling and rounding == "floor" else stride[i] - 1
        if reach[i] > size + 2 * pad[i] + beyond:
            raise SpecError(
                layer.name,
                f"kernel reaches over {reach[i]} pixels, but its padded input has {side} = {size + 2 * pad[i]}",
            )
        out[i] = _positions(max(size + 2 * pad[i] - reach[i], 0), stride[i], rounding)
        # Caffe drops a last window that starts in the padding, on both axes, as soon as either has a pad.
        if clip and (out[i] - 1) * stride[i] >= size + pad[i]:
            out[i] -= 1
        after[i] = (out[i] - 1) * stride[i] + reach[i] - size - pad[i]
    return Window(kernel=kernel, stride=stride, before=pad, after=(after[0], after[1]), out=(out[0], out[1]))


def _positions(free: int, stride: int, rounding: Rounding) -> int:
    return (free + (stride - 1 if rounding == "ceil" else 0)) // stride + 1
