"""Reshaping, joining and cutting: the row of each kind, and the modules that ``torch.nn`` lacks.

Each module stands alone: the source writer copies its text. Axes count the batch as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from zoo import layers
from zoo.axes import axis_index
from zoo.frameworks.pytorch.calls import Call
from zoo.layers import Shape
from zoo.shapes import cuts, first_cut, permutation, reshaped


def call(layer: layers.Shaping, inputs: Sequence[Shape]) -> Call:
    """The family's part of `zoo.frameworks.pytorch.table.call`."""
    if isinstance(layer, layers.Constant):
        return Call(make=Parameter, args=(layer.shape,)) if layer.value is None else _constant(layer, layer.value)
    shape = inputs[0]
    match layer:
        case layers.Flatten():
            return Call(make=nn.Flatten, args=(layer.axis, layer.end_axis))
        case layers.Concat():
            return Call(make=Concat, args=(axis_index(layer.name, layer.axis, shape),), listed=True)
        case layers.Slice():
            return Call(make=Slice, args=(axis_index(layer.name, layer.axis, shape), layer.start, layer.stop))
        case layers.Reshape():
            return Call(make=Reshape, args=(reshaped(layer, shape),))
        case layers.Permute():
            return Call(make=Permute, args=(permutation(layer, shape),))
        case layers.Crop():
            axis = axis_index(layer.name, layer.axis, shape)
            starts = tuple(start for start, _ in cuts(layer, inputs)[max(axis - 1, 0) :])
            first = first_cut(layer, shape)
            return Call(make=Crop, args=(axis, starts if first is None else (first, *starts)))
        case layers.Shuffle():
            return Call(make=Shuffle, args=(layer.groups,))
        case layers.Tile():
            axis = axis_index(layer.name, layer.axis, shape)
            return Call(make=Tile, args=(tuple(layer.tiles if i == axis else 1 for i in range(len(shape) + 1)),))
        case _:
            assert_never(layer)


def _constant(layer: layers.Constant, value: float) -> Call:
    return Call(make=Constant, args=(value, layer.shape))


class Concat(nn.Module):
    """The inputs joined along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, inputs: list[Tensor]) -> Tensor:
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
        self.axis, self.offsets = axis, list(offsets)

    def forward(self, x: Tensor, size: Tensor) -> Tensor:
        """An offset for each axis that is cut."""
        for i, start in enumerate(self.offsets):
            x = x.narrow(self.axis + i, start, size.shape[self.axis + i])
        return x


class Shuffle(nn.Module):
    """The channels of equal groups by turns."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """N x C x ... to the same shape."""
        return torch.stack(x.chunk(self.groups, 1), 2).flatten(1, 2)


class Constant(nn.Module):
    """A number everywhere in `shape`; or, beside an activation, in as many items as that."""

    def __init__(self, value: float, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.value, self.shape = value, shape

    def forward(self, beside: Tensor | None = None) -> Tensor:
        """`shape`, or N x `shape`."""
        if beside is None:
            return torch.full(self.shape, self.value)
        return beside.new_full(self.shape, self.value).expand([beside.shape[0]] + [-1] * len(self.shape))


class Parameter(nn.Module):
    """A parameter by itself."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, beside: Tensor | None = None) -> Tensor:
        """`shape`, or N x `shape` beside an activation of N items."""
        if beside is None:
            return self.weight
        return self.weight.expand([beside.shape[0]] + [-1] * self.weight.dim())
