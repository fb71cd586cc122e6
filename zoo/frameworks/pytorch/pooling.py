"""Pooling, resizing and reductions: the row of each kind, and the modules that ``torch.nn`` lacks.

Each module stands alone: the source writer copies its text. Pads are (left, right, top, bottom).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo import layers
from zoo.axes import axis_index
from zoo.frameworks.pytorch.calls import Call, pads, short, unless
from zoo.layers import Pool, Shape
from zoo.shapes import interp_size, unpooled, window


def call(layer: layers.Pooling, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    shape = inputs[0]
    match layer:
        case Pool():
            return _pool(layer, shape)
        case layers.PoolMask():
            place = window(layer, shape)
            return Call(make=PoolMask, args=(short(place.kernel), short(place.stride), pads(place)))
        case layers.Unpool():
            return Call(make=Unpool, args=(unpooled(layer, shape),))
        case layers.Interp():
            return Call(make=Interp, args=(interp_size(layer, shape), layer.pad_beg, layer.pad_end))
        case layers.Reduction():
            axis = axis_index(layer.name, layer.axis, shape)
            return Call(make=Reduction, args=(layer.operation, axis, layer.coeff))
        case layers.ArgMax():
            return Call(make=ArgMax, args=(layer.top_k, layer.out_max_val, layer.axis))
        case _:
            assert_never(layer)


def _pool(layer: Pool, shape: Shape) -> Call:
    if layer.global_pool:
        return Call(make=nn.AdaptiveMaxPool2d if layer.mode == "max" else nn.AdaptiveAvgPool2d, args=(1,))
    place = window(layer, shape)
    # torch.nn follows the same rules, but takes no pad over half the kernel, and with no pad at all it drops a last
    # window that starts outside the image, which Caffe keeps (an empty window).
    empty = any((place.out[i] - 1) * place.stride[i] >= shape[1 + i] + place.before[i] for i in (0, 1))
    if empty or any(2 * pad > kernel for pad, kernel in zip(layer.pad, layer.kernel, strict=True)):
        if layer.mode == "max":
            return Call(make=PaddedMaxPool2d, args=(short(place.kernel), short(place.stride), pads(place)))
        return Call(make=PaddedAvgPool2d, args=(place.kernel, place.stride, pads(place), place.before))
    return Call(
        make=nn.MaxPool2d if layer.mode == "max" else nn.AvgPool2d,
        args=(short(layer.kernel), short(layer.stride)),
        options={
            **unless(layer.pad == (0, 0), padding=short(layer.pad)),
            **unless(layer.rounding == "floor", ceil_mode=True),
        },
    )


class PaddedMaxPool2d(nn.Module):
    """Max pooling over explicit pads that never win; a window wholly outside the image gives the lowest float."""

    def __init__(
        self, kernel: int | tuple[int, int], stride: int | tuple[int, int], pads: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x H' x W'."""
        lowest = torch.finfo(x.dtype).min
        return functional.max_pool2d(functional.pad(x, self.pads, value=lowest), self.kernel, self.stride)


class PaddedAvgPool2d(nn.Module):
    """Average pooling over explicit zero pads, divided by the part of the window inside the image and its `margin`.

    As in Caffe, that part may be empty: 0 / 0 is NaN there, and 0 where the window starts past the edge.
    """

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
        margin: tuple[int, int],
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads, self.margin = kernel, stride, pads, margin

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x H' x W'."""
        mean = functional.avg_pool2d(functional.pad(x, self.pads), self.kernel, self.stride)
        rows, columns = (self.counted(x, mean, axis) for axis in (0, 1))
        return mean * (self.kernel[0] * self.kernel[1] / (rows[:, None] * columns))

    def counted(self, x: Tensor, mean: Tensor, axis: int) -> Tensor:
        """How many pixels of each window count, along the rows (axis 0) or the columns (1); negative past the edge."""
        start = torch.arange(mean.shape[2 + axis], device=x.device) * self.stride[axis]
        end = (start + self.kernel[axis]).clamp(max=x.shape[2 + axis] + 2 * self.margin[axis])
        return (end - start).to(x.dtype)


class Interp(nn.Module):
    """Bilinear to another size, the corners aligned, after rows and columns are cut off (pads of at most 0)."""

    def __init__(self, size: tuple[int, int], pad_beg: int, pad_end: int) -> None:
        super().__init__()
        self.size, self.pads = size, (pad_beg, pad_end) * 2

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x `size`."""
        cut = functional.pad(x, self.pads)
        return functional.interpolate(cut, self.size, mode="bilinear", align_corners=True)


class Reduction(nn.Module):
    """A coefficient times the "sum", "asum" (of absolutes), "sumsq" (of squares) or "mean" from an axis on."""

    def __init__(self, operation: str, axis: int, coefficient: float) -> None:
        super().__init__()
        self.operation, self.axis, self.coefficient = operation, axis, coefficient

    def forward(self, x: Tensor) -> Tensor:
        """The axes before `axis` are left."""
        x = {"asum": x.abs(), "sumsq": x * x}.get(self.operation, x).flatten(self.axis)
        return self.coefficient * (x.mean(-1) if self.operation == "mean" else x.sum(-1))


class ArgMax(nn.Module):
    """Where the greatest numbers stand, greatest first, and of equals the last first; see Caffe's ArgMax."""

    def __init__(self, top_k: int, out_max_val: bool, axis: int | None) -> None:
        super().__init__()
        self.top_k, self.out_max_val, self.axis = top_k, out_max_val, axis

    def forward(self, x: Tensor) -> Tensor:
        """Along the axis, or of each item as a whole: N x 1 (or 2, with the numbers) x top_k x 1 ..."""
        rows = x.reshape(len(x), -1) if self.axis is None else x.movedim(self.axis, -1)
        best, order = rows.flip(-1).sort(dim=-1, descending=True, stable=True)
        best, order = best[..., : self.top_k], (rows.shape[-1] - 1 - order[..., : self.top_k]).to(x.dtype)
        if self.axis is not None:
            return (best if self.out_max_val else order).movedim(-1, self.axis)
        found = torch.stack([order, best] if self.out_max_val else [order], dim=1)
        return found.reshape(list(found.shape) + [1] * max(x.dim() - 3, 0))


class PoolMask(nn.Module):
    """Where the maximum of each window stands, row * W + column; -1 where there is no pixel."""

    def __init__(
        self, kernel: int | tuple[int, int], stride: int | tuple[int, int], pads: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to N x C x H' x W'."""
        lowest = torch.finfo(x.dtype).min
        padded = functional.pad(x, self.pads, value=lowest)
        best, at = functional.max_pool2d(padded, self.kernel, self.stride, return_indices=True)
        rows, columns = at // padded.shape[3] - self.pads[2], at % padded.shape[3] - self.pads[0]
        return torch.where(best > lowest, rows * x.shape[3] + columns, -1).to(x.dtype)


class Unpool(nn.Module):
    """Numbers put at their places (row * W + column), zeros elsewhere; where several meet, the last one stands."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """N x C x h x w, twice, to N x C x `size`."""
        numbers, count = x.flatten(2), self.size[0] * self.size[1]
        at = places.flatten(2).long().clamp(0, count - 1)
        order = torch.arange(numbers.shape[2], device=x.device).expand_as(at)
        none = torch.full((*x.shape[:2], count), -1, dtype=at.dtype, device=x.device)
        last = none.scatter_reduce(2, at, order, "amax")
        return torch.where(last < 0, 0.0, numbers.gather(2, last.clamp(min=0))).unflatten(2, self.size)
