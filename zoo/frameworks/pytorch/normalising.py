"""Normalisation: the row of each kind, and the modules that ``torch.nn`` lacks.

Each module stands alone: the source writer copies its text. Axes count the batch as 0.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo import layers
from zoo.axes import axis_index
from zoo.errors import UnsupportedError
from zoo.frameworks.pytorch.calls import Call
from zoo.layers import LRN, BatchNorm, Shape


def call(layer: layers.Normalising, shape: Shape) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    match layer:
        case LRN():
            return _lrn(layer, shape)
        case BatchNorm():
            return _batch_norm(layer, shape)
        case layers.Normalize():
            axes = tuple(range(1, len(shape) + 1)) if layer.across_spatial else (1,)
            size, trailing = ((), 0) if layer.shared else (shape[:1], len(shape) - 1)
            return Call(make=Normalize, args=(size, trailing, axes, layer.eps))
        case layers.MVN():
            return Call(make=MVN, args=(layer.across_channels, layer.normalize_variance, layer.eps))
        case layers.Softmax():
            return Call(make=nn.Softmax, options={"dim": axis_index(layer.name, layer.axis, shape)})
        case _:
            assert_never(layer)


def _lrn(layer: LRN, shape: Shape) -> Call:
    options: dict[str, object] = {"alpha": layer.alpha, "beta": layer.beta, "k": layer.k}
    if layer.region == "within":
        return Call(make=SpatialLocalResponseNorm, args=(layer.size,), options=options)
    if layer.towers > 1 or len(shape) == 1:  # torch.nn's takes no N x C
        options["towers"] = layer.towers
        return Call(make=TowerLocalResponseNorm, args=(layer.size,), options=options)
    return Call(make=nn.LocalResponseNorm, args=(layer.size,), options=options)


def _batch_norm(layer: BatchNorm, shape: Shape) -> Call:
    channels, makers = shape[0], {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
    if layer.batch_stats:
        return Call(make=BatchStatisticsNorm, args=(channels, layer.eps))
    if len(shape) not in makers:
        raise UnsupportedError(f"layer {layer.name!r}: torch.nn normalises 2 to 5 axes, the batch included, not more")
    return Call(make=makers[len(shape)], args=(channels,), options={"eps": layer.eps, "affine": False})


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


class Normalize(nn.Module):
    """``weight * x / sqrt(eps + sum(x^2))``, the sum over some axes, the weight broadcast over `trailing` last ones."""

    def __init__(self, shape: tuple[int, ...], trailing: int, axes: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.broadcast, self.axes, self.eps = [*shape, *[1] * trailing] or [1], axes, eps
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        # torch.onnx leaves out what is added if it is nearly 0, as an eps is; a power of two costs no digit.
        norm = ((x * x).sum(self.axes, keepdim=True) * 2.0**20 + self.eps * 2.0**20).sqrt() / 2.0**10
        return self.weight.reshape(self.broadcast) * (x / norm)


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
        x = x.reshape(list(x.shape) + [1] * (4 - x.dim()))
        x = x - x.mean(self.axes, keepdim=True)
        if not self.normalize_variance:
            return x
        return x / ((x * x).mean(self.axes, keepdim=True).sqrt() + self.eps)


class BatchStatisticsNorm(nn.Module):
    """Batch normalisation by the batch at hand, at inference too; the stored statistics are carried, not used."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x ... to the same shape."""
        axes = list(range(x.dim()))
        del axes[1]
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.eps)
