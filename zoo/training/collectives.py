"""What activations and gradients go through between devices, as differentiable functions over `torch.distributed`.

Two kinds of activation meet here. A *part* lies on one device; every device holds another one. A *whole* is the same on
every device, and so is its gradient. Where a whole is used to compute parts, each device knows a share of its gradient
only: the shares are summed on the way back (``shared=True``).

`sent` counts the bytes every device hands to others. Sums are built from `all_to_all`, since gloo's reduce-scatter is
an all-reduce that sends twice as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


class Counter:
    """Bytes this process has handed to the network."""

    def __init__(self) -> None:
        self.bytes = 0

    def add(self, tensor: Tensor, times: float = 1) -> None:
        """Count `times` copies of a tensor."""
        self.bytes += round(tensor.numel() * tensor.element_size() * times)


sent = Counter()


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.stride(1) == 1 and not x.is_contiguous()


def _wire(x: Tensor) -> Tensor:
    """`x` as a contiguous tensor, its axes in the order they have in memory (channels last stay last)."""
    return (x.permute(0, 2, 3, 1) if _channels_last(x) else x).contiguous()


def _unwire(wire: Tensor, like: Tensor) -> Tensor:
    """The tensor that travelled in the place of one like `like`, its axes again in canonical order."""
    return wire.permute(0, 3, 1, 2) if _channels_last(like) else wire


def _all_gather(part: Tensor, axis: int, group: dist.ProcessGroup) -> Tensor:
    size, wire = dist.get_world_size(group), _wire(part)
    received = [torch.empty_like(wire) for _ in range(size)]
    dist.all_gather(received, wire, group=group)
    sent.add(part, size - 1)
    return torch.cat([_unwire(other, part) for other in received], dim=axis)


def _sum_scatter(whole: Tensor, axis: int, group: dist.ProcessGroup) -> Tensor:
    """The sum over devices of each device's own part: what is sent is the least possible, (P - 1) / P of the whole."""
    parts = whole.chunk(dist.get_world_size(group), dim=axis)
    wires = [_wire(part) for part in parts]
    received = torch.empty((len(parts), *wires[0].shape), dtype=whole.dtype, device=whole.device)
    dist.all_to_all_single(received, torch.stack(wires), group=group)
    sent.add(parts[0], len(parts) - 1)
    # In the order of the ranks, so that the same seed gives the same bits.
    total = received[0]
    for other in received[1:]:
        total = total + other
    return _unwire(total, parts[0])


def _own(whole: Tensor, axis: int, group: dist.ProcessGroup) -> Tensor:
    return whole.chunk(dist.get_world_size(group), dim=axis)[dist.get_rank(group)]


class _Gather(torch.autograd.Function):
    """Parts to a whole; back: the own part of the gradient, summed over devices where it is shared."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, axis: int, group: dist.ProcessGroup, shared: bool) -> Tensor:
        ctx.axis, ctx.group, ctx.shared = axis, group, shared
        return _all_gather(part, axis, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        back = _sum_scatter if ctx.shared else _own
        return back(grads[0], ctx.axis, ctx.group), None, None, None


class _Replicate(torch.autograd.Function):
    """A whole used to compute parts: the identity; back: the sum of the devices' shares of the gradient."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _unwire(all_reduce(_wire(grads[0]).clone(), ctx.group), grads[0]), None


class _Total(torch.autograd.Function):
    """A device's share of a sum: the sum; back: the devices' gradients are summed, since all of them go on from it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return all_reduce(own.clone(), group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return all_reduce(grads[0].clone(), ctx.group), None


class _Shard(torch.autograd.Function):
    """A whole to the own part; back: everybody's parts of the gradient."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, axis: int, group: dist.ProcessGroup) -> Tensor:
        ctx.axis, ctx.group = axis, group
        return _own(whole, axis, group).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _all_gather(grads[0], ctx.axis, ctx.group), None, None


class _Halo(torch.autograd.Function):
    """The own channels with up to `reach` channels of each neighbour; back: the neighbours' gradients are added."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, reach: int, group: dist.ProcessGroup) -> Tensor:
        ctx.reach, ctx.group = reach, group
        below, above = _exchange(part[:, :reach], part[:, -reach:], group)
        pieces = [piece for piece in (below, part, above) if piece is not None]
        return torch.cat(pieces, dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        rank, size, reach = dist.get_rank(ctx.group), dist.get_world_size(ctx.group), ctx.reach
        first, last = rank > 0, rank < size - 1
        grad = grads[0]
        own = grad[:, reach if first else 0 : grad.shape[1] - (reach if last else 0)].clone()
        from_below, from_above = _exchange(grad[:, :reach], grad[:, -reach:], ctx.group)
        if from_below is not None:
            own[:, :reach] += from_below
        if from_above is not None:
            own[:, -reach:] += from_above
        return own, None, None


def _exchange(lower: Tensor, upper: Tensor, group: dist.ProcessGroup) -> tuple[Tensor | None, Tensor | None]:
    """Send the lower edge to the neighbour below and the upper one above; returns what they send."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    received, operations = dict[int, Tensor](), list[dist.P2POp]()
    for neighbour, edge in ((rank - 1, lower), (rank + 1, upper)):
        if 0 <= neighbour < size:
            edge = _wire(edge)
            received[neighbour] = torch.empty_like(edge)
            peer = dist.get_global_rank(group, neighbour)
            operations += [
                dist.P2POp(dist.isend, edge, peer, group),
                dist.P2POp(dist.irecv, received[neighbour], peer, group),
            ]
            sent.add(edge)
    for work in dist.batch_isend_irecv(operations) if operations else []:
        work.wait()
    below, above = received.get(rank - 1), received.get(rank + 1)
    return None if below is None else _unwire(below, lower), None if above is None else _unwire(above, upper)


def gather(part: Tensor, axis: int, group: dist.ProcessGroup, *, shared: bool) -> Tensor:
    """Every device's part, joined along an axis in the order of the ranks.

    `shared`: parts are computed from the result, so that the devices' gradients are summed on the way back (an
    all-gather forward, a reduce-scatter back). Otherwise nothing is sent on the way back.
    """
    return cast(Tensor, _Gather.apply(part, axis, group, shared))


def replicate(whole: Tensor, group: dist.ProcessGroup) -> Tensor:
    """A whole from which parts are computed: itself; its gradient is summed over the devices."""
    return cast(Tensor, _Replicate.apply(whole, group)) if whole.requires_grad else whole


def total(own: Tensor, groups: Sequence[dist.ProcessGroup]) -> Tensor:
    """The sum over all devices of a grid, one axis of it after the other; none: what this device has."""
    for group in groups:
        own = cast(Tensor, _Total.apply(own, group))
    return own


def shard(whole: Tensor, axis: int, group: dist.ProcessGroup) -> Tensor:
    """The own part of a whole."""
    return cast(Tensor, _Shard.apply(whole, axis, group))


def halo(part: Tensor, reach: int, group: dist.ProcessGroup) -> tuple[Tensor, int]:
    """The own channels between `reach` channels of each neighbour, and where the own ones begin."""
    return cast(Tensor, _Halo.apply(part, reach, group)), reach if dist.get_rank(group) else 0


def all_reduce(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum over devices, in place; a ring sends 2 (P - 1) / P of the tensor."""
    size = dist.get_world_size(group)
    dist.all_reduce(tensor, group=group)
    sent.add(tensor, 2 * (size - 1) / size)
    return tensor
