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
        return super().forward(functional.pad(input, self.pads))


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
        blocks = input.reshape(input.shape[0] * self.towers, input.shape[1] // self.towers, -1)
        return super().forward(blocks).reshape(input.shape)


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
        base = scaled + self.shift if self.shift else scaled  # -0 stays -0
        # By a tensor of exponents: for a single 0.5, torch takes the square root, which has another answer for -inf.
        return base if self.power == 1 else base ** torch.full_like(base, self.power)


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
        return x[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


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
        rows = x.reshape(len(x), -1) if self.axis is None else x.movedim(self.axis, -1)
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


class Fill(nn.Module):
    """The same number everywhere, whatever is read."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return torch.full_like(x, self.value)


class Constant(nn.Module):
    """A number everywhere in `shape`; or, beside an activation, in as many items as that."""

    def __init__(self, value: float, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.value, self.shape = value, shape

    def forward(self, *beside: Tensor) -> Tensor:
        """`shape`, or N x `shape`."""
        if not beside:
            return torch.full(self.shape, self.value)
        return beside[0].new_full((beside[0].shape[0], *self.shape), self.value)


class Parameter(nn.Module):
    """A parameter by itself."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, *beside: Tensor) -> Tensor:
        """`shape`, or N x `shape` beside an activation of N items."""
        return self.weight.expand(*(x.shape[0] for x in beside), *self.weight.shape)


class Embed(nn.Module):
    """Rows of a table, by number: cut towards 0, and the nearest row where there is none of that number."""

    def __init__(self, rows: int, features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, features))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to one axis more."""
        rows = functional.embedding(x.long().clamp(0, self.weight.shape[0] - 1), self.weight)
        return rows if self.bias is None else rows + self.bias


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
        count = len(places)
        corners = self.decode(places.reshape(count, len(boxes), -1, 4), boxes, variances)
        scores = scores.reshape(count, len(boxes), -1)
        rows = [self.of_image(image, corners[image], scores[image]) for image in range(count)]
        found = torch.cat(rows)
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


def bins(start: Tensor, side: Tensor, count: int, limit: int, base: Tensor) -> Tensor:
    """Which of `limit` rows belong to each of `count` bins of each region, R x count x limit."""
    at = torch.arange(count + 1, dtype=side.dtype, device=side.device) * side[:, None] + start[:, None]
    low, high = at[:, :-1].floor() + base[:, None], at[:, 1:].ceil() + base[:, None]
    row = torch.arange(limit, device=side.device)
    return (row >= low[..., None]) & (row < high[..., None])


def rounded(x: Tensor) -> Tensor:
    """To whole numbers, halves away from zero."""
    return torch.copysign((x.abs() + 0.5).floor(), x)


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
        images = x[regions[:, 0].long().clamp(0, len(x) - 1)]
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
        images = x[regions[:, 0].long().clamp(0, len(x) - 1)]
        maps = images.unflatten(1, (self.channels, self.group, self.group))
        total = torch.einsum("rdijhw,rih,rjw->rdij", maps, rows, columns)
        return total / (rows.sum(-1)[:, None, :, None] * columns.sum(-1)[:, None, None, :]).clamp(min=1)
