"""Batch normalisation in training: by the statistics of the whole batch, on however many devices its images lie."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from zoo import layers
from zoo.errors import ZooError
from zoo.training.collectives import total


class BatchNorm(nn.Module):
    """A `BatchNorm` layer; its moving mean and variance (C,), float32, follow those of the batches.

    What they follow is the variance over n - 1 of n numbers, in torch as in Caffe (batch_norm_layer.cpp).

    Attributes:
        frozen: the moving statistics stay as they are, and count in training as well.
    """

    def __init__(self, layer: layers.BatchNorm, channels: int) -> None:
        super().__init__()
        self.layer, self.frozen = layer, False
        self.running_mean, self.running_var = nn.Buffer(torch.zeros(channels)), nn.Buffer(torch.ones(channels))

    def forward(self, x: Tensor, share: Tensor | None, groups: Sequence[dist.ProcessGroup]) -> Tensor:
        """N x C x ... to the same shape.

        Args:
            x: the activation of this device's images.
            share: of the batch's statistics in the moving ones, a number on the CPU; None: not in training.
            groups: devices that have other images of the batch, each of one device of the other groups.

        Raises:
            ZooError: one number a channel, which has no variance.
        """
        learns = share is not None and not self.frozen
        if learns and _numbers(x, groups) == 1:
            raise ZooError(
                f"layer {self.layer.name!r}: one number a channel has no variance; use a larger --batch-size"
            )
        if not (learns or self.layer.batch_stats):
            return functional.batch_norm(x, self.running_mean, self.running_var, eps=self.layer.eps)
        y, mean, variance = self._over(x, groups) if learns and groups else self._here(x)
        if share is not None and learns:
            with torch.no_grad():
                self.running_mean.add_((mean - self.running_mean) * share)
                self.running_var.add_((variance - self.running_var) * share)
        return y

    def _here(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The result by the images of this device alone, and their mean and variance."""
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # In one kernel, which writes both as moving statistics that take the batch's whole. `functional` asks for more
        # than one number a channel.
        y = torch.batch_norm(x, None, None, mean, variance, True, 1.0, self.layer.eps, torch.backends.cudnn.enabled)
        return y, mean, variance

    def _over(self, x: Tensor, groups: Sequence[dist.ProcessGroup]) -> tuple[Tensor, Tensor, Tensor]:
        """The result by the images of all devices, and their mean and variance."""
        axes, beside = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        count = _numbers(x, groups)
        wide = x.float()
        mean = total(wide.sum(axes), groups) / count
        centred = wide - mean.view(beside)
        variance = total(centred.square().sum(axes), groups) / count
        y = centred * torch.rsqrt(variance + self.layer.eps).view(beside)
        return y.to(x.dtype), mean.detach(), variance.detach() * (count / (count - 1))


def _numbers(x: Tensor, groups: Sequence[dist.ProcessGroup]) -> int:
    """How many numbers of a channel there are, on all devices."""
    return x.numel() // x.shape[1] * prod([dist.get_world_size(group) for group in groups])
