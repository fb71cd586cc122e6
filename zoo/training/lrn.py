"""Local response normalisation for training: the closed-form gradient, worked through the cache one piece at a time.

``y = x s^-b`` with ``s = k + a W(x^2)``, where ``W`` sums over a window and ``a = alpha / n``. Since the window is
symmetric, ``dL/dx = g s^-b - 2 a b x W(g x s^-b / s)``. `torch.nn.functional.local_response_norm` pads, pools in three
dimensions and records every step; this takes about a tenth of its time, on one core and on two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.layers import LRN

# Numbers a piece: its few temporaries stay in a core's cache (a whole batch of conv1 would go to memory ten times).
_PIECE = 1 << 18


def window_sum(x_NC: Tensor, size: int, *, within: bool) -> Tensor:
    """The sum over `size` channels (axis 1), or over `size` x `size` pixels of the same map; zeros outside."""
    for axis in (2, 3) if within else (1,):
        x_NC = _sum_along(x_NC, axis, size // 2)
    return x_NC


def _sum_along(x: Tensor, axis: int, reach: int) -> Tensor:
    total, length = x.clone(), x.shape[axis]
    for shift in range(1, min(reach, length - 1) + 1):
        total.narrow(axis, shift, length - shift).add_(x.narrow(axis, 0, length - shift))
        total.narrow(axis, 0, length - shift).add_(x.narrow(axis, shift, length - shift))
    return total


def _power(s: Tensor, beta: float) -> Tensor:
    """s^-beta; the paper's 0.75 needs no logarithm: r sqrt(r), r = 1 / sqrt(s)."""
    if beta != 0.75:
        return s.pow(-beta)
    r = s.rsqrt()
    return r.sqrt().mul_(r)


class _Normalise(torch.autograd.Function):
    """The function and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: LRN) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer = layer
        y = torch.empty_like(x)
        for part, result in _pieces(layer.towers, x, y):
            wide = part.to(torch.promote_types(x.dtype, torch.float32))
            _, power = _scale_and_power(wide, layer)
            result.copy_(power.mul_(wide))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,), layer = ctx.saved_tensors, ctx.layer
        result = torch.empty_like(x)
        for part, grad, out in _pieces(layer.towers, x, grads[0], result):
            wide = part.to(torch.promote_types(x.dtype, torch.float32))
            s, power = _scale_and_power(wide, layer)
            direct = power.mul_(grad)
            spread = window_sum((direct * wide).div_(s), layer.size, within=layer.region == "within")
            out.copy_(torch.addcmul(direct, spread, wide, value=-2.0 * _alpha(layer) * layer.beta))
        return result, None


def _alpha(layer: LRN) -> float:
    return layer.alpha / (layer.size**2 if layer.region == "within" else layer.size)


def _scale_and_power(x: Tensor, layer: LRN) -> tuple[Tensor, Tensor]:
    s = window_sum(x * x, layer.size, within=layer.region == "within").mul_(_alpha(layer)).add_(layer.k)
    return s, _power(s, layer.beta)


def _pieces(towers: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching pieces: some images of one tower each; on an accelerator all images at once."""
    first = tensors[0]
    images = max(1, _PIECE * len(first) // max(1, first.numel())) if first.device.type == "cpu" else max(1, len(first))
    for pieces in zip(*(tensor.split(images) for tensor in tensors), strict=True):
        yield from zip(*(piece.chunk(towers, dim=1) for piece in pieces), strict=True)


class LocalResponseNorm(nn.Module):
    """An `LRN` layer of any kind; half precision is worked in float32. N x C x H x W (or N x C) to the same shape."""

    def __init__(self, layer: LRN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The normalised activation."""
        return cast(Tensor, _Normalise.apply(x, self.layer))
