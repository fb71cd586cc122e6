"""Local response normalisation for training: the closed-form gradient, worked through the cache one piece at a time.

``y = x s^-b`` with ``s = k + a W(x^2)``, where ``W`` sums over a window and ``a = alpha / n``. Since the window is
symmetric, ``dL/dx = g s^-b - 2 a b x W(g x s^-b / s)``. `torch.nn.functional.local_response_norm` pads, pools in three
dimensions and records every step: several times as long.

Everything here works on numbers as they lie in memory, channels first or last: neighbours along an axis are a fixed
distance apart, so that a window over any axis is a sum of shifted copies of one long row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.layers import LRN

# Numbers a piece: its few temporaries stay in a core's cache (a whole batch of conv1 would go to memory ten times), and
# it is large enough that two threads do not spend their time on waking each other.
_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where an axis lies: `length` numbers, each `apart` from the next; the window reaches `reach` to either side."""

    length: int
    apart: int
    reach: int

    @property
    def block(self) -> int:
        """How many numbers in a row belong to one run through the axis (and to those beside it)."""
        return self.length * self.apart

    def window_sum(self, a: Tensor, b: Tensor | None) -> Tensor:
        """The sum of a b (or a) over the window around every number of some whole blocks; zeros outside.

        Returns a view, blocks x block, of something wider.
        """
        rows = a.reshape(-1, self.block)
        # Zeros behind each block, as many as the window reaches: no sum needs to know where a block ends.
        gap, wide = self.reach * self.apart, self.block + self.reach * self.apart
        line = a.new_zeros(len(rows) * wide + 2 * gap)
        place = line[gap : gap + len(rows) * wide].view(-1, wide)[:, : self.block]
        if b is None:
            place.copy_(rows)
        else:
            torch.mul(rows, b.reshape(-1, self.block), out=place)
        total, width = line, 1
        for bit in f"{2 * self.reach + 1:b}"[1:]:  # a window of 2 m is two of m; one more number makes it odd
            total, width = total[: -width * self.apart] + total[width * self.apart :], 2 * width
            if bit == "1":
                total, width = total[: -self.apart].add_(line[width * self.apart :]), width + 1
        return total.view(-1, wide)[:, : self.block]


@dataclass(frozen=True, slots=True)
class _Form:
    """A layer's formula, for activations that lie in memory in one way."""

    layer: LRN
    axes: tuple[_Axis, ...]

    @staticmethod
    def of(layer: LRN, x: Tensor) -> _Form:
        """The form for activations that lie as `x` does."""
        reach, last = layer.size // 2, _is_channels_last(x)
        if layer.region == "within":
            _, channels, height, width = x.shape
            apart = channels if last else 1
            return _Form(layer, (_Axis(height, width * apart, reach), _Axis(width, apart, reach)))
        return _Form(layer, (_Axis(x.shape[1] // layer.towers, 1 if last else prod(x.shape[2:]), reach),))

    @property
    def alpha(self) -> float:
        """`a`: alpha over how many numbers a whole window holds."""
        return self.layer.alpha / self.layer.size ** len(self.axes)

    @property
    def slope(self) -> float:
        """`-2 a b`."""
        return -2.0 * self.alpha * self.layer.beta

    def window_sum(self, a: Tensor, b: Tensor) -> Tensor:
        """`W(a b)`, as long as `a`, in rows."""
        first, *others = self.axes
        total = first.window_sum(a, b)
        for axis in others:
            total = axis.window_sum(total, None)
        return total

    def scale_and_power(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`s` and `s^b`, in rows; the paper's 0.75 needs no logarithm."""
        # A number alone on the CPU goes along with the call; on x's device it would have to be copied there first.
        s = torch.add(torch.tensor(self.layer.k, dtype=x.dtype), self.window_sum(x, x), alpha=self.alpha)
        return s, s.sqrt().mul_(s).sqrt_() if self.layer.beta == 0.75 else s.pow(self.layer.beta)

    def pieces(self, x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Matching pieces of whole blocks, flat; on an accelerator, all at once."""
        block = max(axis.block for axis in self.axes)
        numbers = max(1, _PIECE // block) * block if x.device.type == "cpu" else max(1, x.numel())
        last = _is_channels_last(x)
        flat = [(y.permute(0, 2, 3, 1) if last else y).reshape(-1) for y in (x, *others)]
        return zip(*(y.split(numbers) for y in flat), strict=True)


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


class _Normalise(torch.autograd.Function):
    """The function and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: LRN) -> Tensor:
        x = x if _is_channels_last(x) else x.contiguous()
        ctx.save_for_backward(x)
        ctx.form, y = _Form.of(layer, x), torch.empty_like(x)
        for part, out in ctx.form.pieces(x, y):
            wide = part.to(torch.promote_types(x.dtype, torch.float32))
            _, power = ctx.form.scale_and_power(wide)
            torch.div(wide.view_as(power), power, out=out.view_as(power))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,), form = ctx.saved_tensors, ctx.form
        result = torch.empty_like(x)
        for part, grad, out in form.pieces(x, grads[0], result):
            wide = part.to(torch.promote_types(x.dtype, torch.float32))
            s, power = form.scale_and_power(wide)
            direct = torch.div(grad.view_as(s), power, out=power)
            spread = form.window_sum(torch.div(direct, s, out=s), wide)
            torch.addcmul(direct, spread, wide.view_as(s), value=form.slope, out=out.view_as(s))
        return result, None


class LocalResponseNorm(nn.Module):
    """An `LRN` layer of any kind; half precision is worked in float32. N x C x H x W (or N x C) to the same shape."""

    def __init__(self, layer: LRN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The normalised activation."""
        return cast(Tensor, _Normalise.apply(x, self.layer))
