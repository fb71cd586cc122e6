"""The modules that ``torch.nn`` lacks. Each stands alone: the source writer copies its text into a generated model.

Axes count the batch as 0; pads are (left, right, top, bottom), as in `torch.nn.functional.pad`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class PaddedConv2d(nn.Conv2d):
    """A convolution that first pads its input with zeros, each side by its own amount."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        pads: tuple[int, int, int, int],
        stride: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
        self.pads = pads

    def forward(self, input: Tensor) -> Tensor:
        """N x C x H x W to N x O x H' x W'."""
        # Not super(), which torch.jit.script cannot compile.
        return self._conv_forward(functional.pad(input, self.pads), self.weight, self.bias)


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


class TowerLocalResponseNorm(nn.LocalResponseNorm):
    """Local response normalisation in equal blocks of channels, so that no window crosses from tower to tower."""

    def __init__(self, size: int, alpha: float, beta: float, k: float, towers: int) -> None:
        super().__init__(size, alpha, beta, k)
        self.towers = towers

    def forward(self, input: Tensor) -> Tensor:
        """N x C x ... to the same shape."""
        flat = input.unsqueeze(-1).flatten(2)  # and no -1 below: a batch may be empty
        blocks = flat.reshape(flat.shape[0] * self.towers, flat.shape[1] // self.towers, flat.shape[2])
        return functional.local_response_norm(blocks, self.size, self.alpha, self.beta, self.k).reshape(input.shape)


class SpatialLocalResponseNorm(nn.Module):
    """Local response normalisation over a `size` x `size` window of pixels in the same map, zero padded."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        mean_square = functional.avg_pool2d(x * x, self.size, stride=1, padding=self.size // 2)
        return x * (self.k + self.alpha * mean_square) ** -self.beta


class Abs(nn.Module):
    """``|x|``."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x.abs()


class Clip(nn.Module):
    """``max(low, min(x, high))`` as Caffe does it: `low` where it is the greater, and in place of NaN."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        capped = x.clamp(max=self.high)
        return torch.where(capped > self.low, capped, self.low)


class Exp(nn.Module):
    """``base ** (shift + scale * x)``; what overflows is the factor that reads x, as in Caffe."""

    def __init__(self, base: float, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.factor = scale * math.log(base), base**shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return self.factor * torch.exp(self.scale * x)


class Log(nn.Module):
    """``log(shift + scale * x)`` to a base."""

    def __init__(self, base: float, scale: float, shift: float) -> None:
        super().__init__()
        self.factor, self.scale, self.shift = 1 / math.log(base), scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return self.factor * torch.log(self.scale * x + self.shift)


class Swish(nn.Module):
    """``x * sigmoid(beta * x)``."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x * torch.sigmoid(self.beta * x)


class Threshold(nn.Module):
    """1 where x is greater than the threshold, else 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return (x > self.threshold).to(x.dtype)


class SharedPReLU(nn.Module):
    """``max(x, 0) + weight * min(x, 0)`` with one slope for all, a number without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x.clamp(min=0) + self.weight * x.clamp(max=0)


class Power(nn.Module):
    """``(shift + scale * x) ** power``."""

    def __init__(self, power: float, scale: float, shift: float) -> None:
        super().__init__()
        self.power, self.scale, self.shift = power, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        scaled = self.scale * x
        return (scaled + self.shift if self.shift else scaled) ** self.power  # -0 stays -0


class Concat(nn.Module):
    """The inputs joined along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *inputs: Tensor) -> Tensor:
        """Shapes may differ along the axis alone."""
        return torch.cat(inputs, dim=self.axis)


class Slice(nn.Module):
    """``x[start:stop]`` along an axis."""

    def __init__(self, axis: int, start: int, stop: int) -> None:
        super().__init__()
        self.axis, self.start, self.stop = axis, start, stop

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the axis becomes ``stop - start`` long."""
        return x.narrow(self.axis, self.start, self.stop - self.start)


class Reshape(nn.Module):
    """Every item of the batch in another shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """N x ... to N x `shape`."""
        return x.reshape(-1, *self.shape)


class Permute(nn.Module):
    """Axes in another order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Axis i of the result is axis `order[i]`."""
        return x.permute(self.order)


class Tile(nn.Module):
    """The input several times along each axis."""

    def __init__(self, times: tuple[int, ...]) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """Every axis becomes as many times longer."""
        return x.repeat(self.times)


class Crop(nn.Module):
    """The first input cut to the size of the second, from an axis on."""

    def __init__(self, axis: int, offsets: tuple[int, ...]) -> None:
        super().__init__()
        self.axis, self.offsets = axis, offsets

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        """No offset is 0, one serves every axis that is cut."""
        axes = range(self.axis, x.dim())
        offsets = self.offsets if len(self.offsets) == len(axes) else (self.offsets or (0,)) * len(axes)
        for axis, start in zip(axes, offsets, strict=True):
            x = x.narrow(axis, start, size.shape[axis])
        return x


class Shuffle(nn.Module):
    """The channels of equal groups by turns."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """N x C x ... to the same shape."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class Axpy(nn.Module):
    """``a * x + y``."""

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """One factor a channel, N x C or N x C x 1 x 1."""
        return a.reshape(*a.shape[:2], *[1] * (x.dim() - 2)) * x + y


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
        rows = x.flatten(1) if self.axis is None else x.movedim(self.axis, -1)
        best, order = rows.flip(-1).sort(dim=-1, descending=True, stable=True)
        best, order = best[..., : self.top_k], (rows.shape[-1] - 1 - order[..., : self.top_k]).to(x.dtype)
        if self.axis is not None:
            return (best if self.out_max_val else order).movedim(-1, self.axis)
        found = torch.stack([order, best] if self.out_max_val else [order], dim=1)
        return found.reshape(*found.shape, *[1] * (x.dim() - 3))


class Normalize(nn.Module):
    """``weight * x / sqrt(eps + sum(x^2))``, the sum over some axes, the weight broadcast over `trailing` last ones."""

    def __init__(self, shape: tuple[int, ...], trailing: int, axes: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.trailing, self.axes, self.eps = (1,) * trailing, axes, eps
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        norm = ((x * x).sum(self.axes, keepdim=True) + self.eps).sqrt()
        return self.weight.reshape(self.weight.shape + self.trailing) * (x / norm)


class MVN(nn.Module):
    """Mean and, if asked, variance of every map (or item, across its channels) normalised; eps is outside the root."""

    def __init__(self, across_channels: bool, normalize_variance: bool, eps: float) -> None:
        super().__init__()
        self.axes, self.normalize_variance, self.eps = (
            ((1, 2, 3) if across_channels else (2, 3)),
            normalize_variance,
            eps,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Up to four axes; the result has four."""
        x = x.reshape(*x.shape, *[1] * (4 - x.dim()))
        x = x - x.mean(self.axes, keepdim=True)
        if not self.normalize_variance:
            return x
        return x / ((x * x).mean(self.axes, keepdim=True).sqrt() + self.eps)


class Eltwise(nn.Module):
    """Inputs of one shape combined: "sum" (each times its coefficient), "prod" or "max"."""

    def __init__(self, operation: str, coefficients: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.operation, self.coefficients = operation, coefficients

    def forward(self, *inputs: Tensor) -> Tensor:
        """Any shape, kept."""
        if self.coefficients:
            inputs = tuple(factor * x for factor, x in zip(self.coefficients, inputs, strict=True))
        result = inputs[0]
        for x in inputs[1:]:
            if self.operation == "sum":
                result = result + x
            elif self.operation == "prod":
                result = result * x
            else:
                result = torch.maximum(result, x)
        return result


class Scale(nn.Module):
    """``x * weight (+ bias)``, broadcast over `trailing` last axes."""

    def __init__(self, shape: tuple[int, ...], trailing: int, bias: bool = False) -> None:
        super().__init__()
        self.trailing = (1,) * trailing
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        x = x * self.weight.reshape(self.weight.shape + self.trailing)
        return x if self.bias is None else x + self.bias.reshape(self.bias.shape + self.trailing)


class Bias(nn.Module):
    """``x + bias``, broadcast over `trailing` last axes."""

    def __init__(self, shape: tuple[int, ...], trailing: int) -> None:
        super().__init__()
        self.trailing = (1,) * trailing
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x + self.bias.reshape(self.bias.shape + self.trailing)


class Multiply(nn.Module):
    """``x * factor``, broadcast over `trailing` last axes, plus a bias of shape `bias` where that is set."""

    def __init__(self, trailing: int, bias: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.trailing = (1,) * trailing
        self.bias = None if bias is None else nn.Parameter(torch.zeros(bias))

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        """The factor has the first axes of x, the batch included; the shape of x is kept."""
        x = x * factor.reshape(factor.shape + self.trailing)
        return x if self.bias is None else x + self.bias.reshape(self.bias.shape + self.trailing)


class Add(nn.Module):
    """``x + term``, broadcast over `trailing` last axes."""

    def __init__(self, trailing: int) -> None:
        super().__init__()
        self.trailing = (1,) * trailing

    def forward(self, x: Tensor, term: Tensor) -> Tensor:
        """The term has the first axes of x, the batch included; the shape of x is kept."""
        return x + term.reshape(term.shape + self.trailing)


class BatchStatisticsNorm(nn.Module):
    """Batch normalisation by the batch at hand, at inference too; the stored statistics are carried, not used."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x ... to the same shape."""
        axes = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.eps)
